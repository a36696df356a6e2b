"""Pictures go into an answer as files or as data, and come out the same."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tintype.catalog.flux_lora import FluxInput, LoraWeight
from tintype.inference.flux import FluxInference
from tintype.jobs.image_file import encoded
from tintype.jobs.images import (
    MOST_BYTES_OF_ALL_LORAS,
    MOST_LORA_BYTES,
    Generated,
    as_image,
    lora_requests,
    published,
    seeds_for,
)
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 16, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def flux() -> FluxInference:
    return ResidentModels(load_settings(), "cpu").inference(FluxInference)


@pytest.mark.parametrize("inline", [True, False])
def test_a_file_says_what_it_is(picture: Image.Image, flux: FluxInference, tmp_path: Path, inline: bool) -> None:
    context = LocalContext(tmp_path, load_settings())
    generated = Generated([picture], [3], "a hat", 0.5, flux)
    [file] = published(generated, FluxInput(prompt="a hat", sync_mode=inline), "png", context)
    image = as_image(file, picture)
    assert (image.content_type, image.width, image.height) == ("image/png", 16, 8)
    written = encoded(picture, "png", flux.family.weights)
    assert image.file_size == len(written)
    if inline:
        assert base64.b64decode(image.url.partition(",")[2]) == written
        assert list(context.output.iterdir()) == []
    else:
        assert (context.output / str(image.file_name)).read_bytes() == written


def test_only_files_of_this_server_are_known_by_their_url(tmp_path: Path) -> None:
    context = LocalContext(tmp_path, load_settings())
    own = f"tintype:files/{'A' * 32}/lora.safetensors"
    urls = {own: own, "https://h/lora.safetensors": "", context.offer(tmp_path / "lora.safetensors"): ""}
    loras = [LoraWeight(path=url) for url in urls]
    assert [one.origin for one in lora_requests(loras, context)] == list(urls.values())
    assert [one.about for one in lora_requests(loras, context)] == [("loras", n, "path") for n in range(3)]


@pytest.mark.parametrize(("count", "each"), [(1, MOST_LORA_BYTES), (3, MOST_LORA_BYTES), (12, MOST_LORA_BYTES // 4)])
def test_any_number_of_loras_is_bounded_by_their_bytes(tmp_path: Path, count: int, each: int) -> None:
    context = LocalContext(tmp_path, load_settings())
    loras = [LoraWeight(path=f"https://h/{number}") for number in range(count)]
    allowed = [request.path.keywords["max_bytes"] for request in lora_requests(loras, context)]
    assert allowed == [each] * count
    assert sum(allowed) <= MOST_BYTES_OF_ALL_LORAS


def test_each_picture_has_the_seed_after_the_one_before_it() -> None:
    assert seeds_for(5, 3) == [5, 6, 7]
    assert seeds_for(2**64 - 2, 4) == [2**64 - 2, 2**64 - 1, 0, 1]
    assert all(0 <= seed < 2**53 for _ in range(100) for seed in seeds_for(None, 8))
