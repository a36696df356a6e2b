from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tintype.errors import BadRequest, NotFound, PayloadTooLarge
from tintype.files.uploads import Upload, Uploads


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", max_bytes=100)


counted: list[int] = []


async def count(size: int) -> None:
    counted.append(size)


def begin(uploads: Uploads) -> Upload:
    return uploads.begin(file_name="a.zip", content_type="application/zip", key_id="k", lifetime=None)


@pytest.mark.anyio
async def test_parts_in_any_order_make_the_file_in_the_order_of_their_numbers(uploads: Uploads) -> None:
    upload = begin(uploads)
    etags = {
        number: await uploads.receive_part(upload, number, chunks(b"part%d" % number), count) for number in (2, 10, 1)
    }
    assert uploads.assemble(upload, etags).read_bytes() == b"part1part2part10"


@pytest.mark.anyio
async def test_an_upload_survives_a_restart(uploads: Uploads, tmp_path: Path) -> None:
    upload = begin(uploads)
    etag = await uploads.receive_part(upload, 1, chunks(b"abc"), count)
    again = Uploads(tmp_path / "uploads", max_bytes=100)
    assert again.find(upload.id) == upload
    assert again.assemble(upload, {1: etag}).read_bytes() == b"abc"


@pytest.mark.anyio
async def test_a_part_sent_again_replaces_the_earlier_one(uploads: Uploads) -> None:
    upload = begin(uploads)
    first = await uploads.receive_part(upload, 1, chunks(b"wrong"), count)
    second = await uploads.receive_part(upload, 1, chunks(b"right"), count)
    with pytest.raises(BadRequest, match="not the one with that etag"):
        uploads.assemble(upload, {1: first})
    assert uploads.assemble(upload, {1: second}).read_bytes() == b"right"


@pytest.mark.anyio
async def test_a_missing_part_and_unnamed_parts_are_refused(uploads: Uploads) -> None:
    upload = begin(uploads)
    etag = await uploads.receive_part(upload, 1, chunks(b"abc"), count)
    with pytest.raises(BadRequest, match="Part 2 was not received"):
        uploads.assemble(upload, {1: etag, 2: etag})
    with pytest.raises(BadRequest, match="No parts"):
        uploads.assemble(upload, {})
    with pytest.raises(BadRequest, match="between 1"):
        await uploads.receive_part(upload, 0, chunks(b""), count)


@pytest.mark.anyio
async def test_all_parts_together_stay_within_the_limit(uploads: Uploads) -> None:
    upload = begin(uploads)
    await uploads.receive_part(upload, 1, chunks(b"x" * 60), count)
    await uploads.receive_part(upload, 1, chunks(b"x" * 60), count)
    with pytest.raises(PayloadTooLarge):
        await uploads.receive_part(upload, 2, chunks(b"x" * 60), count)
    assert counted[-2:] == [60, 60]


@pytest.mark.parametrize("upload_id", ["", "x", "../../etc", "A" * 32])
def test_an_unknown_upload_is_not_found(uploads: Uploads, upload_id: str) -> None:
    with pytest.raises(NotFound):
        uploads.find(upload_id)


@pytest.mark.anyio
async def test_abandoned_uploads_go_and_living_ones_stay(uploads: Uploads) -> None:
    stale, living = begin(uploads), begin(uploads)
    await uploads.receive_part(stale, 1, chunks(b"abc"), count)
    spool = uploads.spool()
    spool.finish()
    leftover = spool.path
    old = time.time() - 1000
    for path in (leftover, leftover.parent.parent / stale.id):
        os.utime(path, (old, old))
    assert uploads.discard_stale(500) == 2
    assert uploads.find(living.id) == living
    with pytest.raises(NotFound):
        uploads.find(stale.id)
    with pytest.raises(NotFound):
        await uploads.receive_part(stale, 2, chunks(b"abc"), count)


@pytest.mark.anyio
async def test_parts_sent_together_and_twice_are_all_kept_once(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", max_bytes=1_000_000)
    upload = begin(uploads)
    etags: dict[int, str] = {}

    async def send(number: int) -> None:
        etags[number] = await uploads.receive_part(upload, number, chunks(b"%04d" % number * 1000), count)

    async with anyio.create_task_group() as sending:
        for number in [*range(20, 0, -1), *range(1, 21)]:
            sending.start_soon(send, number)
    whole = uploads.assemble(upload, etags).read_bytes()
    assert whole == b"".join(b"%04d" % number * 1000 for number in range(1, 21))
    assert len(list((tmp_path / "uploads" / upload.id).glob("part-*"))) == 20
