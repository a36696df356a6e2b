"""Where a bucket is named, everything lies in it."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.support.memory import growth_of_web
from tests.support.s3 import running_bucket
from tests.support.server import PORTRAIT_TRAINER, running


@pytest.mark.long
def test_everything_lies_in_a_bucket_where_one_is_named(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        with running(tmp_path, STORAGE=bucket.url) as server, server.http() as http:
            named = {"file_name": "photos.zip", "content_type": "application/zip"}
            begun = http.post("/rest/storage/upload/initiate-multipart", json=named).json()
            data, half = photos.read_bytes(), photos.stat().st_size // 2
            parts = [http.put(f"{begun['upload_url']}/{number}", content=part).json()
                     for number, part in ((2, data[half:]), (1, data[:half]))]  # fmt: skip
            assert http.post(f"{begun['upload_url']}/complete", json={"parts": parts}).status_code == 200
            assert httpx.get(begun["file_url"], trust_env=False).content == data
            submitted = server.submit(PORTRAIT_TRAINER, {"images_data_url": begun["file_url"], "steps": 3})
            lora = server.result(submitted)["diffusers_lora_file"]
            whole = http.get(lora["url"]).content
            assert len(whole) == lora["file_size"]
            assert http.get(lora["url"], headers={"Range": "bytes=-100"}).content == whole[-100:]
            assert not (tmp_path / "files").exists()
            expiring = {"X-Fal-Object-Lifecycle": '{"expiration_duration_seconds": 0.1}'}
            gone = http.post("/cdn/files/upload", content=b"x", headers=expiring).json()["access_url"]
            time.sleep(0.2)
            assert http.get(gone).status_code == 404
            assert growth_of_web(server, megabytes=120) < 50_000  # more than may be on its way to the bucket at once
