"""A real compute child at the end of a pipe: what it says, and that it ends with its pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from tests.support.processes import TINY_JOBS, environment_with_tiny_jobs

from tintype.errors import StorageUnavailable
from tintype.settings import Settings
from tintype.worker.child import _failure_of


class AtThePipe:
    """Speaks to a child as a supervisor does."""

    def __init__(self, settings: Settings, *, lane: str = "training", log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tintype.worker.child", "--lane", lane, "--device", "cpu",
                 "--endpoints", TINY_JOBS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment_with_tiny_jobs(settings),
                process_group=0,
            )  # fmt: skip

    def tell(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def order(self, request_id: str = "r", endpoint_id: str = "test/training", **given: Any) -> None:
        self.tell(say="run", request_id=request_id, token=1, attempt=1, endpoint_id=endpoint_id, input=given, origin="")

    def hears(self, *until: str) -> dict[str, Any]:
        """The next message of one of these kinds."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            message: dict[str, Any] = json.loads(line)
            if message["say"] in until:
                return message
        raise AssertionError(f"the child ended\n{self.log.read_text()}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            if not pipe.closed:
                pipe.close()


@pytest.fixture
def child(settings: Settings, tmp_path: Path) -> Iterator[AtThePipe]:
    pipe = AtThePipe(settings, log=tmp_path / "child.log")
    yield pipe
    pipe.close()


def test_prints_of_libraries_do_not_reach_the_pipe(child: AtThePipe) -> None:
    assert child.hears("ready")["device"] == "cpu"
    child.order(noisy=True, steps=2, checkpoint_every=1)
    assert child.hears("checkpoint")["step"] == 1
    assert child.hears("done")["output"]["steps"] == 2
    assert "a library prints to stdout" in child.log.read_text()


def test_a_cancel_that_comes_before_its_job_begins_is_not_missed(child: AtThePipe) -> None:
    child.order("first", steps=20, seconds=0.02)
    child.order("second", steps=1)
    child.tell(say="cancel", request_id="second")
    assert child.hears("done", "failed")["request_id"] == "first"
    ended = child.hears("done", "failed")
    assert (ended["request_id"], ended["failure"]["error_type"]) == ("second", "client_cancelled")
    child.order("second", steps=1)  # a retry under the same id
    assert child.hears("done", "failed")["say"] == "done"


def test_stopping_checkpoints_what_runs_and_ends_the_process(child: AtThePipe) -> None:
    child.order(steps=100_000)
    child.hears("progress")
    child.tell(say="stop")
    saved = child.hears("checkpoint")
    assert child.hears("drained")["request_id"] == "r"
    assert child.process.wait(30) == 0
    assert saved["step"] > 0


def test_the_end_of_the_pipe_ends_a_child_in_the_middle_of_a_step(child: AtThePipe) -> None:
    child.order(steps=2, seconds=0.0, deaf=True)
    child.hears("done")
    child.order("long", steps=1, seconds=600.0, deaf=True)
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(30) != 0


def test_the_end_of_the_pipe_ends_a_child_inside_a_torch_operation(child: AtThePipe) -> None:
    child.order(endpoint_id="test/torch")
    assert child.hears("log", "failed")["message"] == "decomposing"
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(30) != 0


def test_an_endpoint_that_a_child_does_not_know_fails_its_request_only(child: AtThePipe) -> None:
    child.order(endpoint_id="test/unheard-of")
    assert "does not know test/unheard-of" in child.hears("failed")["failure"]["body"]["message"]
    child.order(steps=1)
    child.hears("done")


def test_a_later_attempt_says_where_it_goes_on(child: AtThePipe) -> None:
    child.order("again", steps=4, checkpoint_every=2)
    child.hears("done")
    child.order("again", steps=6)
    assert child.hears("log")["message"] == "Attempt 1 goes on from its checkpoint at step 4."
    assert child.hears("done")["output"]["resumed_at"] == 4


def test_out_of_memory_is_recognised_however_torch_words_it(capsys: pytest.CaptureFixture[str]) -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    for problem in (
        OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        failure = _failure_of(problem, "cuda:1")
        assert "does not fit the memory of cuda:1" in failure.body["message"]
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert _failure_of(full, "cpu").status == 507
    assert "No space left" in capsys.readouterr().err


def test_a_bucket_that_is_away_ends_a_request_with_a_status_that_no_client_repeats() -> None:
    away = _failure_of(StorageUnavailable("The bucket is away.", remedy="Look at it."), "cpu")
    assert (away.status, away.error_type) == (500, "runner_server_error")
    assert away.body["detail"] == "The bucket is away. Look at it."
