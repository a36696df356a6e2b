"""Ideogram's trainers over real sockets: what comes back, what kills and failures leave, and all that is refused."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import httpx
import psutil
import pytest

from tests.support.images import archive_of, blots
from tests.support.processes import command
from tests.support.server import PORTRAIT_TRAINER, Server, finish, upload

TRAINER, CUSTOM = "ideogram/v4/trainer", "fal-ai/ideogram/custom-models"
FOREVER = 40_000  # steps: hours of training

# Connections that fal's client leaves behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def pictures(
    count: int, sides: tuple[int, int] = (512, 512), *, texts: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """A ZIP of pictures that resemble each other in nothing, and of other files."""
    return archive_of({f"{number}.png": blots(number, sides) for number in range(count)} | dict(texts))


def submitted(http: httpx.Client, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = http.post(f"/queue/{endpoint}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(http: httpx.Client, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """The one detail of a 422, whether the sender or the job found it."""
    answer = http.post(f"/queue/{endpoint}", json=body)
    if answer.status_code == 200:
        finish(http, answer.json()["status_url"])
        answer = http.get(answer.json()["response_url"])
    assert answer.status_code == 422, answer.text
    (entry,) = answer.json()["detail"]
    return dict(entry)


def model_of(http: httpx.Client, request_id: str) -> dict[str, Any]:
    """The custom model that a request makes."""
    models = http.get("/v1/custom-models").raise_for_status().json()
    return next(model for model in models["models"] if model["request_id"] == request_id)


def until(http: httpx.Client, status_url: str, wanted: str, *, after: int = -1) -> int:
    """Waits for a log line that begins so, beyond the `after` first lines; returns how many lines there were."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [line["message"] for line in http.get(status_url, params={"logs": "1"}).json()["logs"]]
        if any(line.startswith(wanted) for line in lines[max(0, after) :]):
            return len(lines)
        time.sleep(0.1)
    raise AssertionError(f"no line {wanted!r}: {lines}")


def until_checkpoint(http: httpx.Client, status_url: str) -> None:
    """Waits until there is something to go on from."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if any(attempt["checkpoint_step"] for attempt in http.get(status_url).json()["attempts"]):
            return
        time.sleep(0.1)
    raise AssertionError("no checkpoint")


def test_the_trainers_page_returns_exactly_its_fields(fal: ModuleType, photos: Path) -> None:
    arguments = {
        "images_data_url": fal.upload_file(photos),
        "steps": 100,
        "resolution": "auto",
        "learning_rate": 0.0001,
        "output_lora_format": "fal",
    }
    seen: list[Any] = []
    result = fal.subscribe(TRAINER, arguments=arguments, with_logs=True, on_queue_update=seen.append)
    assert set(result) == {"diffusers_lora_file", "config_file"}
    assert set(result["config_file"]) == {"url", "content_type", "file_name", "file_size"}
    config = httpx.get(result["config_file"]["url"], trust_env=False).json()
    assert config["licence"]
    assert set(config["exports"]) == {"fal", "comfy", "diffusers", "kohya"}
    said = [line["message"] for line in seen[-1].logs]
    assert any(line.startswith("All pictures are trained at") for line in said)
    drawn = fal.run("ideogram/v4/lora", arguments={
        "prompt": "a photo in my custom style", "loras": [{"path": result["diffusers_lora_file"]["url"]}]})  # fmt: skip
    assert drawn["images"]


@pytest.mark.long
def test_a_model_whose_worker_was_killed_stays_training_goes_on_from_its_checkpoint_and_is_completed(
    server: Server,
) -> None:
    with server.http() as http:
        body = {"images_data_url": upload(http, pictures(10)), "name": "Killed once", "steps": 150}
        request = submitted(http, CUSTOM, body)
        until_checkpoint(http, request["status_url"])
        for process in psutil.Process(server.pid).children(recursive=True):
            if "tintype.worker.child" in " ".join(command(process)):
                process.send_signal(signal.SIGKILL)
        until(http, request["status_url"], "Training goes on from step")
        assert model_of(http, request["request_id"])["status"] == "TRAINING"
        assert "error" not in finish(http, request["status_url"])
        model = model_of(http, request["request_id"])
        assert model["status"] == "COMPLETED"
        answer = http.get(request["response_url"]).json()
    assert {"model_id", "custom_model_uri"} <= set(answer)
    assert answer["model_id"] == model["model_id"]


def test_a_training_that_fails_leaves_a_model_that_says_why_and_cannot_be_used(server: Server) -> None:
    with server.http() as http:
        request = submitted(http, CUSTOM, {"images_data_url": upload(http, pictures(9)), "name": "Too few"})
        finish(http, request["status_url"])
        assert http.get(request["response_url"]).status_code == 422
        model = model_of(http, request["request_id"])
        assert model["status"] == "ERRORED"
        assert "at least 10" in model["error"]
        entry = refused(http, f"{CUSTOM}/generate", {"model_id": model["model_id"], "prompt": "a photo"})
    assert entry["loc"] == ["body", "model_id"]
    assert "ERRORED" in entry["msg"]


def test_a_cancelled_training_leaves_no_model_to_use(server: Server) -> None:
    with server.http() as http:
        request = submitted(http, CUSTOM, {"images_data_url": upload(http, pictures(10)), "steps": FOREVER})
        until(http, request["status_url"], "Memory:")
        assert http.put(request["cancel_url"]).status_code == 202
        finish(http, request["status_url"])
        assert model_of(http, request["request_id"])["status"] == "ERRORED"


DATASETS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "not-an-archive": (lambda: b"hello, I am text", "images_data_url", "cannot be opened"),
    "no-image": (lambda: pictures(0, texts={"a.txt": "hello"}), "images_data_url", ""),
    "tiny-pictures": (lambda: pictures(3, (200, 300)), "images_data_url", "at least 256 pixels"),
    "broken-json": (lambda: pictures(3, texts={"1.txt": '{"high_level_description": ['}), "images_data_url", "1.png"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_that_cannot_be_trained_is_answered_at_its_place(server: Server, name: str) -> None:
    make, place, said = DATASETS[name]
    with server.http() as http:
        entry = refused(http, TRAINER, {"images_data_url": upload(http, make())})
        assert entry["loc"] == ["body", place]
        assert said in entry["msg"]


def test_a_preset_that_pictures_cannot_fill_names_them(server: Server) -> None:
    with server.http() as http:
        body = {"images_data_url": upload(http, pictures(3)), "resolution": "square"}
        entry = refused(http, TRAINER, body)
    assert entry["loc"] == ["body", "resolution"]
    assert "0.png (512x512)" in entry["msg"]


WRONG: list[tuple[str, str, object]] = [
    (TRAINER, "steps", 99),
    (TRAINER, "steps", 40_001),
    (TRAINER, "steps", "many"),
    (TRAINER, "learning_rate", 0),
    (TRAINER, "learning_rate", 1e9),
    (TRAINER, "resolution", "1000x1000"),
    (TRAINER, "resolution", "huge"),
    (TRAINER, "output_lora_format", "pickle"),
    (TRAINER, "images_data_url", ""),
    (TRAINER, "images_data_url", None),
    (CUSTOM, "name", "four"),
    (CUSTOM, "name", "a name that is much longer than thirty characters"),
    (CUSTOM, "steps", -1),
    (CUSTOM, "rank", 0),
]


def test_every_wrong_field_is_named_before_anything_is_trained(server: Server) -> None:
    with server.http() as http:
        for endpoint, name, value in WRONG:
            answer = http.post(f"/queue/{endpoint}", json={"images_data_url": "https://example.com/a.zip", name: value})
            assert answer.status_code == 422, (name, value, answer.text)
            assert answer.json()["detail"][0]["loc"] == ["body", name], (name, value)
        missing = http.post(f"/queue/{TRAINER}", json={})
        assert missing.json()["detail"][0]["loc"] == ["body", "images_data_url"]
        assert refused(http, TRAINER, {"images_data_url": upload(http, b"PK")})["type"] == "invalid_archive"


def test_unknown_fields_are_said_and_change_nothing(server: Server) -> None:
    with server.http() as http:
        body = {"images_data_url": upload(http, pictures(2)), "steps": 1, "rank": 1, "trigger_word": "TOK"}
        request = submitted(http, PORTRAIT_TRAINER, body)
        status = finish(http, request["status_url"])
    assert "error" not in status
    assert any("trigger_word" in line["message"] for line in status["logs"])
