from __future__ import annotations

import time

import pytest

from tintype.files import new_file_id
from tintype.queue.records import StoredFile
from tintype.web.housekeeping import remove_expired
from tintype.web.services import Services


@pytest.mark.anyio
async def test_expired_files_go_with_their_bytes_and_others_stay(settings, queue):
    services = await Services.open(settings, queue)
    now = time.time()
    for index in range(120):
        file = StoredFile(new_file_id(), f"{index}.zip", "x/y", 1, now, expires_at=now - 1)
        services.objects.put_bytes(file.key, b"x")
        await queue.add_file(file)
    kept = StoredFile(new_file_id(), "kept.zip", "x/y", 1, now, expires_at=now + 1000)
    services.objects.put_bytes(kept.key, b"x")
    await queue.add_file(kept)
    assert await remove_expired(services) == 120
    assert [path.name for path in (settings.data_dir / "files").glob("*/*")] == ["kept.zip"]
    assert await queue.expired_files() == []
    assert await remove_expired(services) == 0
