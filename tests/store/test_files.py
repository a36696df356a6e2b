"""Which files can be downloaded, and when they are forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tintype.store import Queue, StoredFile

pytestmark = pytest.mark.anyio

FILE = StoredFile("f1", "photos.zip", "application/zip", 12, 100.0, key_id="k")


async def test_a_file_is_found_by_its_id(queue: Queue) -> None:
    await queue.add_file(FILE)
    assert await queue.find_file("f1") == FILE
    assert await queue.find_file("f2") is None
    assert await queue.find_file("f\0") is None
    await queue.add_file(replace(FILE, size=13))  # an upload that is sent again
    assert await queue.find_file("f1") == replace(FILE, size=13)


async def test_an_expired_file_is_not_found_but_listed_for_removal(queue: Queue, clock: Any) -> None:
    short = replace(FILE, expires_at=clock.now + 10)
    await queue.add_file(short)
    await queue.add_file(replace(FILE, id="f2"))
    assert await queue.find_file("f1") == short
    assert await queue.expired_files() == []
    clock.advance(10)
    assert await queue.find_file("f1") is None
    assert await queue.expired_files() == [short]
    await queue.remove_file("f1")
    await queue.remove_file("f1")
    assert await queue.expired_files() == []
    assert await queue.find_file("f2") is not None


async def test_the_files_of_a_result_end_when_their_request_said(queue: Queue, clock: Any, submit: Any) -> None:
    for lifetime in (60.0, None):
        await submit(file_lifetime=lifetime)
        claim = await queue.claim("w", "training")
        assert claim is not None
        clock.advance(1)
        await queue.complete(claim, {}, [replace(FILE, id=f"f{lifetime}")])
    assert (await queue.find_file("fNone")) is not None
    ends = await queue.find_file("f60.0")
    assert ends is not None
    assert ends.expires_at == clock.now - 1 + 60
    clock.advance(60)
    assert await queue.find_file("f60.0") is None
    assert await queue.find_file("fNone") is not None
