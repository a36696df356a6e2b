"""Which files can be downloaded, and when they are forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tintype.store import Store, StoredFile

pytestmark = pytest.mark.anyio

FILE = StoredFile("f1", "photos.zip", "application/zip", 12, 100.0, key_id="k")


async def test_a_file_is_found_by_its_id(store: Store) -> None:
    await store.files.add(FILE)
    assert await store.files.find("f1") == FILE
    assert await store.files.find("f2") is None
    assert await store.files.find("f\0") is None
    await store.files.add(replace(FILE, size=13))  # an upload that is sent again
    assert await store.files.find("f1") == replace(FILE, size=13)


async def test_an_expired_file_is_not_found_but_listed_for_removal(store: Store, clock: Any) -> None:
    short = replace(FILE, expires_at=clock.now + 10)
    await store.files.add(short)
    await store.files.add(replace(FILE, id="f2"))
    assert await store.files.find("f1") == short
    assert await store.files.expired() == []
    clock.advance(10)
    assert await store.files.find("f1") is None
    assert await store.files.expired() == [short]
    await store.files.remove("f1")
    await store.files.remove("f1")
    assert await store.files.expired() == []
    assert await store.files.find("f2") is not None


async def test_the_files_of_a_result_end_when_their_request_said(store: Store, clock: Any, submit: Any) -> None:
    for lifetime in (60.0, None):
        await submit(file_lifetime=lifetime)
        claim = await store.leases.claim("w", "training")
        assert claim is not None
        clock.advance(1)
        await store.leases.complete(claim, {}, [replace(FILE, id=f"f{lifetime}")])
    assert (await store.files.find("fNone")) is not None
    ends = await store.files.find("f60.0")
    assert ends is not None
    assert ends.expires_at == clock.now - 1 + 60
    clock.advance(60)
    assert await store.files.find("f60.0") is None
    assert await store.files.find("fNone") is not None


async def test_a_file_that_is_kept_for_less_time_ends_sooner(store: Store, clock: Any, submit: Any) -> None:
    for lifetime, ends in ((None, 30.0), (60.0, 30.0), (10.0, 10.0)):
        await submit(file_lifetime=lifetime)
        claim = await store.leases.claim("w", "training")
        assert claim is not None
        file = replace(FILE, id=f"f{lifetime}", expires_at=clock.now + 30)
        await store.leases.complete(claim, {}, [file])
        kept = await store.files.find(file.id)
        assert kept is not None
        assert kept.expires_at == clock.now + ends
