"""Every way to fail, as programs see it: the right exception, a reason that says what to do, no needless retries."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import fal_client
import fal_client.client as names
import pytest

from tests.support.javascript import node
from tests.support.server import Server, finish
from tests.support.wiretap import Wiretap

pytestmark = [
    pytest.mark.usefixtures("swept"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TRAINER = "fal-ai/flux-lora-portrait-trainer"
PAINTER = "fal-ai/flux-lora"


@pytest.fixture(scope="module")
def photos_url(server: Server, photos: Path) -> str:
    return server.upload(photos.read_bytes())


@pytest.fixture(scope="module")
def bad_url(server: Server) -> str:
    return server.upload(b"neither an archive nor a LoRA")


@pytest.fixture(scope="module")
def busy(server: Server, photos_url: str) -> Iterator[str]:
    """A training that goes on for the whole of this module, so that every other training waits."""
    with server.http() as http:
        body = {"images_data_url": photos_url, "steps": 10_000}
        submitted = http.post(f"/queue/{TRAINER}", json=body).raise_for_status().json()
        yield submitted["request_id"]
        http.put(submitted["cancel_url"])
        finish(http, submitted["status_url"])


def raised(call: Callable[..., object], *arguments: object, **named: object) -> names.FalClientHTTPError:
    with pytest.raises(names.FalClientHTTPError) as caught:
        call(*arguments, **named)
    return caught.value


def test_a_start_deadline_that_passes_is_one_504_in_python(
    client: fal_client.SyncClient, tap: Wiretap, busy: str, bad_url: str
) -> None:
    arguments = {"images_data_url": bad_url, "steps": 1, "seed": 10}
    problem = raised(client.subscribe, TRAINER, arguments, start_timeout=1.2)
    assert problem.status_code == 504
    assert problem.error_type == "request_timeout"
    assert problem.response_headers["x-fal-request-timeout-type"] == "user"
    assert [exchange.status for exchange in tap.heard].count(504) == 1


def test_a_cancelled_request_raises_in_python_and_stays_completed(
    client: fal_client.SyncClient, busy: str, bad_url: str
) -> None:
    handle = client.submit(TRAINER, {"images_data_url": bad_url, "steps": 1, "seed": 11})
    assert isinstance(handle.status(), fal_client.Queued)
    handle.cancel()
    assert isinstance(handle.status(), fal_client.Completed)
    assert raised(handle.get).status_code == 499
    assert raised(handle.cancel).status_code == 400


def test_what_is_unknown_or_wrong_is_said_once_in_python(
    client: fal_client.SyncClient, tap: Wiretap, server: Server
) -> None:
    stranger = fal_client.SyncClient(key="not-a-key:of-this-server")
    for problem, status, word in (
        (raised(client.status, PAINTER, str(uuid.uuid4())), 404, "not found"),
        (raised(client.result, PAINTER, str(uuid.uuid4())), 404, "not found"),
        (raised(client.cancel, PAINTER, str(uuid.uuid4())), 404, "not found"),
        (raised(client.submit, "fal-ai/flux-lorra", {}), 404, "fal-ai/flux-lora?"),
        (raised(client.submit, PAINTER, {"prompt": "x", "num_images": 99}), 422, "num_images"),
        (raised(client.run, PAINTER, {"prompt": "x", "seed": "seven"}), 422, "seed"),
        (raised(client.submit, PAINTER, {"prompt": "x"}, headers={"x-fal-request-timeout": "soon"}), 400, "seconds"),
        (raised(stranger.run, PAINTER, {"prompt": "x"}), 401, "tintype keys create"),
    ):
        assert problem.status_code == status
        assert word in str(problem)
        assert problem.response_headers["x-fal-request-id"]
    assert len(tap.heard) == 8  # none of them is worth asking twice


def test_a_longer_queue_than_the_caller_allows_is_a_429(server: Server, busy: str, bad_url: str) -> None:
    # The Python client would repeat a 429 for a minute, and the JavaScript client sends no such parameter.
    with server.http() as http:
        waiting = http.post(f"/queue/{TRAINER}", json={"images_data_url": bad_url, "steps": 1, "seed": 12}).json()
        body = {"images_data_url": bad_url, "steps": 1, "seed": 13}
        refused = http.post(f"/queue/{TRAINER}", json=body, params={"fal_max_queue_length": "0"})
        assert refused.status_code == 429
        assert "fal_max_queue_length" in refused.json()["detail"]
        http.put(waiting["cancel_url"])


def test_the_same_in_javascript(server: Server, tap: Wiretap, busy: str, bad_url: str) -> None:
    seen = node("failures", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key, BUSY=busy, BAD=bad_url)
    problems = {name: said["error"] for name, said in seen.items() if "error" in said}
    assert {name: (problem["name"], problem["status"]) for name, problem in problems.items()} == {
        "early": ("ApiError", 400),
        "late": ("ApiError", 504),
        "cancelled": ("ApiError", 499),
        "unknownStatus": ("ApiError", 404),
        "unknownResult": ("ApiError", 404),
        "unknownCancel": ("ApiError", 404),
        "unknownEndpoint": ("ApiError", 404),
        "invalid": ("ValidationError", 422),
        "invalidStream": ("ValidationError", 422),
        "failed": ("ValidationError", 422),
        "stranger": ("ApiError", 401),
    }
    for name, problem in problems.items():
        assert problem["message"] == problem["body"]["message"], name  # ours, not the status line's
        assert problem["message"].endswith((".", "?")), name
        assert problem["requestId"], name
    assert problems["late"]["isUserTimeout"] is True
    assert problems["early"]["requestId"] == busy
    assert problems["cancelled"]["requestId"] == seen["cancelledId"]
    assert problems["failed"]["requestId"] == seen["failedId"]
    assert set(problems["invalid"]["fields"]) == {"body.num_images", "body.guidance_scale"}
    assert problems["failed"]["fields"] == ["body.loras.0.path"]
    assert seen["queued"]["value"]["status"] == "IN_QUEUE"
    assert seen["queued"]["value"]["queue_position"] == 0
    assert seen["afterCancel"]["value"]["status"] == "COMPLETED"
    assert [exchange.status for exchange in tap.heard].count(504) == 1


def test_no_failure_is_anything_but_json(fal: ModuleType, server: Server) -> None:
    with server.http() as http:
        for method, path in (
            ("DELETE", f"/queue/{PAINTER}"),
            ("GET", "/nowhere"),
            ("PUT", "/run/a/b"),
            ("GET", "/cdn"),
        ):
            answer = http.request(method, path)
            assert answer.status_code in (404, 405)
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["message"] == answer.json()["detail"]
            assert answer.headers["x-fal-request-id"]
