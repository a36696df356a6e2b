"""What a job sees of the world when it runs in a compute child."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from tintype.catalog import INTERNAL_SCHEME
from tintype.catalog.custom_models import ModelReference, ModelStatus
from tintype.catalog.flux_lora import LoraWeight
from tintype.errors import Cancelled, Drained, FileDownloadError, about_input
from tintype.files import Objects
from tintype.job import JobContext
from tintype.jobs.images import lora_requests
from tintype.settings import Settings
from tintype.worker.context import PipeContext, Signals
from tintype.worker.messages import FileAnswer, Run


class CachedResponse:
    """A context and everything it sent. Whether a file may be read is told by `readable`, as a supervisor would."""

    def __init__(self, settings: Settings, token: int = 3) -> None:
        self.messages: list[Any] = []
        self.readable = True
        self.signals = Signals()
        order = Run(
            say="run", request_id="r", token=token, attempt=1, endpoint_id="e", input={}, origin="https://origin"
        )  # fmt: skip
        self.context = PipeContext(
            order, settings, "cpu", send=self.hear, signals=self.signals, resident_models=lambda: "resident"
        )

    def hear(self, message: Any) -> None:
        self.messages.append(message)
        if message["say"] == "ask_file":
            for number, readable in ((message["number"] - 1, not self.readable), (message["number"], self.readable)):
                self.signals.answers.put(
                    FileAnswer(say="file", number=number, readable=readable)
                )  # one gave up waiting


@pytest.fixture
def told(settings: Settings) -> CachedResponse:
    return CachedResponse(settings)


def test_progress_is_thinned_but_the_last_step_is_always_told(told: CachedResponse) -> None:
    for step in range(1, 1001):
        told.context.progress(step, 1000, loss=0.5)
    steps = [message["step"] for message in told.messages]
    assert steps[0] == 1
    assert steps[-1] == 1000
    assert len(steps) < 100


def test_what_an_attempt_published_that_came_to_no_result_goes_with_the_next_one(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "lora.safetensors").write_bytes(b"weights")
    file = CachedResponse(settings).context.publish(tmp_path / "lora.safetensors", "application/octet-stream")
    objects, key = Objects.open(settings.storage_url), file.url.removeprefix(INTERNAL_SCHEME)
    assert objects.exists(key)
    CachedResponse(settings, token=4)
    assert not objects.exists(key)


def test_cancelled_and_draining_are_heard_by_the_right_job_only(told: CachedResponse) -> None:
    told.signals.cancel("another")
    told.context.raise_if_cancelled()
    told.signals.cancel("r")
    with pytest.raises(Cancelled):
        told.context.raise_if_cancelled()
    told.signals.finish("another")
    assert not told.context.is_asked_to_finish()
    told.signals.finish("r")
    assert told.context.is_asked_to_finish()
    told.signals.forget("r")
    told.context.raise_if_cancelled()
    assert not told.context.is_asked_to_finish()
    told.signals.stopping.set()
    with pytest.raises(Drained):
        told.context.raise_if_cancelled()


def test_a_published_file_is_stored_under_a_fresh_id_and_read_back(told: CachedResponse, tmp_path: Path) -> None:
    path = tmp_path / "a LoRA.safetensors"
    path.write_bytes(b"weights")
    first = told.context.publish(path, "application/octet-stream")
    second = told.context.publish(path, "application/octet-stream", "named.bin", lifetime=60)

    assert first.url != second.url
    assert (second.file_name, second.file_size) == ("named.bin", 7)
    assert [record["file_name"] for record in told.context.published] == ["a_LoRA.safetensors", "named.bin"]
    assert "expires_at" not in told.context.published[0]
    assert told.context.published[1]["expires_at"] == pytest.approx(time.time() + 60, abs=30)
    assert told.context.absolute(first).url.startswith("https://origin/cdn/files/")
    assert told.context.fetch(first.url).read_bytes() == b"weights"
    assert path.exists()


def test_a_missing_input_is_an_error_at_its_place(told: CachedResponse) -> None:
    with pytest.raises(FileDownloadError) as caught, about_input("images_data_url"):
        told.context.fetch("tintype:files/" + "x" * 32 + "/a.zip")
    assert caught.value.details[0]["loc"] == ["body", "images_data_url"]


def test_a_checkpoint_is_told_once_it_is_complete(told: CachedResponse) -> None:
    told.context.checkpoint.save(5, lambda folder: (folder / "state").write_text("x"))
    assert told.messages == [{"say": "checkpoint", "request_id": "r", "step": 5}]
    assert told.context.resident_models == "resident"


def test_scratch_that_a_killed_attempt_left_is_cleared_and_checkpoints_stay(settings: Settings) -> None:
    killed = CachedResponse(settings, token=1).context
    (killed.scratch / "half").write_text("x")
    (killed.lasting / "encoded").write_text("x")
    killed.checkpoint.save(5, lambda folder: (folder / "state").write_text("x"))

    after = CachedResponse(settings, token=2).context

    assert not killed.scratch.exists()
    assert (after.lasting / "encoded").exists(), "what was costly to make is not made twice"
    assert list(after.scratch.iterdir()) == []
    assert after.checkpoint.latest() is not None


def test_a_job_sees_the_custom_model_of_its_request(settings: Settings) -> None:
    given = ModelReference("m", "My style", "model/my-style/version/1", ModelStatus.COMPLETED, lora="tintype:files/l/l")
    order = Run(
        say="run", request_id="r", token=1, attempt=1, endpoint_id="e", input={}, origin="o",
        model=json.loads(json.dumps(asdict(given))),
    )  # fmt: skip
    context = PipeContext(
        order, settings, "cpu", send=lambda message: None, signals=Signals(), resident_models=lambda: None
    )
    assert context.model == given


def test_a_request_without_a_custom_model_has_none(told: CachedResponse) -> None:
    assert told.context.model is None


@pytest.mark.parametrize("url", ["tintype:files/ID/a.txt", "TINTYPE:files/ID/a.txt", "tintype:files/ID/a.txt?until=9"])
def test_a_file_of_this_server_is_read_only_once_the_supervisor_has_agreed(told: CachedResponse, url: str) -> None:
    path = told.context.scratch / "a.txt"
    path.write_text("photos")
    published = told.context.publish(path, "text/plain")
    url = url.replace("ID", published.url.split("/")[1])
    assert told.context.fetch(url).read_text() == "photos"
    told.readable = False
    for read in (told.context.fetch, told.context.check_readable):
        with pytest.raises(FileDownloadError):
            read(url)
    asked = [message for message in told.messages if message["say"] == "ask_file"]
    assert [question["reference"] for question in asked] == [url] * 3
    assert len({question["number"] for question in asked}) == 3


def test_who_waits_for_an_answer_can_be_cancelled(told: CachedResponse) -> None:
    told.signals.cancel("r")
    with pytest.raises(Cancelled):
        told.context.check_readable("tintype:files/x")


def test_a_lora_that_is_loaded_already_is_asked_about_all_the_same(told: CachedResponse) -> None:
    told.readable = False
    lora = LoraWeight(path="tintype:files/" + "A" * 32 + "/lora.safetensors")
    with pytest.raises(FileDownloadError) as caught:
        lora_requests([lora], cast(JobContext, told.context))
    assert caught.value.details[0]["loc"] == ["body", "loras", 0, "path"]
