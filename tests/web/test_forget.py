"""A request's payloads are deleted: afterwards no byte of them is anywhere in the data folder, nor in the database."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype.files import Objects, new_file_id
from tintype.files.checkpoints import note_published, open_checkpoints
from tintype.settings import Settings
from tintype.web.forget import IN_USE
from tintype.web.kept_answers import KEPT_SECONDS, KeptAnswers

TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
FLUX = "/queue/fal-ai/flux-lora"
CUSTOM = "/queue/fal-ai/ideogram/custom-models"


def uploaded(client: httpx.Client, content: bytes, name: str = "photos.zip") -> str:
    headers = {"Content-Type": "application/zip", "X-Fal-File-Name": name}
    return str(client.post("/cdn/files/upload", content=content, headers=headers).json()["access_url"])


def sent(client: httpx.Client, path: str, body: dict[str, Any], **headers: str) -> str:
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def ended(client: httpx.Client, request_id: str) -> dict[str, Any]:
    while True:
        status: dict[str, Any] = client.get(f"/queue/a/b/requests/{request_id}/status?logs=1").json()
        if status["status"] == "COMPLETED":
            return status
        time.sleep(0.02)


def forgotten(client: httpx.Client, request_id: str) -> dict[str, Any]:
    answer = client.delete(f"/v1/models/requests/{request_id}/payloads")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def holding(folder: Path, secret: str) -> set[str]:
    """The files that hold a text as it is, in base64 at any offset, or in their name."""
    forms = {secret.encode(), *(base64.b64encode(b"x" * offset + secret.encode())[4:-4] for offset in range(3))}
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and (secret in path.name or any(form in path.read_bytes() for form in forms)):
            found.add(str(path.relative_to(folder)))
    return found


def leave_work(settings: Settings, request_id: str, secret: str) -> None:
    """Leaves what a training does that was killed: encoded photos, a checkpoint, what one reads of it, a file to be."""
    lasting = settings.work_dir / request_id / "lasting" / "encoded"
    lasting.mkdir(parents=True)
    (lasting / "0.safetensors").write_bytes(b"latents " + secret.encode())
    checkpoints = open_checkpoints(settings, request_id, 1, lambda step: None)
    checkpoints.save(10, lambda folder: (folder / "adapter.safetensors").write_bytes(b"weights " + secret.encode()))
    assert checkpoints.latest() is not None
    key = f"{new_file_id()}/lora.safetensors"
    note_published(settings, request_id, key)
    Objects.open(settings.storage_url).put_bytes(key, b"a file of no result " + secret.encode())


@pytest.fixture
def secret() -> str:
    return f"secret{uuid.uuid4().hex}"


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_of_what_it_was_given_and_made(
    start: Callable[..., WebServer], tmp_path: Path, secret: str, fails: bool
) -> None:
    data = tmp_path / "data"
    server = start(data_dir=data)
    photos = f"a zip of photos, {secret}".encode()
    with server.client() as client:
        caption = base64.b64encode(f"a long caption file of {secret} ".encode() * 3000).decode()
        words = ("fail " if fails else "") + secret
        body = {
            "images_data_url": uploaded(client, photos, f"{secret}.zip"),
            "resume_from_checkpoint": f"data:text/plain;base64,{caption}",
            "trigger_phrase": words,
            "sample_prompts": [f"a portrait of {secret}", secret * 100],
        }
        request_id = sent(
            client, f"{TRAINER}?fal_webhook=http://127.0.0.1:9/{secret}", body, **{"X-Fal-Tags": f"who={secret}"}
        )
        ended(client, request_id)
        leave_work(server.settings, request_id, secret)
        assert client.get(f"/queue/a/b/requests/{request_id}").status_code == (422 if fails else 200)
        assert len(holding(data, secret)) >= 5
        receipt = forgotten(client, request_id)
        gone = client.get(f"/queue/a/b/requests/{request_id}")
        assert (gone.status_code, "was forgotten" in gone.json()["message"]) == (404, True)
        stranger = {"Authorization": f"Key {server.create_key('a stranger')}"}
        kept_from = client.get(f"/queue/a/b/requests/{request_id}", headers=stranger).json()["message"]
        assert kept_from == client.get(f"/queue/a/b/requests/{uuid.uuid4()}", headers=stranger).json()["message"]
        for result in receipt["cdn_delete_results"]:
            assert "deleted" in client.get(result["link"]).json()["message"]

        assert holding(data, secret) == set()
        assert [result["exception"] for result in receipt["cdn_delete_results"]] == [None] * (2 if fails else 3)
        hashes = {thing["sha256"]: thing for thing in receipt["receipt"]}
        assert hashes[hashlib.sha256(photos).hexdigest()]["size"] == len(photos)
        assert hashes[hashlib.sha256(b"weights " + secret.encode()).hexdigest()]["kind"] in ("checkpoint", "work")
        assert {thing["kind"] for thing in receipt["receipt"]} == {"input", "output", "file", "work", "checkpoint"}
        for result in receipt["cdn_delete_results"]:
            assert client.get(result["link"]).status_code == 404
        assert client.get(f"/queue/a/b/requests/{request_id}").status_code == 404
        status = ended(client, request_id)
        assert status["logs"] == []
        assert secret not in str(status)
        assert status["usage"]["device_seconds"] > 0, "what it took is still known"
        again = forgotten(client, request_id)
        assert (again["receipt"], again["cdn_delete_results"]) == (receipt["receipt"], [])


def test_a_deletion_that_is_sent_again_with_its_key_is_answered_again(client: httpx.Client, server: WebServer) -> None:
    request_id = sent(client, FLUX, {"prompt": "a"})
    ended(client, request_id)
    url = f"/v1/models/requests/{request_id}/payloads"
    first = client.delete(url, headers={"Idempotency-Key": "once"})
    again = client.delete(url, headers={"Idempotency-Key": "once"})
    assert len(first.json()["cdn_delete_results"]) == 1
    assert (again.json(), again.headers["content-type"]) == (first.json(), first.headers["content-type"])
    assert client.delete(url, headers={"Idempotency-Key": "twice"}).json()["cdn_delete_results"] == []
    stranger = {"Idempotency-Key": "once", "Authorization": f"Key {server.create_key('a stranger')}"}
    assert client.delete(url, headers=stranger).status_code == 404


def test_an_answer_is_kept_for_ten_minutes_and_no_longer() -> None:
    kept = KeptAnswers()
    kept.put(("a",), 200, b"{}", 1000.0)
    assert kept.get(("a",), 1000.0 + KEPT_SECONDS - 1) == (200, b"{}")
    assert kept.get(("a",), 1000.0 + KEPT_SECONDS) is None
    for number in range(1000):
        kept.put((str(number),), 204, b"", 1000.0)
    assert kept.get(("a",), 1000.0) is None, "the oldest makes room"
    assert kept.get(("0",), 1000.0) == (204, b"")


def test_a_request_that_runs_is_not_forgotten(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = sent(client, FLUX, {"prompt": "a"})
    refused = client.delete(f"/v1/models/requests/{request_id}/payloads")
    assert refused.status_code == 400
    assert "Cancel it first" in refused.json()["error"]["message"]
    assert server.request(request_id).input["prompt"] == "a"


def test_what_another_request_made_or_reads_stays(client: httpx.Client, server: WebServer, secret: str) -> None:
    training = sent(client, TRAINER, {"images_data_url": uploaded(client, b"photos"), "trigger_phrase": secret})
    ended(client, training)
    lora = client.get(f"/queue/a/b/requests/{training}").json()["diffusers_lora_file"]["url"]
    drawing = sent(client, FLUX, {"prompt": secret, "loras": [{"path": lora}]})
    ended(client, drawing)
    assert len(forgotten(client, drawing)["cdn_delete_results"]) == 1, "its picture, and not the LoRA it was drawn with"
    assert client.get(lora).status_code == 200
    server.hold()
    waiting = sent(client, FLUX, {"prompt": "b", "loras": [{"path": lora}]})
    kept = {result["link"]: result["exception"] for result in forgotten(client, training)["cdn_delete_results"]}
    assert kept.pop(lora) == IN_USE
    assert set(kept.values()) == {None}
    assert client.get(lora).status_code == 200
    server.release()
    ended(client, waiting)
    again = forgotten(client, training)
    assert again["cdn_delete_results"] == [{"link": lora, "exception": None}]
    assert client.get(lora).status_code == 404


def test_an_upload_that_waits_to_be_read_goes_with_the_second_try(client: httpx.Client, server: WebServer) -> None:
    photos = uploaded(client, b"photos of two trainings")
    first = sent(client, TRAINER, {"images_data_url": photos, "trigger_phrase": "one"})
    ended(client, first)
    server.hold()
    second = sent(client, TRAINER, {"images_data_url": photos, "trigger_phrase": "two"})
    assert IN_USE in [result["exception"] for result in forgotten(client, first)["cdn_delete_results"]]
    server.release()
    ended(client, second)
    assert client.get(photos).status_code == 200
    assert [result["link"] for result in forgotten(client, first)["cdn_delete_results"]] == [photos]
    assert client.get(photos).status_code == 404


def test_uploads_of_others_are_not_ones_to_delete(client: httpx.Client, server: WebServer) -> None:
    stranger = {"Authorization": f"Key {server.create_key('somebody else')}"}
    headers = {"Content-Type": "application/zip", "X-Fal-File-Name": "a.zip", **stranger}
    theirs = client.post("/cdn/files/upload", content=b"theirs", headers=headers).json()["access_url"]
    request_id = sent(client, TRAINER, {"images_data_url": theirs, "trigger_phrase": uuid.uuid4().hex})
    ended(client, request_id)
    assert theirs not in [result["link"] for result in forgotten(client, request_id)["cdn_delete_results"]]
    assert client.get(theirs).status_code == 200


def test_a_custom_model_goes_with_its_training(client: httpx.Client) -> None:
    request_id = sent(client, CUSTOM, {"images_data_url": "data:application/zip;base64,UEsDBA==", "name": "Anna Smith"})
    ended(client, request_id)
    listed = client.get("/v1/custom-models", params={"limit": 1000}).json()["models"]
    (model,) = [model for model in listed if model["request_id"] == request_id]
    forgotten(client, request_id)
    gone = client.get(f"/v1/custom-models/{model['model_id']}").json()
    assert (gone["status"], gone["files"]) == ("ARCHIVED", {})
    assert "anna" not in str(gone).lower()
