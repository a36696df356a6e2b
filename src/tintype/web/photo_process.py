"""Looks at photos in a process of its own (`processes.answer_lines`), which is there while there is work, and a minute
longer.

Pictures that strangers send are never decoded in the web process: it stays small, and a picture that brings a decoder
down brings down nothing else. One piece of work at a time, for each takes the memory of some large photos.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

from tintype.errors import BadRequest, InputError, Json

_IDLE_SECONDS = 60.0
_LONGEST_SECONDS = 300.0  # for one piece of work: a thousand large photos take minutes
_LONGEST_LINE = 256 * 1024 * 1024  # bytes of an answer


class PhotoProcess:
    """Asks the process, which it starts, and ends when nothing was asked for a while or one piece takes too long."""

    def __init__(self, module: str = "tintype.dataset") -> None:
        self._module = module
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, work: str, **given: Any) -> Json:
        """Returns what comes of a piece of work. Raises InputError for files that cannot be used, BadRequest for those
        that the process does not survive."""
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            line = b""
            try:
                async with asyncio.timeout(_LONGEST_SECONDS):
                    line = await self._answer(json.dumps({"work": work, **given}).encode() + b"\n")
            except (TimeoutError, ValueError, ConnectionError):
                pass
            finally:
                if line.endswith(b"\n"):
                    self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end)
                else:  # it was cut short, and what comes next belongs to nobody
                    self._end()
        if not line.endswith(b"\n"):
            raise BadRequest(
                "These photos could not be looked at: they take too long, or break what decodes them.",
                remedy="Send fewer at a time, or save them as JPEG.",
            )
        told: Json = json.loads(line)
        if "failure" in told:
            raise _failure(told["failure"]["body"])
        done: Json = told["done"]
        return done

    async def _answer(self, line: bytes) -> bytes:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module, stdin=PIPE, stdout=PIPE, limit=_LONGEST_LINE
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        await process.stdin.drain()
        return await process.stdout.readline()

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process = None

    async def close(self) -> None:
        """Ends the process, and waits until it is gone."""
        if self._idle is not None:
            self._idle.cancel()
        process = self._process
        self._end()
        if process is not None:
            await process.wait()


def _failure(body: Json) -> InputError | BadRequest:
    if not isinstance(body["detail"], list):
        return BadRequest(body["message"])
    problem = InputError(body["message"])
    problem.details = body["detail"]
    return problem
