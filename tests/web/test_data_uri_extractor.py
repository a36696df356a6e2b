from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tintype.errors import PayloadTooLarge
from tintype.files.spool import Spool
from tintype.web.data_uri_extractor import LONGEST_INLINE, MOST_REST, DataUriExtractor

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("data:,x"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def sift(body: bytes, folder: Path, size: int = 1000) -> DataUriExtractor:
    extractor = DataUriExtractor(lambda: Spool(folder, limit=10**9))
    for at in range(0, len(body), size):
        extractor.feed(body[at : at + size])
    extractor.finish()
    return extractor


@given(JSON, st.integers(1, 20), st.booleans())
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_without_long_files_passes_byte_for_byte(tmp_path: Path, value: Any, size: Any, ascii_only: Any) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert bytes(sift(body, tmp_path, size).rest) == body


@given(st.binary(max_size=40), st.integers(1, 20))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_json_pass_too(tmp_path: Path, body: Any, size: Any) -> None:
    assert bytes(sift(body, tmp_path, size).rest) == body


@pytest.mark.parametrize("size", [7, 4096, 10**9])
def test_long_data_uris_leave_placeholders_and_are_whole_on_disk(tmp_path: Path, size: int) -> None:
    long = "data:application/zip;base64," + base64.b64encode(bytes(range(256)) * 600).decode()
    value: dict[str, Any] = {"a": long, "b": ["x", {"c": long + "=", "d": 'say "data:" \\'}], "short": "data:,x"}
    extractor = sift(json.dumps(value).encode(), tmp_path, size)
    parsed = json.loads(bytes(extractor.rest))
    assert len(extractor.rest) < 1000
    assert extractor.spools[parsed["a"]].path.read_text() == long
    assert extractor.spools[parsed["b"][1]["c"]].path.read_text() == long + "="
    assert parsed["b"][1]["d"] == value["b"][1]["d"]
    assert parsed["short"] == "data:,x"
    extractor.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 7, 10**9])
def test_blanks_before_a_long_data_uri_go_and_blanks_alone_are_text(tmp_path: Path, size: int) -> None:
    long = "data:;base64," + "A" * LONGEST_INLINE
    value = {
        "a": f" \n\t\r {long}",
        "b": " " * (LONGEST_INLINE + 9),
        "c": " \n" * LONGEST_INLINE + "dat",
        "d": " data: ",
    }
    extractor = sift(json.dumps(value).encode(), tmp_path, size)
    parsed = json.loads(bytes(extractor.rest))
    assert extractor.spools[parsed.pop("a")].path.read_text() == long
    assert parsed == {name: text for name, text in value.items() if name != "a"}
    extractor.discard()


@pytest.mark.parametrize("size", [1, 3, 4096])
def test_json_escapes_in_a_long_data_uri_are_undone(tmp_path: Path, size: int) -> None:
    text = "data:text/plain," + 'a/b"c\\d\n\u20ac' * (LONGEST_INLINE // 8)
    body = json.dumps({"x": text}).replace("/", "\\/").encode()
    extractor = sift(body, tmp_path, size)
    (spool,) = extractor.spools.values()
    assert spool.path.read_text() == text
    assert list(json.loads(bytes(extractor.rest))) == ["x"]
    extractor.discard()


def test_a_body_that_ends_within_a_string_is_left_to_the_parser(tmp_path: Path) -> None:
    extractor = sift(b'{"a": "data:,' + b"x" * 100, tmp_path)
    with pytest.raises(json.JSONDecodeError):
        json.loads(bytes(extractor.rest))
    cut = sift(b'{"a": "data:,' + b"x" * 100_000, tmp_path)
    with pytest.raises(json.JSONDecodeError):
        json.loads(bytes(cut.rest))
    cut.discard()
    assert not list(tmp_path.iterdir())


def test_json_that_is_large_beside_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadTooLarge):
        sift(b'{"a": "' + b"x" * (MOST_REST + 1), tmp_path, 1024 * 1024)
