"""Logs are numbered, resumable and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.hostile import HOSTILE, is_harmless

from tintype.store import Ending, LogLine, Store
from tintype.store.requests import DROPPED, MOST_LINES

pytestmark = pytest.mark.anyio


def lines(count: int) -> list[LogLine]:
    return [LogLine(0, float(index), "INFO", f"line {index}", "USER") for index in range(count)]


async def test_lines_are_numbered_and_can_be_read_on_from_any(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.heartbeat(claim, logs=lines(2))
    await store.leases.heartbeat(claim, logs=lines(3))
    everything = await store.requests.logs(request.id)
    assert [line.number for line in everything] == [0, 1, 2, 3, 4]
    assert everything[1] == LogLine(1, 1.0, "INFO", "line 1", "USER")
    assert await store.requests.logs(request.id, after=2) == everything[3:]
    assert await store.requests.logs(request.id, after=4) == []


async def test_at_most_a_thousand_lines_are_kept_and_the_last_says_so(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    for _ in range(3):
        await store.leases.heartbeat(claim, logs=lines(400))
    kept = await store.requests.logs(request.id)
    assert len(kept) == MOST_LINES
    assert [line.message for line in kept[-2:]] == ["line 198", DROPPED]
    version = await store.requests.version(request.id)
    await store.leases.heartbeat(claim, logs=lines(5))
    assert await store.requests.version(request.id) == version
    assert len(await store.requests.logs(request.id)) == MOST_LINES


async def test_whatever_a_job_prints_can_be_kept(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.heartbeat(claim, logs=[LogLine(0, 1.0, "INFO", "nul \0, half a pair \ud800, ä 🙂")])
    [line] = await store.requests.logs(request.id)
    assert line.message == "nul �, half a pair ?, ä 🙂"


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_line_never_commands_the_terminal_of_who_reads_it(store: Store, submit: Any, text: str) -> None:
    request = await submit()
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.heartbeat(claim, logs=[LogLine(0, 1.0, "INFO", f'Captions: "{text}"')])
    for _ in range(3):
        await store.leases.release(claim, Ending.DIED, text)
        claim = await store.leases.claim("w", "training") or claim
    [line] = await store.requests.logs(request.id)
    attempts = await store.requests.attempts(request.id)
    ended = await store.requests.get(request.id)
    assert ended is not None
    assert ended.failure is not None
    assert is_harmless(line.message)
    assert is_harmless("".join(attempt.cause for attempt in attempts))
    assert is_harmless(ended.failure.body["message"])
