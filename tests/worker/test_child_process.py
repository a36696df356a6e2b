"""The handle on a child: why it ended is known, whatever way it went."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.hostile import HOSTILE, is_harmless

from tintype.processes import LARGEST_LOG
from tintype.worker.child_process import ChildPlan, ChildProcess, compute_threads

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Program(ChildPlan):
    """A child that runs a few lines of Python instead of jobs."""

    program: str = ""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.program]


async def started(tmp_path: Path, program: str) -> ChildProcess:
    return await ChildProcess.start(Program("training", "cpu", "", tmp_path / "logs" / "child.log", program=program))


async def test_the_last_words_tell_why_a_child_died(tmp_path: Path) -> None:
    program = (
        "import sys; print('of an earlier job\\n--- next job', file=sys.stderr)\n"
        "for i in range(3): print('line', i, file=sys.stderr)\n"
        "sys.exit(3)"
    )
    child = await started(tmp_path, program)
    assert await child.messages.get() is None
    assert await child.wait() == "The compute process ended with exit code 3: line 0 | line 1 | line 2"
    assert "of an earlier job" in (tmp_path / "logs" / "child.log").read_text()


async def test_a_signal_is_named(tmp_path: Path) -> None:
    child = await started(tmp_path, "import os; os.abort()")
    assert await child.messages.get() is None
    assert "signal SIGABRT" in await child.wait()


async def test_a_child_that_nothing_else_holds_to_its_memory_is_ended_once_it_was_seen_to_pass_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tintype.worker.memory.CGROUPS", tmp_path)  # no cgroup can be made
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = b\"x\" * (400 << 20); input()'])"
    plan = Program("training", "cuda:0", "", tmp_path / "child.log", program=program)
    monkeypatch.setattr("tintype.worker.memory.usual_bytes", lambda own: 200 << 20)
    child = await ChildProcess.start(plan)
    async with asyncio.timeout(60):
        assert await child.messages.get() is None
    assert "SIGKILL" in await child.wait()
    assert child.lacked_memory


async def test_a_child_that_speaks_nonsense_is_ended(tmp_path: Path) -> None:
    child = await started(tmp_path, "import time; print('hello', flush=True); time.sleep(600)")
    async with asyncio.timeout(30):
        assert await child.messages.get() is None
    assert "unintelligible message" in await child.wait()


async def test_a_message_of_many_megabytes_arrives_whole(tmp_path: Path) -> None:
    program = "import json; print(json.dumps({'say': 'log', 'message': 'x' * (20 << 20)}), flush=True)"
    child = await started(tmp_path, program)
    async with asyncio.timeout(30):
        message = await child.messages.get()
    assert message is not None
    assert message["say"] == "log"
    assert len(message["message"]) == 20 << 20
    assert await child.messages.get() is None


async def test_a_child_that_will_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tintype.worker.child_process.EXIT_SECONDS", 0.2)
    child = await started(tmp_path, "import time; time.sleep(600)")
    await child.stop()
    assert not child.alive
    assert child.pid not in ChildProcess.living


async def test_telling_a_dead_child_something_is_no_error(tmp_path: Path) -> None:
    child = await started(tmp_path, "")
    assert await child.messages.get() is None
    for _ in range(3):
        await child.send({"say": "stop"})


async def test_a_log_that_grows_too_long_is_put_aside_while_its_child_lives(tmp_path: Path) -> None:
    program = (
        f"import sys; line = 'x' * 99_999 + '\\n'; [sys.stderr.write(line) for _ in range({LARGEST_LOG // 40_000})]"
    )
    child = await started(tmp_path, program + "; sys.exit('the end')")
    assert await child.messages.get() is None
    await child.wait()
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "logs").iterdir()}
    assert sizes.keys() == {"child.log", "child.old.log"}
    assert max(sizes.values()) <= LARGEST_LOG + 100_000
    assert (tmp_path / "logs" / "child.log").read_text().endswith("the end\n")


async def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    child = await started(tmp_path, "import sys; print('x' * 200_000, file=sys.stderr); sys.exit('told')")
    assert await child.messages.get() is None
    assert (await child.wait()).endswith("told")


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_a_child_prints_commands_no_terminal(tmp_path: Path, text: str) -> None:
    program = f"import os; os.write(2, {text.encode()!r} + b'\\n'); os._exit(1)"
    child = await started(tmp_path, program)
    assert await child.messages.get() is None
    assert is_harmless(await child.wait())
    kept = (tmp_path / "logs" / "child.log").read_bytes().decode()
    assert kept
    assert is_harmless(kept)


async def test_the_cores_are_shared_by_the_devices_of_a_machine(tmp_path: Path) -> None:
    def threads(devices: int) -> int:
        return int(ChildPlan("training", "cpu", "", tmp_path, devices=devices).environment["OMP_NUM_THREADS"])

    assert threads(1) == compute_threads()
    assert threads(2) == max(1, compute_threads() // 2)
    assert threads(4096) == 1


def test_a_gpus_memory_grows_in_one_piece_unless_the_person_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(device: str) -> dict[str, str]:
        environment = ChildPlan("training", device, "", tmp_path).environment
        return {name: value for name, value in environment.items() if name.endswith("ALLOC_CONF")}

    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    assert told("cpu") == {}
    assert told("cuda") == told("cuda:1") == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128")
    assert told("cuda:0") == {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}
