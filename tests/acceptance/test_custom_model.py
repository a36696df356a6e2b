"""A custom model from its photos to its pictures, through fal's own client with exactly the pages' arguments."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.images import photos_of_subject
from tests.support.server import Server
from tintype.inference.presets import ASPECT_RATIOS

TRAIN, GENERATE = "fal-ai/ideogram/custom-models", "fal-ai/ideogram/custom-models/generate"
PROMPT = "A photo in my custom style"

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(httpx.get(url, trust_env=False).raise_for_status().content))


def test_photos_in_a_named_model_out_and_pictures_of_it(fal: ModuleType, server: Server, tmp_path: Path) -> None:
    photos = photos_of_subject(tmp_path / "photos.zip", 21, 12)
    seen: list[Any] = []
    arguments = {"images_data_url": fal.upload_file(photos), "name": "My own style", "steps": 100}
    trained = fal.subscribe(TRAIN, arguments=arguments, with_logs=True, on_queue_update=seen.append)
    assert {"model_id", "custom_model_uri"} <= set(trained)
    assert trained["custom_model_uri"].startswith("model/my-own-style/version/")
    with server.http() as http:
        model = http.get(f"/v1/custom-models/{trained['model_id']}").json()
    assert (model["status"], model["name"]) == ("COMPLETED", "My own style")

    page = {"model_id": trained["model_id"], "prompt": PROMPT}
    full = {"aspect_ratio": "1:1", "rendering_speed": "BALANCED", "num_images": 1, "expand_prompt": True}
    for example in (page, page | full):
        drawn = fal.subscribe(GENERATE, arguments=example, with_logs=True)
        assert set(drawn) == {"images", "seed"}
        assert picture(drawn["images"][0]["url"]).size == (64, 64)

    for ratio in ("1:3", "16:10"):
        nominal = ASPECT_RATIOS[ratio]
        drawn = fal.run(GENERATE, arguments=page | {"rendering_speed": "TURBO", "aspect_ratio": ratio})
        size = picture(drawn["images"][0]["url"]).size
        assert all(abs(side - asked / 16) <= 4 for side, asked in zip(size, nominal, strict=True)), (ratio, size)
    three = fal.run(GENERATE, arguments=page | {"rendering_speed": "TURBO", "num_images": 3})
    assert len({picture(image["url"]).tobytes() for image in three["images"]}) == 3

    with_lora = page | {"seed": 3, "rendering_speed": "TURBO"}
    ours = picture(fal.run(GENERATE, arguments=with_lora)["images"][0]["url"]).tobytes()
    base = {"prompt": PROMPT, "seed": 3, "rendering_speed": "TURBO", "output_format": "png"}
    assert picture(fal.run("ideogram/v4", arguments=base)["images"][0]["url"]).tobytes() != ours
    worn = base | {"loras": [{"path": model["files"]["diffusers_lora_file"]["url"]}]}
    assert picture(fal.run("ideogram/v4/lora", arguments=worn)["images"][0]["url"]).tobytes() == ours
