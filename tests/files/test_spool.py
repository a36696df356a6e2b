from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tintype.errors import PayloadTooLarge, StorageFull
from tintype.files.spool import Spool


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.anyio
async def test_what_is_received_is_on_disk_with_its_etag(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=10_000_000)
    await spool.receive(chunks(b"a" * 3_000_000, b"", b"bc"))
    assert spool.path.read_bytes() == b"a" * 3_000_000 + b"bc"
    assert spool.etag == f'"{hashlib.md5(spool.path.read_bytes()).hexdigest()}"'
    spool.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_a_stream_over_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=4, remedy="Do otherwise.")
    with pytest.raises(PayloadTooLarge, match="Do otherwise"):
        await spool.receive(chunks(b"abc", b"de"))
    spool.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_discarding_after_the_file_was_moved_away_harms_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=4)
    await spool.receive(chunks(b"abc"))
    spool.path.rename(tmp_path / "kept")
    spool.discard()
    assert (tmp_path / "kept").read_bytes() == b"abc"


@pytest.mark.anyio
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full to have a full disk")
async def test_a_full_disk_is_said_to_be_full_and_keeps_nothing_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_real = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda handle, mode: (os.close(handle), open_real(full(), mode))[1])
    spool = Spool(tmp_path, limit=10_000_000)
    with pytest.raises(StorageFull, match="full"):
        await spool.receive(chunks(b"a" * 3_000_000))
    spool.discard()
    assert not list(tmp_path.iterdir())


def full() -> int:
    """A disk without room."""
    return os.open("/dev/full", os.O_WRONLY)
