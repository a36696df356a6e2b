"""Who may ask, and that a copy of the database does not tell how."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tintype.store import Queue

pytestmark = pytest.mark.anyio


async def test_a_key_opens_until_it_is_revoked_by_name_or_id(queue: Queue, clock: Any) -> None:
    key, text = await queue.create_key("laptop")
    clock.advance(1)
    other, other_text = await queue.create_key("other")
    assert text.startswith(f"{key.id}:")
    checked = await queue.check_key(text)
    assert checked is not None
    assert (checked.id, checked.name) == (key.id, "laptop")
    revoked = await queue.revoke_key("laptop")
    assert revoked is not None
    assert (revoked.id, revoked.revoked_at) == (key.id, clock.now)
    assert await queue.check_key(text) is None
    assert await queue.revoke_key("laptop") is None
    assert await queue.check_key(other_text) is not None
    await queue.revoke_key(other.id)
    assert await queue.check_key(other_text) is None
    assert [(key.name, key.revoked_at) for key in await queue.keys()] == [
        ("laptop", clock.now),
        ("other", clock.now),
    ]


async def test_revoking_a_name_revokes_every_key_of_that_name(queue: Queue) -> None:
    texts = [(await queue.create_key("shared"))[1] for _ in range(2)]
    await queue.revoke_key("shared")
    assert [await queue.check_key(text) for text in texts] == [None, None]


async def test_wrong_keys_open_nothing(queue: Queue) -> None:
    key, text = await queue.create_key("k")
    assert await queue.check_key(text) is not None  # remembered from here on
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
        assert await queue.check_key(wrong) is None


async def test_last_used_is_kept_to_the_minute(queue: Queue, clock: Any) -> None:
    _, text = await queue.create_key("k")
    used = []
    for _ in range(5):
        checked = await queue.check_key(text)
        assert checked is not None
        used.append(checked.last_used_at)
        clock.advance(25)
    assert used == [clock.now - 125] * 3 + [clock.now - 50] * 2
    assert [key.last_used_at for key in await queue.keys()] == [clock.now - 50]


async def test_another_process_revoking_a_key_is_noticed_within_five_seconds(shared_url: str, clock: Any) -> None:
    mine, other = await Queue.open(shared_url, clock=clock), await Queue.open(shared_url, clock=clock)
    try:
        key, text = await mine.create_key("k")
        assert await mine.check_key(text) is not None
        await other.revoke_key(key.id)
        clock.advance(5)
        assert await mine.check_key(text) is None
    finally:
        await mine.close()
        await other.close()


async def test_the_database_does_not_hold_a_key(sqlite_url: str) -> None:
    queue = await Queue.open(sqlite_url)
    _, text = await queue.create_key("k")
    await queue.close()
    content = b"".join(file.read_bytes() for file in Path(sqlite_url.split("///")[1]).parent.iterdir())
    assert text.split(":")[1].encode() not in content


async def test_a_secret_is_made_once_for_all(shared_url: str) -> None:
    queues = [await Queue.open(shared_url) for _ in range(3)]
    try:
        values = await asyncio.gather(*(queue.secret("signing", size=48) for queue in queues))
        assert len(set(values)) == 1
        assert len(values[0]) == 48
        assert await queues[0].secret("another") != values[0]
    finally:
        for queue in queues:
            await queue.close()


async def test_keys_of_one_name_are_namesakes(queue: Queue) -> None:
    (one, _), (two, _), (other, _) = [await queue.create_key(name) for name in ("ada", "ada", "bob")]
    assert await queue.are_namesakes(one.id, two.id)
    assert not await queue.are_namesakes(one.id, other.id)
    assert not await queue.are_namesakes(one.id, "nobody")
    assert not await queue.are_namesakes(one.id, "\0")
