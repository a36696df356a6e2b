"""Descendants end when whoever holds the other end of their pipe does, whatever they are busy with."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.hostile import HOSTILE, is_harmless
from tintype.processes import LARGEST_LOG, ORPHANED, Lifeline, kill_group, printable, shorten_log

WATCHING = (
    "import os, sys, time; from tintype.processes import watch_parent\n"
    "watch_parent(int(sys.argv[1]), lambda: os.write(1, b'last act\\n'))\n"  # in one piece: others write there too
    "print('watching', flush=True); time.sleep(600)\n"
)


def test_a_descendant_ends_at_once_when_the_pipe_closes() -> None:
    lifeline = Lifeline()
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHING, str(lifeline.fd)], pass_fds=(lifeline.fd,), stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "watching\n"

    lifeline.close()

    assert watcher.wait(30) == ORPHANED
    assert watcher.stdout.read() == "last act\n"
    watcher.stdout.close()


def test_the_pipe_is_closed_by_the_kill_of_its_holder_and_by_nothing_else() -> None:
    holder_program = (
        "import subprocess, sys; from tintype.processes import Lifeline\n"
        "lifeline = Lifeline()\n"
        "for _ in range(2):\n"  # the second must not keep the write end of the first alive
        f"    subprocess.Popen([sys.executable, '-c', {WATCHING!r}, str(lifeline.fd)], pass_fds=(lifeline.fd,))\n"
        "import time; time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", holder_program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert [holder.stdout.readline() for _ in range(2)] == ["watching\n"] * 2

    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert sorted(holder.stdout.read().split("\n")) == ["", "last act", "last act"]  # the end of file: both have gone
    holder.stdout.close()


def test_a_group_is_killed_with_everything_it_started() -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], process_group=0, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    started = int(leader.stdout.readline())

    kill_group(leader.pid)
    leader.wait()

    end = time.monotonic() + 30
    while os.path.exists(f"/proc/{started}") and time.monotonic() < end and not _is_zombie(started):
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{started}") or _is_zombie(started)
    kill_group(leader.pid)  # gone already is fine
    leader.stdout.close()


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_log_that_is_too_long_is_put_aside_and_its_writers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    with path.open("ab", buffering=0) as log:
        for number in range(3):
            log.write(b"%d" % number + b"x" * LARGEST_LOG)
            shorten_log(path)
        log.write(b"goes on")
        shorten_log(path)
    assert path.read_bytes() == b"goes on"
    assert path.with_name("serve.old.log").read_bytes()[:1] == b"2"
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < LARGEST_LOG + 100
    shorten_log(tmp_path / "none")


def test_a_log_line_is_one_json_object_where_nobody_looks_at_a_terminal() -> None:
    program = (
        "import structlog; from tintype.processes import set_up_log\n"
        "set_up_log(); structlog.get_logger().bind(lane='training').info('supervisor ready')\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    line = json.loads(said)
    assert (line["event"], line["level"], line["lane"]) == ("supervisor ready", "info", "training")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_is_printable(text: str) -> None:
    assert is_harmless(printable(text))


def test_letters_of_all_scripts_lines_and_tabs_are_printable() -> None:
    for text in ("ä 🙂 👩‍👩‍👧 שלום \u200f مرحبا 日本語\tone\ntwo", "", "e\u0301"):
        assert printable(text) == text
    assert printable("one\r\ntwo") == "one\ntwo"
    assert printable("half \ud800") == "half \ufffd"


LOGGING = (
    "import logging, sys, structlog; from tests.support.hostile import HOSTILE; "
    "from tintype.processes import set_up_log; set_up_log(); text = ''.join(HOSTILE); log = structlog.get_logger()\n"
    "log.info(text, cause=text, many=[text])\n"
    "try: raise ValueError(text)\n"
    "except ValueError: log.exception('fault'); logging.getLogger('library').exception(text)\n"
)


@pytest.mark.parametrize("at_terminal", [True, False])
def test_no_line_of_the_log_commands_a_terminal(at_terminal: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        root = str(Path(__file__).parents[1])
        subprocess.run(
            [sys.executable, "-c", LOGGING],
            stderr=theirs if at_terminal else subprocess.STDOUT,
            stdout=theirs,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))), "NO_COLOR": "1"},
            check=True,
        )
        os.set_blocking(ours, False)
        shown = b""
        with suppress(BlockingIOError):
            while piece := os.read(ours, 65536):
                shown += piece
    finally:
        os.close(theirs)
        os.close(ours)
    colours = re.sub("\x1b\\[[0-9;]*m", "", shown.decode().replace("\r\n", "\n"))  # structlog's own
    assert "fault" in colours
    assert "[31m" in colours
    assert is_harmless(colours)
