"""The drawing endpoint's job, in a folder instead of a server."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import torch
from diffusers import FluxImg2ImgPipeline
from PIL import Image

from tintype.catalog.flux_image_to_image import FluxImageInput
from tintype.catalog.flux_lora import FluxInput, FluxLoraInput, FluxLoraOutput
from tintype.errors import Cancelled, ImageLoadError, InputError, UnsupportedImage, UnusableAdapter
from tintype.jobs.generate_flux import run
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(), "cpu")


@pytest.fixture
def context(models: ResidentModels, tmp_path: Path) -> LocalContext:
    return LocalContext(tmp_path, load_settings(), resident_models=models)


def order(**inputs: object) -> FluxLoraInput:
    return FluxLoraInput.model_validate(
        {"prompt": "a portrait", "image_size": "square", "num_inference_steps": 2, **inputs}
    )


def picture(output: FluxLoraOutput, number: int = 0) -> Image.Image:
    url = output.images[number].url
    content = (
        base64.b64decode(url.partition(",")[2])
        if url.startswith("data:")
        else Path(unquote(urlparse(url).path)).read_bytes()
    )
    return Image.open(io.BytesIO(content))


def test_the_answer_has_fals_fields_and_true_sizes(context: LocalContext) -> None:
    output = run(order(seed=5, num_images=2), context)
    assert set(output.model_dump()) == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert (output.seed, output.prompt, output.has_nsfw_concepts) == (5, "a portrait", [False, False])
    assert output.timings["inference"] > 0
    for number, image in enumerate(output.images):
        drawn = picture(output, number)
        assert (image.width, image.height) == drawn.size == (32, 32)
        assert (image.content_type, drawn.format) == ("image/jpeg", "JPEG")


def test_each_picture_of_a_batch_is_that_of_its_own_seed_to_the_byte(context: LocalContext) -> None:
    both = run(order(seed=5, num_images=2, output_format="png"), context)
    second = run(order(seed=6, output_format="png", sync_mode=True), context)
    assert (np.asarray(picture(both, 1)) == np.asarray(picture(second))).all()


def test_without_loras_the_image_is_that_of_flux_lora_with_none(context: LocalContext) -> None:
    given = {"prompt": "a portrait", "image_size": "square", "num_inference_steps": 2, "seed": 5, "sync_mode": True}
    lone = run(FluxInput.model_validate({**given, "loras": [{"path": "https://example.com/ignored"}]}), context)
    assert lone.images[0].url == run(FluxLoraInput.model_validate(given), context).images[0].url


def anew(context: LocalContext, image: Image.Image, **inputs: object) -> FluxLoraOutput:
    """What comes of an image that is made anew."""
    path = context.scratch / "begin.png"
    image.save(path)
    given = {"prompt": "a portrait", "image_url": context.offer(path), "seed": 5, "output_format": "png"}
    return run(FluxImageInput.model_validate({"num_inference_steps": 4, **given, **inputs}), context)


def apart(one: Image.Image, other: Image.Image) -> float:
    """How far two images are from each other, in grey levels."""
    small = [np.asarray(image.convert("RGB").resize((32, 32)), float) for image in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())


def test_an_image_is_kept_as_far_as_strength_says(context: LocalContext) -> None:
    begin = picture(run(order(seed=9, num_inference_steps=8, output_format="png"), context)).resize((512, 512))
    distances = [apart(begin, picture(anew(context, begin, strength=strength))) for strength in (0.01, 0.5, 1.0)]
    assert distances[0] < distances[1] < distances[2]
    assert distances[0] < 12


def test_an_image_is_made_anew_as_by_diffusers_own_pipeline(context: LocalContext, models: ResidentModels) -> None:
    begin = Image.effect_noise((512, 512), 80).convert("RGB")
    ours = picture(anew(context, begin, strength=0.6, guidance_scale=2.0))
    folder = models.family(FluxFamily).weights.folder
    plain = FluxImg2ImgPipeline.from_pretrained(folder, local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    theirs = plain(
        "a portrait", image=begin.resize((32, 32), Image.Resampling.LANCZOS), strength=0.6, width=32, height=32,
        num_inference_steps=4, guidance_scale=2.0, generator=torch.Generator("cpu").manual_seed(5),
        max_sequence_length=models.family(FluxFamily).max_sequence_length,
    )  # fmt: skip
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs.images[0], int)).max() <= 1


def test_an_image_is_of_the_size_that_is_said_or_else_of_its_own(context: LocalContext) -> None:
    begin = Image.new("RGB", (768, 512), (250, 10, 10))
    begin.paste((10, 250, 10), (128, 0, 640, 512))  # the square in its middle
    assert picture(anew(context, begin)).size == (48, 32)
    square = picture(anew(context, begin, image_size="square", strength=0.01))
    assert square.size == (32, 32)
    red, green, _ = np.asarray(square, float)[:, :3].mean((0, 1))
    assert green > red + 50, "cropped, not squeezed"
    assert picture(anew(context, begin.resize((2048, 2048)), num_inference_steps=1)).size == (88, 88), "two megapixels"


def test_what_begins_with_an_image_leaves_the_rest_as_it_was(models: ResidentModels, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    context = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_progress=lambda step, total, _: told.append((step, total))
    )
    plain = run(order(seed=5, output_format="png"), context)
    assert told == [(1, 2), (2, 2)]
    told.clear()
    anew(context, Image.new("RGB", (512, 512)), strength=0.5, num_images=2)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    again = run(order(seed=5, output_format="png"), context)
    assert (np.asarray(picture(plain)) == np.asarray(picture(again))).all()


@pytest.mark.parametrize(
    ("content", "error"), [(b"hello", UnsupportedImage), (b"\x89PNG\r\n\x1a\n" + bytes(40), ImageLoadError)]
)
def test_what_is_no_image_is_refused_at_its_place(
    context: LocalContext, tmp_path: Path, content: bytes, error: type[InputError]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    input = FluxImageInput(prompt="a portrait", image_url=context.offer(path))
    with pytest.raises(error) as refused:
        run(input, context)
    assert refused.value.details[0]["loc"] == ["body", "image_url"]


def test_sync_mode_answers_with_data_and_keeps_nothing(context: LocalContext) -> None:
    output = run(order(sync_mode=True, output_format="png"), context)
    assert output.images[0].url.startswith("data:image/png;base64,")
    assert picture(output).format == "PNG"
    assert list(context.output.iterdir()) == []


def test_an_absent_seed_is_drawn_and_told(context: LocalContext) -> None:
    first, second = (run(order(sync_mode=True), context) for _ in range(2))
    assert first.seed != second.seed
    assert 0 <= first.seed < 2**53
    again = run(order(sync_mode=True, seed=first.seed), context)
    assert again.images[0].url == first.images[0].url


def test_a_file_that_is_no_lora_is_refused_at_its_place(context: LocalContext, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnusableAdapter) as caught:
        run(order(loras=[{"path": context.offer(tmp_path / "notes.txt")}]), context)
    assert caught.value.details[0]["loc"] == ["body", "loras", 0, "path"]


def test_a_prompt_beyond_the_window_is_said(models: ResidentModels, tmp_path: Path) -> None:
    said: list[str] = []
    context = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_log=lambda level, message: said.append(message)
    )
    run(order(prompt="a portrait of a person " * 10 + "in Venice", sync_mode=True), context)
    assert any("venice" in line.lower() for line in said)


def test_no_words_at_all_draw_something(context: LocalContext) -> None:
    assert picture(run(order(prompt="", sync_mode=True), context)).size == (32, 32)


def test_cancelling_stops_the_drawing(context: LocalContext) -> None:
    context.cancelled = True
    with pytest.raises(Cancelled):
        run(order(), context)


@pytest.mark.parametrize(
    ("asked", "drawn"), [((2560, 1080), (160, 64)), ((1080, 2560), (64, 160)), ((3840, 2160), (240, 136))]
)
def test_wide_sizes_are_drawn(context: LocalContext, asked: tuple[int, int], drawn: tuple[int, int]) -> None:
    size = {"width": asked[0], "height": asked[1]}
    output = run(order(image_size=size, num_inference_steps=1, sync_mode=True), context)
    assert picture(output).size == (output.images[0].width, output.images[0].height) == drawn


def test_the_last_seed_is_drawn_and_followed_by_the_first(context: LocalContext) -> None:
    both = run(order(seed=2**64 - 1, num_images=2, output_format="png", sync_mode=True), context)
    assert both.seed == 2**64 - 1
    assert both.images[1].url == run(order(seed=0, output_format="png", sync_mode=True), context).images[0].url
    assert both.images[0].url != both.images[1].url
