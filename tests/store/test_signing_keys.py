from __future__ import annotations

import asyncio

import pytest
from tests.support.clock import Clock

from tintype.store import Store
from tintype.store.webhooks import CACHED_SECONDS, signing_key

pytestmark = pytest.mark.anyio


async def test_the_first_key_is_made_once_for_all_processes(shared_url: str) -> None:
    stores = [await Store.open(shared_url) for _ in range(2)]
    known = await asyncio.gather(*(store.webhooks.signing_keys() for store in stores * 3))
    for store in stores:
        await store.close()
    assert len({key.seed for keys in known for key in keys}) == 1


async def test_a_new_key_signs_when_every_receiver_knows_it_and_the_old_one_stays_to_be_checked(
    store: Store, clock: Clock
) -> None:
    [old] = await store.webhooks.signing_keys()
    clock.advance(1.0)
    new = await store.webhooks.rotate_signing_key()

    def signs() -> str:
        return signing_key(keys, clock.now).id

    keys = await store.webhooks.signing_keys()
    assert [key.id for key in keys] == [old.id, new.id]
    assert signs() == old.id
    clock.advance(CACHED_SECONDS)
    keys = await store.webhooks.signing_keys()
    assert ([key.id for key in keys], signs()) == ([old.id, new.id], new.id)
    clock.advance(CACHED_SECONDS)
    keys = await store.webhooks.signing_keys()
    assert ([key.id for key in keys], signs()) == ([new.id], new.id)


async def test_a_stolen_key_is_gone_at_once(store: Store) -> None:
    await store.webhooks.signing_keys()
    new = await store.webhooks.rotate_signing_key(at_once=True)
    assert await store.webhooks.signing_keys() == [new]
