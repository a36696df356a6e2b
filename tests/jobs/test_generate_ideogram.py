"""Ideogram's drawing jobs, in a folder instead of a server, on a base with random weights and the miniature's size."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import torch
from PIL import Image
from tests.support.tiny_ideogram import random_layers, save_lora, save_tiny_ideogram

from tintype.catalog.custom_models import ModelReference, ModelStatus
from tintype.catalog.ideogram_custom_models import CUSTOM_MODEL_GENERATE, CustomModelGenerateInput
from tintype.catalog.ideogram_v4 import IDEOGRAM, IDEOGRAM_LORA, IdeogramInput
from tintype.errors import Cancelled, InputError, UnusableAdapter
from tintype.inference.presets import ASPECT_RATIOS
from tintype.jobs.generate_ideogram import run, run_custom_model
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.models.ideogram4.captions import wrap
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings

TRAITS = {"nominal_scale": 16, "token_pixels": 16, "guidance_strength": 0.5}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ResidentModels:
    folder = save_tiny_ideogram(tmp_path_factory.mktemp("ideogram"))
    (folder / "miniature.json").write_text(json.dumps(TRAITS))
    return ResidentModels(load_settings(ideogram4_base=str(folder)), "cpu")


class Local(LocalContext):
    """Keeps what it was told."""

    def __init__(self, folder: Path, models: ResidentModels) -> None:
        self.told: list[tuple[str, str]] = []
        super().__init__(
            folder, load_settings(), resident_models=models, on_log=lambda level, line: self.told.append((level, line))
        )


@pytest.fixture
def context(models: ResidentModels, tmp_path: Path) -> Local:
    return Local(tmp_path / "work", models)


@pytest.fixture
def lora(models: ResidentModels, tmp_path: Path) -> Path:
    torch.manual_seed(2)
    return save_lora(tmp_path / "lora.safetensors", random_layers(models.family(Ideogram4Family)), "fal")


@pytest.fixture
def model(context: Local, lora: Path) -> ModelReference:
    made = ModelReference("m", "My model", "model/my/version/1", ModelStatus.COMPLETED, lora=context.offer(lora))
    context.model = made
    return made


def order(**inputs: object) -> IdeogramInput:
    endpoint = IDEOGRAM_LORA if "loras" in inputs else IDEOGRAM
    parsed = endpoint.parse({"prompt": "a hat", "rendering_speed": "TURBO", "output_format": "png", **inputs})
    assert isinstance(parsed, IdeogramInput)
    return parsed


def custom(**inputs: object) -> CustomModelGenerateInput:
    body = {"model_id": "m", "prompt": "A photo in my custom style", "rendering_speed": "TURBO", **inputs}
    parsed = CUSTOM_MODEL_GENERATE.parse(body)
    assert isinstance(parsed, CustomModelGenerateInput)
    return parsed


def content(url: str) -> bytes:
    if url.startswith("data:"):
        return base64.b64decode(url.partition(",")[2])
    return Path(unquote(urlparse(url).path)).read_bytes()


def test_the_answer_has_fals_fields_the_expanded_prompt_and_true_sizes(context: Local) -> None:
    output = run(order(seed=5, num_images=2, image_size="landscape_16_9"), context)
    assert set(output.model_dump()) == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert (output.seed, output.prompt, output.has_nsfw_concepts) == (5, wrap("a hat").line(), [False, False])
    for image in output.images:
        drawn = Image.open(io.BytesIO(content(image.url)))
        assert (image.width, image.height) == drawn.size == (64, 32)
    assert ("INFO", f"Prompt expanded by rule: {output.prompt}") in context.told
    assert run(order(expansion_model="None", sync_mode=True), context).prompt == "a hat"


def test_image_k_is_that_of_seed_plus_k_and_sync_mode_keeps_nothing(context: Local, model: ModelReference) -> None:
    several = run_custom_model(custom(seed=7, num_images=8, sync_mode=True), context)
    single = run_custom_model(custom(seed=10, sync_mode=True), context)
    assert set(several.model_dump()) == {"images", "seed"}
    assert len({image.url for image in several.images}) == 8
    assert several.images[3].url == single.images[0].url
    assert several.images[0].content_type == "image/png"
    assert list(context.output.iterdir()) == []
    assert 0 <= run_custom_model(custom(), context).seed < 2**53


@pytest.mark.parametrize("ratio", ["1:1", "1:3", "16:10"])
def test_a_ratio_is_drawn_in_its_shape(context: Local, model: ModelReference, ratio: str) -> None:
    output = run_custom_model(custom(aspect_ratio=ratio, sync_mode=True), context)
    drawn = Image.open(io.BytesIO(content(output.images[0].url)))
    for side, nominal in zip(drawn.size, ASPECT_RATIOS[ratio], strict=True):  # type: ignore[index]
        assert abs(side - nominal / 16) <= 8, "half a token"


def test_the_custom_models_lora_acts_and_a_request_without_one_is_the_base_again(
    context: Local, model: ModelReference
) -> None:
    plain = run(order(seed=1, sync_mode=True), context).images[0].url
    with_model = run_custom_model(custom(prompt="a hat", seed=1, sync_mode=True), context).images[0].url
    assert with_model != plain
    by_path = run(order(seed=1, sync_mode=True, loras=[{"path": model.lora}]), context).images[0].url
    assert by_path == with_model
    assert run(order(seed=1, sync_mode=True), context).images[0].url == plain


def test_branch_and_negative_prompt_reach_the_picture_and_the_log(context: Local, model: ModelReference) -> None:
    drawn = {
        run_custom_model(custom(seed=1, sync_mode=True, **given), context).images[0].url
        for given in (
            {"negative_branch": "unconditional"}, {"negative_branch": "conditional-image-only"},
            {"negative_branch": "conditional-empty-prompt"}, {"negative_prompt": "rain"},
        )
    }  # fmt: skip
    assert len(drawn) == 4
    said = [line for _, line in context.told if line.startswith("Guidance leads away")]
    assert ["image-only" in said[1], "empty-prompt" in said[2], "rain" in said[3]] == [True] * 3
    run_custom_model(custom(prompt="rain", negative_prompt="Rain"), context)
    assert any("the prompt asks for it: Rain" in line for _, line in context.told)


@pytest.mark.parametrize("status", [status for status in ModelStatus if status is not ModelStatus.COMPLETED])
def test_a_model_that_is_not_ready_any_more_is_refused_with_its_status(context: Local, status: ModelStatus) -> None:
    context.model = ModelReference("m", "My model", "model/my/version/1", status)
    with pytest.raises(InputError) as caught:
        run_custom_model(custom(), context)
    (entry,) = caught.value.details
    assert entry["loc"] == ["body", "model_id"]
    assert status in entry["msg"]


def test_a_model_that_is_not_there_is_refused(context: Local) -> None:
    with pytest.raises(InputError, match="no custom model"):
        run_custom_model(custom(), context)


def test_a_file_that_is_no_lora_is_refused_at_its_place_and_the_next_is_drawn(context: Local, lora: Path) -> None:
    (lora.parent / "notes.txt").write_text("hello")
    bad = [{"path": context.offer(lora)}, {"path": context.offer(lora.parent / "notes.txt")}]
    with pytest.raises(UnusableAdapter) as caught:
        run(order(loras=bad), context)
    assert caught.value.details[0]["loc"] == ["body", "loras", 1, "path"]
    assert run(order(loras=bad[:1]), context).images


@pytest.mark.parametrize(
    "prompt", ["", " ", "\0", "{", "[" * 5000, '{"a":' * 2000, '"', "x" * 10_000, "\u202e\U0001f600", "a\nb", "null",
               '{"compositional_deconstruction": {"elements": [{"type": "text", "desc": ""}]}}'],
)  # fmt: skip
def test_no_prompt_is_a_fault_of_ours(context: Local, prompt: str) -> None:
    for expansion in ("Large", "None"):
        assert run(order(prompt=prompt, expansion_model=expansion, sync_mode=True), context).images


def test_cancelling_stops_the_drawing(context: Local) -> None:
    context.cancelled = True
    with pytest.raises(Cancelled):
        run(order(), context)
