"""Who may ask, and that a copy of the database does not tell how."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tintype.store import Store

pytestmark = pytest.mark.anyio


async def test_a_key_opens_until_it_is_revoked_by_name_or_id(store: Store, clock: Any) -> None:
    key, text = await store.keys.create("laptop")
    clock.advance(1)
    other, other_text = await store.keys.create("other")
    assert text.startswith(f"{key.id}:")
    checked = await store.keys.check(text)
    assert checked is not None
    assert (checked.id, checked.name) == (key.id, "laptop")
    [revoked] = await store.keys.revoke("laptop")
    assert (revoked.id, revoked.revoked_at) == (key.id, clock.now)
    assert await store.keys.check(text) is None
    assert await store.keys.revoke("laptop") == []
    assert await store.keys.check(other_text) is not None
    await store.keys.revoke(other.id)
    assert await store.keys.check(other_text) is None
    assert [(key.name, key.revoked_at) for key in await store.keys.list()] == [
        ("laptop", clock.now),
        ("other", clock.now),
    ]


async def test_revoking_a_name_revokes_every_key_of_that_name(store: Store) -> None:
    texts = [(await store.keys.create("shared"))[1] for _ in range(2)]
    await store.keys.revoke("shared")
    assert [await store.keys.check(text) for text in texts] == [None, None]


async def test_wrong_keys_open_nothing(store: Store) -> None:
    key, text = await store.keys.create("k")
    assert await store.keys.check(text) is not None  # remembered from here on
    for wrong in (
        "",
        ":",
        key.id,
        f"{key.id}:",
        f"{key.id}:{'0' * 64}",
        f"{text}0",
        text[:-1],
        f"x{text}",
        "a\0:b",
        "ä:\ud800",
    ):
        assert await store.keys.check(wrong) is None


async def test_last_used_is_kept_to_the_minute(store: Store, clock: Any) -> None:
    _, text = await store.keys.create("k")
    used = []
    for _ in range(5):
        checked = await store.keys.check(text)
        assert checked is not None
        used.append(checked.last_used_at)
        clock.advance(25)
    assert used == [clock.now - 125] * 3 + [clock.now - 50] * 2
    assert [key.last_used_at for key in await store.keys.list()] == [clock.now - 50]


async def test_another_process_revoking_a_key_is_noticed_within_five_seconds(shared_url: str, clock: Any) -> None:
    mine, other = await Store.open(shared_url, clock=clock), await Store.open(shared_url, clock=clock)
    try:
        key, text = await mine.keys.create("k")
        assert await mine.keys.check(text) is not None
        await other.keys.revoke(key.id)
        clock.advance(5)
        assert await mine.keys.check(text) is None
    finally:
        await mine.close()
        await other.close()


async def test_the_database_does_not_hold_a_key(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    _, text = await store.keys.create("k")
    await store.close()
    content = b"".join(file.read_bytes() for file in Path(sqlite_url.split("///")[1]).parent.iterdir())
    assert text.split(":")[1].encode() not in content


async def test_a_secret_is_made_once_for_all(shared_url: str) -> None:
    stores = [await Store.open(shared_url) for _ in range(3)]
    try:
        values = await asyncio.gather(*(store.keys.secret("signing", size=48) for store in stores))
        assert len(set(values)) == 1
        assert len(values[0]) == 48
        assert await stores[0].keys.secret("another") != values[0]
    finally:
        for store in stores:
            await store.close()


async def test_keys_of_one_name_have_one_owner(store: Store) -> None:
    (one, text), (two, _), (other, _) = [await store.keys.create(name) for name in ("ada", "ada", "bob")]
    checked = await store.keys.check(text)
    assert checked is not None
    assert checked.owner == await store.keys.owner_of(two.id) != await store.keys.owner_of(other.id)
    for key_id, is_seen in ((one.id, True), (two.id, True), (other.id, False), ("nobody", False), ("\0", False)):
        for _ in range(2):  # told again from memory
            assert await store.keys.owns(one.owner, key_id) is is_seen
    assert await store.keys.owns(one.owner, "")  # made while no key was asked for
    assert await store.keys.owns("", other.id)  # asked while none is


async def test_a_key_without_a_name_is_its_own_owner(store: Store) -> None:
    (one, _), (two, _) = [await store.keys.create("") for _ in range(2)]
    assert await store.keys.owns(one.owner, one.id)
    assert not await store.keys.owns(one.owner, two.id)


async def test_an_owner_outlives_a_revoked_key(store: Store) -> None:
    (old, _), (new, _) = [await store.keys.create("ada") for _ in range(2)]
    await store.keys.revoke(old.id)
    assert await store.keys.owns(new.owner, old.id)
