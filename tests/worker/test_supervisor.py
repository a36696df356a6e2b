"""A real supervisor with real children: work is done, told, cancelled, survived and given back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.processes import SupervisorProcess, command, settings_in, supervision

from tintype.files import Objects, internal_url, new_file_id
from tintype.settings import Settings
from tintype.store import NewRequest, Outcome, Status, StoredFile

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SupervisorProcess]:
    """A supervisor that runs already, for tests that do not end it."""
    async with supervision(settings_in(tmp_path_factory.mktemp("shared"))) as running:
        running.start()
        yield running


async def test_a_job_runs_and_its_file_appears_with_its_result(shared: SupervisorProcess) -> None:
    request_id = await shared.submit(steps=3, publish=True, noisy=True)

    request = await shared.finished(request_id)

    assert request.outcome is Outcome.OK
    assert request.output is not None
    (stored,) = await shared.store.files.of_request(request_id)
    assert request.output["file"]["url"] == f"tintype:files/{stored.id}/counted.txt"
    assert request.output["absolute"] == f"http://here:1/cdn/files/{stored.id}/counted.txt"
    assert (Path(shared.settings.storage_url) / stored.key).read_text() == "3"
    assert (request.step, request.total_steps) == (3, 3)
    messages = await shared.messages(request_id)
    assert "counting to 3" in messages
    assert any(line.startswith("step 3/3 loss 0.333") for line in messages)
    async with asyncio.timeout(shared.patience):
        # The folder goes a moment after the result is there.
        while (shared.settings.work_dir / request_id).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert "torch" not in mapped(shared.processes[-1].pid)
    log = (shared.settings.data_dir / "logs" / "cpu-training.log").read_text()
    assert "a library prints to stdout" in log
    assert "and writes to the descriptor" in log


async def test_a_picture_does_not_wait_for_a_training(shared: SupervisorProcess) -> None:
    training = await shared.submit(steps=100_000)
    await shared.at_step(training, 1)

    picture = await shared.finished(await shared.submit("inference"))

    assert picture.outcome is Outcome.OK
    assert (await shared.get(training)).status is Status.IN_PROGRESS
    await shared.store.requests.cancel(training)
    await shared.finished(training)


async def test_what_a_job_raises_is_told_and_the_child_lives_on(shared: SupervisorProcess) -> None:
    for how, error_type, told in (
        ("job", "runner_server_error", "Lower the learning rate"),
        ("memory", "runner_server_error", "does not fit the memory"),
        ("fault", "internal_error", "a fault of ours"),
    ):
        failed = await shared.finished(await shared.submit(fail=how))
        assert failed.outcome is Outcome.FAILED
        assert failed.failure is not None
        assert failed.failure.error_type == error_type
        assert told in failed.failure.body["message"]
        assert "secret" not in str(failed.failure)

    wrong = await shared.finished(await shared.submit(steps="many"))
    assert wrong.failure is not None
    assert wrong.failure.status == 422
    assert wrong.failure.body["detail"][0]["loc"] == ["body", "steps"]

    after = await shared.finished(await shared.submit())
    assert after.outcome is Outcome.OK
    assert after.attempts == 1


async def test_cancelling_stops_a_job_at_its_next_step(shared: SupervisorProcess) -> None:
    request_id = await shared.submit(steps=100_000)
    await shared.at_step(request_id, 1)
    child = await child_of(shared, "training")

    await shared.store.requests.cancel(request_id)
    request = await shared.finished(request_id)

    assert request.outcome is Outcome.CANCELLED
    assert psutil.pid_exists(child)


async def test_a_job_that_does_not_hear_is_killed_after_its_grace(shared: SupervisorProcess) -> None:
    request_id = await shared.submit(steps=100_000, deaf=True)
    await shared.at_step(request_id, 1)

    await shared.store.requests.cancel(request_id)
    request = await shared.finished(request_id)

    assert request.outcome is Outcome.CANCELLED
    assert (await shared.finished(await shared.submit())).outcome is Outcome.OK


async def test_a_killed_child_costs_nothing_beyond_the_last_checkpoint(shared: SupervisorProcess) -> None:
    request_id = await shared.submit(steps=40, seconds=0.05, checkpoint_every=10)
    await shared.at_step(request_id, 12)

    os.kill(await child_of(shared, "training"), signal.SIGKILL)
    request = await shared.finished(request_id)

    assert request.outcome is Outcome.OK
    assert request.output is not None
    assert request.output["resumed_at"] >= 10
    assert request.attempts == 2
    assert any("goes on from its checkpoint at step" in line for line in await shared.messages(request_id))


async def test_three_deaths_without_progress_end_the_request_with_the_cause(shared: SupervisorProcess) -> None:
    request = await shared.finished(await shared.submit(steps=9, die_at=2, die_once=False))
    assert request.outcome is Outcome.FAILED
    assert request.failure is not None
    assert "SIGKILL" in request.failure.body["message"]
    assert "last words" in request.failure.body["message"]
    assert request.attempts == 3


async def test_a_killed_supervisor_is_replaced_at_once_and_leaves_no_child(supervised: SupervisorProcess) -> None:
    first = supervised.start()
    request_id = await supervised.submit(steps=45, seconds=0.05, checkpoint_every=5)
    await supervised.at_step(request_id, 11)
    child = await child_of(supervised, "training")

    first.kill()
    first.wait()
    supervised.start()
    request = await supervised.finished(request_id)

    assert request.outcome is Outcome.OK
    assert request.output is not None
    assert request.output["resumed_at"] >= 5
    assert not psutil.pid_exists(child)
    workers = await supervised.store.workers.list()
    assert {worker.pid for worker in workers} == {supervised.processes[1].pid}


async def test_draining_checkpoints_and_gives_the_request_back(supervised: SupervisorProcess) -> None:
    process = supervised.start()
    request_id = await supervised.submit(steps=60, seconds=0.03)
    await supervised.at_step(request_id, 5)

    process.terminate()
    assert await supervised.ended(process) == 0

    waiting = await supervised.get(request_id)
    assert waiting.status is Status.IN_QUEUE
    assert waiting.strikes == 0
    assert await supervised.store.workers.list() == []
    supervised.start()
    request = await supervised.finished(request_id)
    assert request.output is not None
    assert request.output["resumed_at"] >= 5


async def test_a_worker_that_lost_its_lease_stops_its_job(shared: SupervisorProcess) -> None:
    request_id = await shared.submit(steps=100_000)
    await shared.at_step(request_id, 1)
    child = await child_of(shared, "training")
    worker = next(worker for worker in await shared.store.workers.list() if worker.lane == "training")

    await shared.store.leases.release_worker(worker.id, "a test took it")

    request = await shared.until(request_id, lambda request: request.attempts == 2)
    assert not psutil.pid_exists(child)
    await shared.store.requests.cancel(request_id)
    assert (await shared.finished(request_id)).outcome is Outcome.CANCELLED
    assert request.strikes == 0


async def test_two_supervisors_never_share_a_device(supervised: SupervisorProcess) -> None:
    supervised.start()
    await supervised.finished(await supervised.submit())
    second = supervised.start()
    assert await supervised.ended(second) == 3


async def test_an_orphaned_supervisor_and_its_children_end_themselves(supervised: SupervisorProcess) -> None:
    process = supervised.start()
    request_id = await supervised.submit(steps=100_000, deaf=True)
    await supervised.at_step(request_id, 1)
    child = psutil.Process(await child_of(supervised, "training"))

    os.close(supervised.lifeline._held)
    assert await supervised.ended(process) != 0

    await asyncio.to_thread(psutil.wait_procs, [child], supervised.patience)
    assert not child.is_running()
    supervised.lifeline = type(supervised.lifeline)()


def mapped(pid: int) -> str:
    """Paths of the files mapped into a process, where the system tells (Linux)."""
    maps = Path(f"/proc/{pid}/maps")
    return maps.read_text() if maps.exists() else ""


async def child_of(supervised: SupervisorProcess, lane: str) -> int:
    """Pid of the lane's compute child, as the process table knows it."""
    for child in psutil.Process(supervised.processes[-1].pid).children():
        if lane in command(child):
            return child.pid
    raise AssertionError(f"no {lane} child")


async def test_who_may_read_a_file_is_asked_when_it_is_read(shared: SupervisorProcess) -> None:
    """With the request's key, though the file could be read when the request was sent."""
    store, objects = shared.store, Objects.open(shared.settings.storage_url)
    mine, theirs = (await store.keys.create("mine"))[0], (await store.keys.create("theirs"))[0]
    hide = {"default": "hide", "rules": []}

    async def file(**values: Any) -> StoredFile:
        made = StoredFile(new_file_id(), "a.txt", "text/plain", 6, time.time(), key_id=mine.id, **values)
        objects.put_bytes(made.key, b"photos")
        await store.files.add(made)
        return made

    async def read(key_id: str, url: str) -> str:
        new = NewRequest("test/training", "training", {"steps": 1, "read": url}, key_id=key_id)
        done = await shared.finished((await store.requests.submit(new))[0].id)
        return "read" if done.failure is None else done.failure.error_type or ""

    hidden, gone = await file(acl=hide), await file(expires_at=time.time() - 1)
    opened = await file(acl={"default": "hide", "rules": [{"user": "theirs", "decision": "allow"}]})
    half = new_file_id()
    objects.put_bytes(f"{half}/a.txt", b"photos")
    url = internal_url(hidden.id, "a.txt")
    assert [await read(key.id, url) for key in (mine, theirs)] == ["read", "file_download_error"]
    assert await read(theirs.id, internal_url(opened.id, "a.txt")) == "read"
    assert await read(theirs.id, internal_url(hidden.id, "a.txt", until=int(time.time()) + 60)) == "read"
    assert await read(theirs.id, internal_url(hidden.id, "a.txt", until=int(time.time()) - 1)) == "file_download_error"
    for refused in (gone.id, half, new_file_id()):
        assert await read(mine.id, internal_url(refused, "a.txt")) == "file_download_error"
    assert await read(mine.id, url.replace("a.txt", "b.txt")) == "file_download_error"
    assert await read(mine.id, url.upper().replace(hidden.id.upper(), hidden.id)) == "file_download_error"

    lent = await file()
    new = NewRequest(
        "test/training", "training", {"steps": 20, "seconds": 0.1, "read": internal_url(lent.id, "a.txt")},
        key_id=theirs.id,
    )  # fmt: skip
    request_id = (await store.requests.submit(new))[0].id
    await shared.at_step(request_id, 1)
    await store.files.set_acl(lent.id, hide)
    done = await shared.finished(request_id)
    assert done.failure is not None
    assert done.failure.error_type == "file_download_error"


async def test_a_child_may_take_so_much_memory_and_no_more(settings: Settings) -> None:
    """Whether Python, torch or a library in C++ asks for it: the job fails at once, and is told what to do."""
    limited = settings.model_copy(update={"child_memory_bytes": 1500 << 20})
    async with supervision(limited) as running:
        running.start()
        for how in ("hoard", "torch", "abort"):
            failed = await running.finished(await running.submit(fail=how))
            assert failed.failure is not None
            told = str(failed.failure.body)
            assert "does not fit the memory that a compute process may take here, 1.46 GiB" in told, how
            assert "TINTYPE_CHILD_MEMORY_BYTES" in told
            assert failed.attempts == 1
        assert (await running.finished(await running.submit())).outcome is Outcome.OK
