"""A web process whose disk takes no more: a real one, held to files of 2 MB by the operating system."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.support.disk import leave_room
from tests.support.web_server import WebServer

LIMIT = 2_000_000  # bytes of a file


def test_before_the_disk_is_full_no_request_is_taken_and_those_that_were_are_told_of(
    server: WebServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.hold()
    taken = client.post("/queue/fal-ai/flux-lora", json={"prompt": "a"}).json()
    leave_room(monkeypatch, 0)
    refused = client.post("/queue/fal-ai/flux-lora", json={"prompt": "b"})
    assert (refused.status_code, refused.json()["error_type"]) == (507, "storage_full")
    assert client.get(taken["status_url"]).json()["status"] == "IN_QUEUE"
    assert client.put(taken["cancel_url"]).status_code == 202


def test_what_does_not_fit_is_refused_clearly_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        os.set_inheritable(listener.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, "-m", "tintype.web", "--fd", str(listener.fileno())],
            env=os.environ | {"TINTYPE_DATA_DIR": str(tmp_path), "TINTYPE_AUTH": "off"},
            pass_fds=[listener.fileno()],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
            stderr=subprocess.DEVNULL,
            umask=0o022,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120) as client:
            named = {"file_name": "photos.zip"}
            signed = client.post("/rest/storage/upload/initiate", json=named).json()
            begun = client.post("/rest/storage/upload/initiate-multipart", json=named).json()
            part = client.put(f"{begun['upload_url']}/1", content=b"x" * 1_500_000)
            other = client.put(f"{begun['upload_url']}/2", content=b"x" * 1_500_000)
            parts = {"parts": [part.json(), other.json()]}
            uri = b'{"images_data_url": "data:application/zip;base64,' + b"A" * 3_000_000 + b'"}'
            for refused in (
                client.put(signed["upload_url"], content=b"x" * 3_000_000),
                client.post("/cdn/files/upload", content=b"x" * 3_000_000),
                client.post(f"{begun['upload_url']}/complete", json=parts),
                client.post("/queue/fal-ai/flux-lora-portrait-trainer", content=uri),
            ):
                assert (refused.status_code, refused.json()["error_type"]) == (507, "storage_full")
                assert "disk" in refused.json()["detail"]
            assert not list((tmp_path / "uploads" / "incoming").iterdir())
            kept = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
            assert {path.parent.name for path in kept} <= {"installations"}
            assert client.get(signed["file_url"]).status_code == 404
            assert client.put(signed["upload_url"], content=b"x").status_code == 200
            assert client.get(signed["file_url"]).content == b"x"
            # At last the database itself, whose journal is such a file.
            loras = [{"path": f"https://example.com/{'a' * 2000}"}] * 100
            asked = {"prompt": "a", "loras": loras}
            answers = [client.post("/queue/fal-ai/flux-lora", json=asked) for _ in range(12)]
            taken = [answer.json()["status_url"] for answer in answers if answer.status_code == 200]
            refused = next(answer for answer in answers if answer.status_code != 200)
            assert taken, refused.text
            assert (refused.status_code, refused.json()["error_type"]) == (507, "storage_full")
            assert {client.get(url).json()["status"] for url in (taken[0], taken[-1])} == {"IN_QUEUE"}
    finally:
        process.terminate()
        process.wait(60)
