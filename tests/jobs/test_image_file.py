"""Every image says that a model made it; how it was made, only where that was asked for."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.exiftool import assert_marked, metadata
from tests.support.loras import flux_lora

from tintype.catalog.flux_lora import FluxLoraInput
from tintype.jobs.generate_flux import run
from tintype.jobs.image_file import Form, encoded
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.tensor_file import digest_of
from tintype.models.flux.model import FluxFamily
from tintype.models.registry import family_spec
from tintype.models.weights import BaseWeights, resolve
from tintype.settings import Settings, load_settings

MODEL = "miniature of FLUX.1 [dev]"


@pytest.fixture(scope="module")
def weights() -> BaseWeights:
    return resolve(load_settings())


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(), "cpu")


@pytest.fixture(scope="module")
def lora_file(models: ResidentModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux_lora(models.family(FluxFamily), tmp_path_factory.mktemp("lora") / "my-wife.safetensors")


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_exiftool_reads_the_mark_and_the_same_image_is_the_same_bytes(
    picture: Image.Image, weights: BaseWeights, form: Form
) -> None:
    written = encoded(picture, form, weights)
    assert_marked(written, MODEL)
    assert encoded(picture, form, weights) == written
    plain = io.BytesIO()
    picture.save(plain, form.upper())
    assert len(written) - len(plain.getvalue()) < 1500, "a mark is some hundred bytes"


def test_png_keeps_every_bit_and_jpeg_its_colours(picture: Image.Image, weights: BaseWeights) -> None:
    assert Image.open(io.BytesIO(encoded(picture, "png", weights))).tobytes() == picture.tobytes()
    red = Image.new("RGB", (8, 8), "blue")
    red.putpixel((4, 4), (255, 0, 0))
    shown = Image.open(io.BytesIO(encoded(red, "jpeg", weights))).getpixel((4, 4))
    assert isinstance(shown, tuple)
    assert shown[0] > 200
    assert shown[2] < 60


def test_a_published_model_is_named_and_no_folder_or_repository_is(picture: Image.Image) -> None:
    named = BaseWeights("flux", Path("/nowhere/my-wife"), "somebody/my-wife", "asked for")
    assert_marked(encoded(picture, "jpeg", named), family_spec("flux").title)


def drawn(
    settings: Settings, models: ResidentModels, folder: Path, lora: Path | None = None, **inputs: object
) -> bytes:
    given = {"prompt": "a portrait \u00fc\0<b>", "image_size": "square", "num_inference_steps": 1, "sync_mode": True}
    context = LocalContext(folder, settings, resident_models=models)
    if lora is not None:
        inputs["loras"] = [{"path": context.offer(lora), "scale": 0.5}]
    output = run(FluxLoraInput.model_validate({**given, "output_format": "png", **inputs}), context)
    return base64.b64decode(output.images[-1].url.partition(",")[2])


def test_a_recipe_is_written_where_it_is_asked_for_and_repeats_the_image(
    models: ResidentModels, lora_file: Path, tmp_path: Path
) -> None:
    asked = load_settings(recipe="png")
    first = drawn(asked, models, tmp_path, lora_file, seed=7, num_images=2)
    found = Image.open(io.BytesIO(first))
    made = json.loads(found.text["tintype"])  # type: ignore[attr-defined]
    assert made["seed"] == 8, "its own, not that of the request"
    assert made["loras"] == [{"sha256": digest_of(lora_file)[:24], "scale": 0.5}]
    assert (made["model"], made["prompt"]) == (MODEL, "a portrait \u00fc\0<b>")
    assert lora_file.name not in first.decode("latin-1"), "no URL"
    read = metadata(first)["PNG:Parameters"]
    assert read.startswith("a portrait \u00fc <b>\nSteps: 1, CFG scale: 3.5, Seed: 8, Size: 32x32, Model: ")
    again = drawn(asked, models, tmp_path, lora_file, **made["input"], seed=made["seed"])
    assert again == first, "to the byte"
    assert_marked(first, MODEL)


def test_without_being_asked_no_image_tells_its_prompt(models: ResidentModels, tmp_path: Path) -> None:
    plain = drawn(load_settings(), models, tmp_path, seed=7)
    assert b"portrait" not in plain
    assert set(metadata(plain)) & {"PNG:Parameters", "PNG:Tintype"} == set()
    jpeg = drawn(load_settings(recipe="png"), models, tmp_path, seed=7, output_format="jpeg")
    assert b"portrait" not in jpeg
    assert_marked(jpeg, MODEL)
