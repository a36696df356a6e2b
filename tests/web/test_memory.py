from __future__ import annotations

from tintype.web.memory import Answer, Remembered


def test_an_answer_holds_for_its_version_and_time_only():
    remembered = Remembered()
    remembered.put(("a",), Answer(version=3, until=10.0, code=202, body=b"x"))
    assert remembered.get(("a",), 3, 9.0) is not None
    assert remembered.get(("a",), 4, 9.0) is None
    assert remembered.get(("a",), 3, 11.0) is None
    assert remembered.get(("b",), 3, 9.0) is None


def test_memory_stays_within_its_bytes_and_keeps_what_was_asked_last():
    remembered = Remembered(most_bytes=100)
    for name in "abc":
        remembered.put((name,), Answer(1, 10.0, 200, b"x" * 40))
        remembered.get(("a",), 1, 0.0)
    assert [remembered.get((name,), 1, 0.0) is not None for name in "abc"] == [True, False, True]
    for version in range(50):
        remembered.put(("a",), Answer(version, 10.0, 200, b"x" * 60))
    assert remembered.get(("a",), 49, 0.0) is not None
    remembered.put(("big",), Answer(1, 10.0, 200, b"x" * 500))
    assert remembered.get(("big",), 1, 0.0) is None
