"""fal's own Python client, unmodified, pointed at the server by the five globals of its module."""

from __future__ import annotations

import asyncio
import base64
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fal_client
import fal_client.client as globals_of_fal
import httpx
import pytest
from fal_client.client import FalClientHTTPError
from tests.support.python_client import turn
from tests.support.web_server import WebServer

TRAINER = "fal-ai/flux-lora-portrait-trainer"
DATASET = "data:application/zip;base64," + base64.b64encode(b"PK\x03\x04 not really").decode()

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture
def fal(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[fal_client.SyncClient]:
    """Recipe B of the contract."""
    server.release()
    turn(server.origin, monkeypatch)
    client = fal_client.SyncClient(key=server.key)
    yield client
    server.clear()
    del client
    gc.collect()  # it never closes its connections by itself; what it leaves must not be blamed on another test


def test_subscribe_uploads_trains_reports_and_returns_files_that_anyone_can_fetch(
    fal: fal_client.SyncClient, server: WebServer
) -> None:
    url = fal.upload(b"PK\x03\x04" + b"x" * 1000, "application/zip", "my photos.zip")
    assert url.startswith(server.origin + "/cdn/files/")
    seen: list[Any] = []
    began = time.monotonic()
    result = fal.subscribe(
        TRAINER, {"images_data_url": url, "trigger_phrase": "TOK"}, with_logs=True, on_queue_update=seen.append
    )
    assert result["words"] == "TOK"
    assert [line["message"] for line in seen[-1].logs] == [f"line {number} ünï" for number in range(3)]
    assert isinstance(seen[-1], fal_client.Completed)
    assert 0 < seen[-1].metrics["inference_time"] <= time.monotonic() - began
    assert httpx.get(result["diffusers_lora_file"]["url"], trust_env=False).content == b"weights of TOK"


def test_a_handle_sees_the_queue_cancels_and_then_gets_the_error(fal: fal_client.SyncClient, server: WebServer) -> None:
    server.hold()
    handle = fal.submit(TRAINER, {"images_data_url": DATASET, "trigger_phrase": "first"}, priority="low")
    assert handle.status() == fal_client.Queued(position=0)
    second = fal.submit("fal-ai/flux-lora", {"prompt": "other lane"})
    assert second.status().position == 0
    handle.cancel()
    assert isinstance(handle.status(with_logs=True), fal_client.Completed)
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 499
    with pytest.raises(FalClientHTTPError):
        handle.cancel()
    server.release()
    assert second.get()["words"] == "other lane"


def test_status_result_and_cancel_by_id_work_with_the_two_segment_urls_that_clients_rebuild(
    fal: fal_client.SyncClient,
) -> None:
    handle = fal.submit(TRAINER, {"images_data_url": DATASET, "trigger_phrase": "by id"})
    assert fal.result(TRAINER, handle.request_id)["words"] == "by id"
    assert isinstance(fal.status(TRAINER, handle.request_id), fal_client.Completed)
    assert fal.get_handle(TRAINER, handle.request_id).get()["words"] == "by id"


def test_a_failed_job_gives_its_own_status_and_details(fal: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        fal.subscribe(TRAINER, {"images_data_url": DATASET, "trigger_phrase": "fail please"})
    assert caught.value.status_code == 422
    assert caught.value.response.json()["detail"][0]["type"] == "invalid_archive"


def test_wrong_input_is_refused_at_submit(fal: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        fal.submit(TRAINER, {"steps": 0})
    assert caught.value.status_code == 422
    assert {tuple(entry["loc"]) for entry in caught.value.response.json()["detail"]} == {
        ("body", "images_data_url"),
        ("body", "steps"),
    }


def test_run_answers_on_the_same_connection(fal: fal_client.SyncClient) -> None:
    assert fal.run("fal-ai/flux-lora", {"prompt": "now"})["words"] == "now"


def test_a_client_timeout_cancels_and_leaves_no_thread_polling(
    fal: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = ThreadPoolExecutor()
    monkeypatch.setattr(globals_of_fal, "EXECUTOR", executor)
    with pytest.raises(fal_client.client.FalClientTimeoutError):
        fal.subscribe(TRAINER, {"images_data_url": DATASET, "trigger_phrase": "slow"}, client_timeout=1.2)
    ended = threading.Thread(target=executor.shutdown, daemon=True)
    ended.start()
    ended.join(60)
    assert not ended.is_alive()


def test_the_second_upload_road_of_the_client_works_too(fal: fal_client.SyncClient) -> None:
    url = fal.upload(b"abc", "text/plain", repository="fal")
    assert httpx.get(url, trust_env=False).content == b"abc"


def test_a_file_beyond_the_clients_threshold_goes_up_in_parts(
    fal: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 4096 * 3  # 3 MiB, in parts of 1 MiB
    monkeypatch.setattr(globals_of_fal, "MULTIPART_THRESHOLD", 1024 * 1024)
    monkeypatch.setattr(globals_of_fal, "MULTIPART_CHUNK_SIZE", 1024 * 1024)
    url = fal.upload(data, "application/zip", "big.zip")
    assert httpx.get(url, trust_env=False).content == data


def test_the_asynchronous_client_meets_no_redirect(fal: fal_client.SyncClient, server: WebServer) -> None:
    async def work() -> Any:
        client = fal_client.AsyncClient(key=server.key)
        url = await client.upload(b"PK\x03\x04", "application/zip", "a.zip")
        result = await client.subscribe(TRAINER, {"images_data_url": url, "trigger_phrase": "async"})
        await (await client._client).aclose()
        return result

    assert asyncio.run(work())["words"] == "async"
