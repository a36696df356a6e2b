"""Pictures go into an answer as files or as data, and come out the same."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tintype.catalog.flux_lora import LoraWeight
from tintype.jobs.images import LARGEST_SEED, as_image, encoded, lora_requests, published, seed_for
from tintype.jobs.local import LocalContext
from tintype.settings import load_settings


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 16, 3), dtype=np.uint8))


def test_png_keeps_every_bit_and_jpeg_its_colours(picture: Image.Image) -> None:
    assert Image.open(io.BytesIO(encoded(picture, "png"))).tobytes() == picture.tobytes()
    red = Image.new("RGB", (8, 8), "blue")
    red.putpixel((4, 4), (255, 0, 0))
    shown = Image.open(io.BytesIO(encoded(red, "jpeg"))).getpixel((4, 4))
    assert isinstance(shown, tuple)
    assert shown[0] > 200
    assert shown[2] < 60


@pytest.mark.parametrize("inline", [True, False])
def test_a_file_says_what_it_is(picture: Image.Image, tmp_path: Path, inline: bool) -> None:
    context = LocalContext(tmp_path, load_settings())
    image = as_image(published(picture, 3, "png", context, inline=inline), picture)
    assert (image.content_type, image.width, image.height) == ("image/png", 16, 8)
    written = encoded(picture, "png")
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


def test_seeds_by_chance_leave_room_for_every_picture() -> None:
    assert seed_for(5, 8) == 5
    assert all(0 <= seed_for(None, 8) <= LARGEST_SEED - 8 for _ in range(100))
