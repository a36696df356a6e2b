"""JSON of any shape costs little time and memory before it is refused, and half characters are named."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings, strategies as st

from tintype.errors import InputError, PayloadTooLarge
from tintype.web import body
from tintype.web.body import MOST_VALUES, _count_values, _value_of
from tintype.web.data_uri_extractor import MOST_REST, MOST_STRINGS, DataUriExtractor

MIB = 1024 * 1024
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
SHAPES = {
    "numbers": b"0,",
    "lists": b"[],",
    "objects": b"{},",
    "texts": b'"",',
    "pairs": b'{"a":0},',
    "nested": b"[[[[0]]]],",
    "escapes": b'"\\u00e9",',
    "one character of four bytes": '"\N{ROCKET}",'.encode(),
}


def count(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + count(part) for part in value.values())
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


@given(VALUES)
@settings(deadline=None, max_examples=100)
def test_values_are_never_counted_short(value: object) -> None:
    assert _count_values(json.dumps(value)) + 1 >= count(value) - json.dumps(value).count("[]")


def test_what_stands_inside_of_texts_is_no_value() -> None:
    prompt = ',[{:\\" ' * MOST_VALUES
    assert _value_of(json.dumps({"prompt": prompt}).encode()) == {"prompt": prompt}


def take(text: bytes) -> int:
    """Sifts and parses a body as it would arrive; returns how many bytes were taken until it was refused."""
    sieve = DataUriExtractor(lambda: pytest.fail("nothing here is a file"))
    for at in range(0, len(text), 64 * 1024):
        try:
            sieve.feed(text[at : at + 64 * 1024])
        except PayloadTooLarge:
            return at
    with pytest.raises(InputError, match="values"):
        _value_of(bytes(sieve.rest))
    return len(text)


def test_a_body_of_more_texts_than_any_input_has_is_refused_at_once() -> None:
    sieve = DataUriExtractor(lambda: pytest.fail("nothing here is a file"))
    with pytest.raises(PayloadTooLarge, match="texts"):
        sieve.feed(b"[" + b'"",' * (MOST_STRINGS + 1))
    sieve = DataUriExtractor(lambda: pytest.fail("nothing here is a file"))
    sieve.feed(b'{"a":"b"}' * (MOST_STRINGS // 2))


@pytest.mark.parametrize("size", [MOST_REST - 100, 16 * MIB])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_json_takes_much_memory_before_it_is_refused(shape: str, size: int) -> None:
    text = b"[" + SHAPES[shape] * (size // len(SHAPES[shape])) + b"0]"
    tracemalloc.start()
    try:
        assert take(text) <= MOST_REST
        assert tracemalloc.get_traced_memory()[1] < 8 * MOST_REST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "loc"),
    [
        (b'{"a": ["\\ud800"]}', ["body", "a", 0]),
        (b'{"a": "\xed\xa0\x80"}', ["body", "a"]),
        (b'{"\\uDFFF": 1}', ["body"]),
        (b'["\\uD83D\\uDE80", "\\udc00"]', ["body", 1]),
    ],
)
def test_half_a_character_is_named_by_its_place(text: bytes, loc: list[str | int]) -> None:
    with pytest.raises(InputError) as caught:
        _value_of(text)
    assert caught.value.details[0]["loc"] == loc
    assert caught.value.details[0]["type"] == "string_unicode"


def test_whole_characters_pass_however_they_are_written() -> None:
    assert _value_of(b'["\\uD83D\\uDE80", "\xf0\x9f\x9a\x80"]') == ["\N{ROCKET}"] * 2
    assert _value_of('{"a": "é"}'.encode("utf-16")) == {"a": "é"}


def test_the_search_for_half_characters_is_left_out_where_there_can_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_broken_text", lambda value: pytest.fail("it was searched"))
    assert _value_of(json.dumps({"a": ["x"] * 1000}).encode()) == {"a": ["x"] * 1000}
