from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tintype.errors import InternalError
from tintype.files import new_file_id
from tintype.settings import Settings
from tintype.store.records import NewRequest, StoredFile
from tintype.store.store import Store
from tintype.web import housekeeping
from tintype.web.housekeeping import remove_ended_work, remove_expired, remove_orphans
from tintype.web.services import Services


@pytest.mark.anyio
async def test_expired_files_go_with_their_bytes_and_others_stay(settings: Settings, store: Store) -> None:
    services = await Services.open(settings, store)
    now = time.time()
    for index in range(120):
        file = StoredFile(new_file_id(), f"{index}.zip", "x/y", 1, now, expires_at=now - 1)
        services.objects.put_bytes(file.key, b"x")
        await store.files.add(file)
    kept = StoredFile(new_file_id(), "kept.zip", "x/y", 1, now, expires_at=now + 1000)
    services.objects.put_bytes(kept.key, b"x")
    await store.files.add(kept)
    assert await remove_expired(services) == 120
    assert [path.name for path in (settings.data_dir / "files").glob("*/*")] == ["kept.zip"]
    assert await store.files.expired() == []
    assert await remove_expired(services) == 0


@pytest.mark.anyio
async def test_objects_that_no_row_speaks_of_go_once_they_are_old(settings: Settings, store: Store) -> None:
    services = await Services.open(settings, store)
    known = StoredFile(new_file_id(), "known.zip", "x/y", 1, time.time())
    expired = StoredFile(new_file_id(), "expired.zip", "x/y", 1, time.time(), expires_at=1.0)
    orphan = StoredFile(new_file_id(), "orphan.zip", "x/y", 1, time.time())
    for file in (known, expired, orphan):
        services.objects.put_bytes(file.key, b"x")
    await store.files.add(known)
    await store.files.add(expired)
    assert await remove_orphans(services) == 0
    assert await remove_orphans(services, older_than=-60) == 1
    assert [services.objects.exists(file.key) for file in (known, expired, orphan)] == [True, True, False]


@pytest.mark.anyio
async def test_work_folders_go_when_nobody_can_go_on_with_them(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = await Services.open(settings, store)
    requests = {}
    for name, store_io in (("waiting", True), ("running", True), ("done", True), ("failed", True), ("secret", False)):
        requests[name], _ = await store.requests.submit(NewRequest("a/b", "training", {}, store_io=store_io))
        if name == "waiting":
            await store.requests.cancel(requests[name].id)
            await store.requests.retry(requests[name].id)
    claims = {}
    while (claim := await store.leases.claim("w", "training")) is not None:
        claims[claim.request.id] = claim
    await store.leases.complete(claims[requests["done"].id], {}, [])
    for name in ("failed", "secret"):
        await store.leases.fail(claims[requests[name].id], InternalError("It failed.").failure())
    folders = {name: settings.work_dir / request.id for name, request in requests.items()}
    folders |= {"unknown": settings.work_dir / "abandoned", "fresh": settings.work_dir / "fresh"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    os.utime(folders["unknown"], (0, 0))
    assert await remove_ended_work(services) == 3
    assert {name for name, folder in folders.items() if folder.exists()} == {"waiting", "running", "failed", "fresh"}
    monkeypatch.setattr(housekeeping, "_RETRY_SECONDS", -1.0)
    assert await remove_ended_work(services) == 1
    assert not folders["failed"].exists()


@pytest.mark.anyio
async def test_nothing_is_an_orphan_where_two_installations_keep_their_files_together(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    here = await Services.open(settings, store)
    theirs = Settings(data_dir=tmp_path / "other", storage=settings.storage_url)
    theirs.data_dir.mkdir()
    other = await Store.open(theirs.database_url)
    there = await Services.open(theirs, other)
    file = StoredFile(new_file_id(), "theirs.zip", "x/y", 1, time.time())
    there.objects.put_bytes(file.key, b"x")
    await other.files.add(file)
    assert await remove_orphans(there, older_than=-60) == 0
    assert await remove_orphans(here, older_than=-60) == 0
    assert await remove_orphans(there, older_than=-60) == 0
    assert here.objects.exists(file.key)
    await other.close()
