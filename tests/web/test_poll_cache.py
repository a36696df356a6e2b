from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Scope

from tintype.store.keys import REMEMBERED_SECONDS
from tintype.web import poll_cache as memory
from tintype.web.poll_cache import CachedStatus, Poll, ReplayCache, StatusCache, poll_of

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "scheme": "http", "path": "/queue/a/b/requests/x/status",
         "query_string": b"logs=1", "headers": [(b"host", b"h"), (b"authorization", b"Key a")]}  # fmt: skip


def poll(scope: Scope) -> Poll:
    found = poll_of(scope)
    assert found is not None
    return found


def test_an_answer_holds_for_its_version_and_time_only() -> None:
    remembered = StatusCache()
    remembered.put(("a",), CachedStatus(version=3, until=10.0, code=202, body=b"x"))
    assert remembered.get(("a",), 3, 9.0) is not None
    assert remembered.get(("a",), 4, 9.0) is None
    assert remembered.get(("a",), 3, 11.0) is None
    assert remembered.get(("b",), 3, 9.0) is None


def test_memory_stays_within_its_bytes_and_keeps_what_was_asked_last() -> None:
    remembered = StatusCache(most_bytes=100)
    for name in "abc":
        remembered.put((name,), CachedStatus(1, 10.0, 200, b"x" * 40))
        remembered.get(("a",), 1, 0.0)
    assert [remembered.get((name,), 1, 0.0) is not None for name in "abc"] == [True, False, True]
    for version in range(50):
        remembered.put(("a",), CachedStatus(version, 10.0, 200, b"x" * 60))
    assert remembered.get(("a",), 49, 0.0) is not None
    remembered.put(("big",), CachedStatus(1, 10.0, 200, b"x" * 500))
    assert remembered.get(("big",), 1, 0.0) is None


def test_a_poll_is_repeated_only_if_all_of_it_is_the_same() -> None:
    repeated = ReplayCache()
    repeated.put(poll(SCOPE), "x", CachedStatus(3, 100.0, 202, b"body"), [(b"a", b"b")], now=10.0)
    told = repeated.get(poll(SCOPE), 10.5)
    assert (told.request_id, told.version) == ("x", 3)
    assert [message.get("status") or message["body"] for message in told.messages] == [202, b"body"]
    name: str
    other: Any
    for name, other in (
        ("scheme", "https"), ("path", SCOPE["path"] + "/"), ("query_string", b""),
        ("headers", [(b"host", b"h"), (b"authorization", b"Key b")]),
        ("headers", [*SCOPE["headers"], (b"origin", b"http://localhost")]),
    ):  # fmt: skip
        assert repeated.get(poll({**SCOPE, name: other}), 10.5) is None


def test_a_key_is_looked_at_again_and_a_place_in_the_queue_told_anew() -> None:
    repeated = ReplayCache()
    repeated.put(poll(SCOPE), "x", CachedStatus(1, 1e9, 202, b""), [], now=10.0)
    assert repeated.get(poll(SCOPE), 10.0 + REMEMBERED_SECONDS) is None
    repeated.put(poll(SCOPE), "x", CachedStatus(1, 10.2, 202, b""), [], now=10.0)
    assert repeated.get(poll(SCOPE), 10.3) is None


def test_only_looks_at_a_status_are_polls_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert poll_of({**SCOPE, "method": "POST"}) is None
    assert poll_of({**SCOPE, "path": "/queue/a/b/requests/x"}) is None
    assert poll_of({**SCOPE, "path": "/queue/a/b/requests/x/status/stream"}) is None
    monkeypatch.setattr(memory, "REPEATED_BYTES", 10_000)
    repeated = ReplayCache()
    for number in range(50):
        asked = poll({**SCOPE, "query_string": b"%d" % (number // 2)})
        repeated.put(asked, "x", CachedStatus(number, 1e9, 202, b"x" * 1000), [], now=0.0)
        assert repeated.get(asked, 0.5).version == number
        assert sum(len(told.messages[1]["body"]) for told in repeated._told.values()) <= 10_000
