"""A web process whose disk takes no more: a real one, held to files of 2 MB by the operating system."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import httpx

LIMIT = 2_000_000  # bytes of a file


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
    finally:
        process.terminate()
        process.wait(60)
