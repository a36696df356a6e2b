"""Ideogram's drawing endpoints through fal's own client: what the pages show, every field, and everything wrong."""

from __future__ import annotations

import base64
import io
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import torch
from PIL import Image

from tests.support.pages import PAGES, folder, node, paste_as_printed
from tests.support.server import Server, finish, upload
from tests.support.tiny_ideogram import random_layers, save_lora
from tintype.catalog.custom_models import ModelStatus
from tintype.catalog.ideogram_custom_models import AspectRatio
from tintype.files.urls import internal_url, own_file
from tintype.inference.presets import ASPECT_RATIOS
from tintype.jobs.resident_models import ResidentModels
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings
from tintype.store import schema

GENERATE = "fal-ai/ideogram/custom-models/generate"
PROMPT = "A photo in my custom style"
NewModel = Callable[[ModelStatus], str]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def lora(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a LoRA with random weights, in fal's form."""
    family = ResidentModels(load_settings(ideogram4_base="miniature"), "cpu").family(Ideogram4Family)
    torch.manual_seed(4)
    path: Path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    save_lora(path, random_layers(family, rank=4, size=0.02), "fal")
    return server.upload(path.read_bytes(), path.name, "application/octet-stream")


@pytest.fixture(scope="module")
def new_model(server: Server, lora: str) -> Iterator[NewModel]:
    """Makes the record of a custom model in a status, as its training would have left it."""
    engine = sa.create_engine(f"sqlite:///{server.data_dir / 'tintype.db'}")
    own = own_file(lora, lambda host: True)
    assert own is not None
    file = {"url": internal_url(*own), "content_type": "application/octet-stream", "file_name": own[1]}

    def make(status: ModelStatus) -> str:
        now, name = time.time(), uuid.uuid4().hex
        request = {
            "id": str(uuid.uuid4()), "endpoint_id": "fal-ai/ideogram/custom-models", "kind": "training",
            "status": "COMPLETED", "outcome": "ok", "priority": 0, "input": {}, "output": {}, "key_id": "",
            "origin": server.origin, "affinity": "", "sync": False, "store_io": True, "tags": {}, "created_at": now,
            "ended_at": now, "model_id": name,
        }  # fmt: skip
        model = {
            "id": name, "request_id": request["id"], "key_id": "", "name": "My style", "slug": name, "version": 1,
            "status": status, "reason": "The loss was not finite." if status is ModelStatus.ERRORED else "",
            "files": {"diffusers_lora_file": file} if status is ModelStatus.COMPLETED else {}, "created_at": now,
        }  # fmt: skip
        with engine.begin() as connection:
            connection.execute(sa.insert(schema.requests).values(request))
            connection.execute(sa.insert(schema.models).values(model))
        return name

    yield make
    engine.dispose()


@pytest.fixture(scope="module")
def model_id(new_model: NewModel) -> str:
    return new_model(ModelStatus.COMPLETED)


def picture(url: str) -> Image.Image:
    if url.startswith("data:"):
        return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return Image.open(io.BytesIO(httpx.get(url, trust_env=False).raise_for_status().content))


@pytest.mark.parametrize("more", [{}, {
    "aspect_ratio": "1:1", "rendering_speed": "BALANCED", "num_images": 1, "expand_prompt": True,
}], ids=["required", "full"])  # fmt: skip
def test_the_pages_examples_return_exactly_the_pages_fields(
    fal: ModuleType, model_id: str, more: dict[str, Any]
) -> None:
    seen: list[Any] = []
    arguments = {"model_id": model_id, "prompt": PROMPT, **more}
    result = fal.subscribe(GENERATE, arguments=arguments, with_logs=True, on_queue_update=seen.append)
    assert set(result) == {"images", "seed"}
    assert set(result["images"][0]) == {"url", "content_type", "file_name", "file_size"}
    drawn = picture(result["images"][0]["url"])
    assert (drawn.format, drawn.size) == ("PNG", (64, 64))
    said = [line["message"] for line in seen[-1].logs]
    assert any(line.startswith('Prompt expanded by rule: {"high_level_description":"A photo in my') for line in said)


@pytest.mark.parametrize("language", ["sh", "py", "mjs"])
def test_the_programs_of_its_page_draw_as_they_are_printed(
    server: Server, model_id: str, photos: Path, tmp_path: Path, language: str
) -> None:
    command = {"sh": ["bash", "-eu"], "py": [sys.executable, "-"], "mjs": node() if language == "mjs" else []}[language]
    program = (PAGES / "ideogram-custom-models-generate" / f"generate.{language}").read_text()
    program, filled = re.subn(r'("?model_id"?): ""', rf'\1: "{model_id}"', program)
    printed = paste_as_printed(program, command, folder(server, photos, tmp_path), server)
    assert filled == 1
    urls = re.findall(r"http://[^'\"\s]+", printed)
    assert [picture(url).size for url in urls] == [(64, 64)], printed
    assert "seed" in printed


def test_a_ratio_is_drawn_in_its_shape(fal: ModuleType, model_id: str) -> None:
    ratios: tuple[AspectRatio, ...] = ("1:3", "3:1", "9:16", "16:10", "5:4")
    for ratio in ratios:
        arguments = {"model_id": model_id, "prompt": PROMPT, "aspect_ratio": ratio, "rendering_speed": "TURBO"}
        drawn = picture(fal.run(GENERATE, arguments=arguments | {"sync_mode": True})["images"][0]["url"])
        for side, nominal in zip(drawn.size, ASPECT_RATIOS[ratio], strict=True):
            assert side % 8 == 0
            assert abs(side - nominal / 16) <= 4, f"{ratio} was drawn as {drawn.size}"


def test_every_speed_draws_and_eight_images_are_those_of_their_seeds(fal: ModuleType, model_id: str) -> None:
    arguments = {"model_id": model_id, "prompt": "a portrait of a person", "seed": 40, "sync_mode": True}
    speeds = [fal.run(GENERATE, arguments=arguments | {"rendering_speed": speed}) for speed in ("BALANCED", "QUALITY")]
    turbo = arguments | {"rendering_speed": "TURBO"}
    several = fal.run(GENERATE, arguments=turbo | {"num_images": 8})
    assert several["seed"] == 40
    assert len({image["url"] for image in (*several["images"], *(speed["images"][0] for speed in speeds))}) == 10
    single = fal.run(GENERATE, arguments=turbo | {"seed": 43})
    assert single["images"][0]["url"] == several["images"][3]["url"]


def test_words_and_negatives_change_the_picture(fal: ModuleType, model_id: str) -> None:
    arguments = {"model_id": model_id, "prompt": "a portrait", "rendering_speed": "TURBO", "seed": 1, "sync_mode": True}
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"expand_prompt": False},
        {"negative_prompt": "hat"},
        {"negative_branch": "conditional-image-only"},
    )
    drawn = [fal.run(GENERATE, arguments=arguments | change)["images"][0]["url"] for change in changes]
    assert len(set(drawn)) == 4
    assert fal.run(GENERATE, arguments=arguments)["images"][0]["url"] == drawn[0]


def test_the_base_and_loras_are_drawn_with_their_own_endpoints(fal: ModuleType, model_id: str, lora: str) -> None:
    arguments = {"prompt": "a portrait", "rendering_speed": "TURBO", "seed": 1, "output_format": "png"}
    plain = fal.run("ideogram/v4", arguments=arguments)
    assert set(plain) == {"images", "timings", "seed", "has_nsfw_concepts", "prompt"}
    assert plain["prompt"].startswith('{"high_level_description":"a portrait"')
    assert (plain["images"][0]["width"], plain["images"][0]["height"]) == (64, 64)
    with_lora = fal.run("ideogram/v4/lora", arguments=arguments | {"loras": [{"path": lora}]})
    model = fal.run(GENERATE, arguments={**arguments, "model_id": model_id})
    drawn = [picture(answer["images"][0]["url"]).tobytes() for answer in (plain, with_lora, model)]
    assert drawn[0] != drawn[1] == drawn[2]
    unscaled = fal.run("ideogram/v4/lora", arguments=arguments | {"loras": [{"path": lora, "scale": 0}]})
    assert picture(unscaled["images"][0]["url"]).tobytes() == drawn[0]


@pytest.mark.parametrize("status", [status for status in ModelStatus if status is not ModelStatus.COMPLETED])
def test_a_model_that_is_not_completed_is_refused_with_its_status(
    fal: ModuleType, new_model: NewModel, status: ModelStatus
) -> None:
    with pytest.raises(fal.client.FalClientHTTPError) as caught:
        fal.subscribe(GENERATE, arguments={"model_id": new_model(status), "prompt": PROMPT})
    assert caught.value.status_code == 422
    (entry,) = caught.value.response.json()["detail"]
    assert entry["loc"] == ["body", "model_id"]
    assert status in entry["msg"]
    assert "COMPLETED" in entry["msg"]


WRONG: tuple[tuple[str, str, Any, str], ...] = (
    (GENERATE, "model_id", "", "value_error"),
    (GENERATE, "model_id", "nobody", "value_error"),
    (GENERATE, "model_id", "../../etc/passwd", "value_error"),
    (GENERATE, "model_id", "x" * 201, "sequence_too_long"),
    (GENERATE, "model_id", 5, "string_type"),
    (GENERATE, "model_id", None, "string_type"),
    (GENERATE, "prompt", None, "string_type"),
    (GENERATE, "prompt", ["a"], "string_type"),
    (GENERATE, "prompt", "x" * 10_001, "sequence_too_long"),
    (GENERATE, "aspect_ratio", "7:5", "one_of"),
    (GENERATE, "aspect_ratio", 1, "one_of"),
    (GENERATE, "rendering_speed", "FLASH", "one_of"),
    (GENERATE, "num_images", 0, "greater_than_equal"),
    (GENERATE, "num_images", 9, "less_than_equal"),
    (GENERATE, "num_images", 1.5, "int_from_float"),
    (GENERATE, "num_images", "many", "int_parsing"),
    (GENERATE, "negative_prompt", 3, "string_type"),
    (GENERATE, "negative_prompt", "x" * 10_001, "sequence_too_long"),
    (GENERATE, "expand_prompt", "perhaps", "bool_parsing"),
    (GENERATE, "seed", -2, "greater_than_equal"),
    (GENERATE, "seed", 2**64, "less_than"),
    (GENERATE, "seed", "lucky", "int_parsing"),
    (GENERATE, "sync_mode", [], "bool_type"),
    (GENERATE, "negative_branch", "neither", "one_of"),
    ("ideogram/v4", "expansion_model", "Huge", "one_of"),
    ("ideogram/v4", "image_size", "banner", "one_of"),
    ("ideogram/v4", "image_size", {"width": 100, "height": 1024}, "greater_than_equal"),
    ("ideogram/v4", "image_size", {"width": 1024, "height": 4000}, "less_than_equal"),
    ("ideogram/v4", "acceleration", "warp", "one_of"),
    ("ideogram/v4", "num_images", 5, "less_than_equal"),
    ("ideogram/v4", "output_format", "gif", "one_of"),
    ("ideogram/v4/lora", "loras", [{"path": ""}], "value_error"),
    ("ideogram/v4/lora", "loras", [{}], "missing"),
    ("ideogram/v4/lora", "loras", [{"path": "https://example.com/a", "scale": 5}], "less_than_equal"),
    ("ideogram/v4/lora", "loras", [{"path": "https://example.com/a"}] * 4, "sequence_too_long"),
    ("ideogram/v4/lora", "loras", [{"path": "http://127.0.0.1/a"}], "file_download_error"),
)


def test_every_wrong_field_is_named_and_the_next_request_is_served(server: Server, model_id: str) -> None:
    with server.http() as http:
        for endpoint, field, value, kind in WRONG:
            body = {"model_id": model_id, "prompt": PROMPT, field: value}
            answer = http.post(f"/queue/{endpoint}", json=body)
            assert answer.status_code == 422, (field, value, answer.text)
            entry = answer.json()["detail"][0]
            assert entry["loc"][:2] == ["body", field], (value, entry)
            assert entry["type"] == kind, (field, value, entry)
            assert answer.json()["message"]
        for missing in ("model_id", "prompt"):
            body = {"model_id": model_id, "prompt": PROMPT}
            del body[missing]
            assert http.post(f"/queue/{GENERATE}", json=body).json()["detail"][0]["loc"] == ["body", missing]
        body = {"model_id": model_id, "prompt": PROMPT, "rendering_speed": "TURBO"}
        assert http.post(f"/run/{GENERATE}", json=body).status_code == 200


def test_a_file_that_is_no_lora_is_a_422_at_its_place(server: Server, lora: str) -> None:
    body = {"prompt": "x", "rendering_speed": "TURBO"}
    with server.http() as http:
        for content in (b"", b"PK\x03\x04", (8).to_bytes(8, "little") + b'{"a": 1}'):
            loras = [{"path": lora}, {"path": upload(http, content, "a.safetensors")}]
            refused = http.post("/run/ideogram/v4/lora", json=body | {"loras": loras})
            assert refused.status_code == 422, refused.text
            assert refused.json()["detail"][0]["loc"] == ["body", "loras", 1, "path"]
        assert http.post("/run/ideogram/v4/lora", json=body | {"loras": loras[:1]}).status_code == 200


def test_flux_refuses_a_lora_of_ideogram(server: Server, lora: str) -> None:
    with server.http() as http:
        refused = http.post("/run/fal-ai/flux-lora", json={"prompt": "x", "loras": [{"path": lora}]})
    assert refused.status_code == 422, refused.text


def test_a_model_archived_while_its_request_waits_is_refused(server: Server, new_model: NewModel) -> None:
    model_id = new_model(ModelStatus.COMPLETED)
    slow = {"prompt": "x", "num_inference_steps": 50, "num_images": 4, "image_size": {"width": 2048, "height": 2048}}
    with server.http() as http:
        http.post("/queue/fal-ai/flux-lora", json=slow).raise_for_status()
        waits = http.post(f"/queue/{GENERATE}", json={"model_id": model_id, "prompt": PROMPT}).raise_for_status().json()
        assert http.post(f"/v1/custom-models/{model_id}/archive").status_code == 200
        finish(http, waits["status_url"])
        answer = http.get(waits["response_url"])
    assert answer.status_code == 422, answer.text
    assert "ARCHIVED" in answer.json()["detail"][0]["msg"]
