"""What is forgotten is in no table any more, on any database."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from tintype.errors import BadRequest, InternalError
from tintype.files import internal_url
from tintype.store import Ending, LogLine, NewModel, NewRequest, Store, StoredFile, schema

pytestmark = pytest.mark.anyio

PHOTOS = StoredFile("p" * 32, "secret.zip", "application/zip", 10, 1.0)
LORA = StoredFile("l" * 32, "secret.safetensors", "application/octet-stream", 10, 1.0)


async def _all_rows(store: Store) -> str:
    async with store._database._read() as connection:
        return "\n".join(
            [str((await connection.execute(sa.select(table))).all()) for table in schema.metadata.tables.values()]
        )


@pytest.mark.parametrize("fails", [False, True])
async def test_no_table_holds_what_was_forgotten(store: Store, fails: bool) -> None:
    await store.files.add(PHOTOS)
    new = NewRequest(
        "a/b",
        "training",
        {"images_data_url": internal_url(PHOTOS.id, PHOTOS.file_name), "prompt": "secret"},
        affinity="base secret",
        digest="secret",
        tags={"who": "secret"},
        webhook_url="https://secret.example/secret",
        file_acl={"default": "hide", "rules": [{"user": "secret", "decision": "allow"}]},
        notes=("'secret' is not an input",),
        makes_model=NewModel("My secret"),
    )
    request, _ = await store.requests.submit(new)
    lines = [LogLine(0, 1.0, "INFO", "a secret caption")]
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.heartbeat(claim, metrics={"secret": 1.0}, logs=lines)
    with pytest.raises(BadRequest, match="has not ended"):
        await store.payloads.forget(request.id, [], {})
    await store.leases.release(claim, Ending.DIED, "a secret trace")
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    if fails:
        await store.leases.fail(claim, InternalError("secret").failure(), logs=lines)
    else:
        output = {"diffusers_lora_file": {"url": internal_url(LORA.id, LORA.file_name)}, "config_file": {}}
        await store.leases.complete(claim, output, [LORA], logs=lines)
    assert "secret" in await _all_rows(store)

    ended = await store.requests.get(request.id)
    assert ended is not None
    files, held = await store.payloads.files_of(ended)
    assert ({file.id for file in files}, held) == ({PHOTOS.id, LORA.id} - ({LORA.id} if fails else set()), [])
    receipt = {"things": [{"kind": "input"}]}
    forgotten = await store.payloads.forget(request.id, held, receipt)
    for file in files:
        await store.files.remove(file.id)
    await store.payloads.scrub()
    assert "secret" not in await _all_rows(store)
    assert forgotten is not None
    assert (forgotten.is_erased, forgotten.receipt, forgotten.outcome) == (True, receipt, ended.outcome)
    with pytest.raises(BadRequest, match="not kept"):
        await store.requests.retry(request.id) if fails else await store.webhooks.replay(request.id)
    assert await store.payloads.forget("no-such", [], {}) is None


async def test_an_upload_that_others_still_read_is_held(store: Store, submit: Any) -> None:
    await store.files.add(PHOTOS)
    named = {"images_data_url": internal_url(PHOTOS.id, PHOTOS.file_name)}
    first = await submit(input=named)
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    await store.leases.complete(claim, {}, [])
    second = await submit(input={"deep": [named]})
    assert [[file.id for file in part] for part in await store.payloads.files_of(first)] == [[], [PHOTOS.id]]
    await store.payloads.forget(first.id, [PHOTOS], {})
    await store.requests.cancel(second.id)
    assert await store.files.find(PHOTOS.id) is not None
    forgotten = await store.requests.get(first.id)
    assert forgotten is not None
    files, held = await store.payloads.files_of(forgotten)  # its input is gone, and still it is known
    assert ([file.id for file in files], held) == ([PHOTOS.id], [])
