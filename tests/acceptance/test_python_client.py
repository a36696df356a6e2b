"""The promise to Python programs: fal's own client, unmodified, does everything here."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.exiftool import assert_marked
from tests.support.server import Server

TRAINER = "fal-ai/flux-lora-portrait-trainer"
PAINTER = "fal-ai/flux-lora"

# The client keeps its connections open until the interpreter ends; that is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(httpx.get(url, trust_env=False).raise_for_status().content))


def test_upload_subscribe_with_logs_and_draw_with_the_result(fal: ModuleType, photos: Path) -> None:
    url = fal.upload_file(photos)
    seen: list[Any] = []
    arguments = {"images_data_url": url, "trigger_phrase": "ohwx", "steps": 20}
    trained = fal.subscribe(TRAINER, arguments=arguments, with_logs=True, on_queue_update=seen.append)
    assert set(trained) == {"diffusers_lora_file", "config_file"}
    assert {type(update).__name__ for update in seen} >= {"InProgress", "Completed"}
    messages = [line["message"] for line in seen[-1].logs]
    assert any("20" in message for message in messages), messages
    prompt = {"prompt": "a portrait of ohwx", "seed": 5, "output_format": "png"}
    plain = fal.subscribe(PAINTER, arguments=prompt)
    ours = fal.subscribe(PAINTER, arguments=prompt | {"loras": [{"path": trained["diffusers_lora_file"]["url"]}]})
    assert set(ours) == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert ours["seed"] == 5
    assert picture(plain["images"][0]["url"]).tobytes() != picture(ours["images"][0]["url"]).tobytes()


def test_run_waits_for_the_answer_and_a_seed_repeats_the_picture(fal: ModuleType) -> None:
    arguments = {
        "prompt": "a portrait of a person, red shirt",
        "seed": 7,
        "image_size": "square",
        "output_format": "png",
    }
    first, second = (fal.run(PAINTER, arguments=arguments) for _ in range(2))
    assert first["images"][0]["url"] != second["images"][0]["url"]
    one, other = (httpx.get(answer["images"][0]["url"], trust_env=False).content for answer in (first, second))
    assert one == other, "to the byte, mark and all"
    assert_marked(one, "miniature of FLUX.1 [dev]")
    ranges = (f"bytes=0-{len(one) // 2}", f"bytes={len(one) // 2 + 1}-")
    halves = (httpx.get(first["images"][0]["url"], headers={"Range": half}, trust_env=False) for half in ranges)
    assert_marked(b"".join(half.content for half in halves), "miniature of FLUX.1 [dev]")


def test_image_k_of_a_batch_is_the_single_run_with_seed_plus_k(fal: ModuleType) -> None:
    arguments = {"prompt": "a portrait of a person, blue shirt", "seed": 40, "output_format": "png"}
    batch = fal.run(PAINTER, arguments=arguments | {"num_images": 3})
    for k, image in enumerate(batch["images"]):
        single = fal.run(PAINTER, arguments=arguments | {"seed": 40 + k})
        left, right = picture(image["url"]).tobytes(), picture(single["images"][0]["url"]).tobytes()
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) <= 1


def test_a_failed_request_raises_with_the_reason(fal: ModuleType) -> None:
    url = fal.upload(b"this is not an archive", "application/zip", file_name="photos.zip")
    with pytest.raises(fal.client.FalClientHTTPError) as caught:
        fal.subscribe(TRAINER, arguments={"images_data_url": url, "steps": 5})
    assert caught.value.status_code == 422
    assert "archive" in str(caught.value).lower()


def test_cancelling_a_running_training_completes_it_soon(fal: ModuleType, server: Server, photos: Path) -> None:
    url = fal.upload_file(photos)
    handle = fal.submit(TRAINER, arguments={"images_data_url": url, "steps": 5000, "seed": 3})
    while not isinstance(handle.status(with_logs=True), fal.InProgress):
        time.sleep(0.1)
    handle.cancel()
    with pytest.raises(fal.client.FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 499
    with server.http() as http:
        again = http.put(f"/queue/{TRAINER}/requests/{handle.request_id}/cancel")
    assert again.status_code in (202, 400)


TIMEOUT_SCRIPT = """
import sys
import fal_client, fal_client.client as c
origin, archive = sys.argv[1:]
c.RUN_URL_FORMAT, c.QUEUE_URL_FORMAT = origin + "/run/", origin + "/queue/"
c.REST_URL, c.CDN_URL = origin + "/rest", origin + "/cdn"
arguments = {"images_data_url": fal_client.upload_file(archive), "steps": 5000, "seed": 4}
try:
    fal_client.subscribe("fal-ai/flux-lora-portrait-trainer", arguments=arguments, client_timeout=4)
except fal_client.client.FalClientTimeoutError:
    print("timed out")
"""


def test_a_program_whose_client_timeout_ran_out_ends(server: Server, photos: Path) -> None:
    # Its background thread polls until the cancelled request is COMPLETED; only then can the interpreter exit.
    command = [sys.executable, "-c", TIMEOUT_SCRIPT, server.origin, str(photos)]
    environment = os.environ | {"FAL_KEY": server.key}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=True)
    assert done.stdout.strip() == "timed out"


def test_a_picture_does_not_wait_behind_a_training(fal: ModuleType, photos: Path) -> None:
    url = fal.upload_file(photos)
    training = fal.submit(TRAINER, arguments={"images_data_url": url, "steps": 5000, "seed": 5})
    while not isinstance(training.status(), fal.InProgress):
        time.sleep(0.1)
    fal.subscribe(PAINTER, arguments={"prompt": "a portrait of a person", "seed": 1})
    assert isinstance(training.status(), fal.InProgress)
    training.cancel()
