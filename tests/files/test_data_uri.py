from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, strategies as st

from tintype.files.data_uri import is_data_uri, open_data_uri


def decoded(uri: bytes | str, size: int = 7) -> bytes:
    raw = uri.encode() if isinstance(uri, str) else uri
    return b"".join(open_data_uri(raw[at : at + size] for at in range(0, len(raw), size)).chunks)


@given(st.binary(), st.integers(1, 50))
def test_base64_comes_back_whatever_the_pieces(data: Any, size: Any) -> None:
    assert decoded(b"data:application/zip;base64," + base64.b64encode(data), size) == data
    assert decoded(b"data:;base64," + base64.urlsafe_b64encode(data).rstrip(b"="), size) == data


@given(st.binary(), st.integers(1, 50))
def test_percent_encoding_comes_back_whatever_the_pieces(data: Any, size: Any) -> None:
    assert decoded("data:," + quote_from_bytes(data), size) == data
    assert decoded("data:;base64," + quote_from_bytes(base64.b64encode(data), safe=""), size) == data


def test_line_breaks_and_spaces_in_base64_are_no_mistake() -> None:
    assert decoded("data:text/plain;base64, aGVs\r\n bG8= \n") == b"hello"


def test_the_header_tells_type_and_name() -> None:
    data = open_data_uri([b"DATA:application/zip;name=my%20photos.zip;BASE64,UEsDBA=="])
    assert (data.content_type, data.file_name) == ("application/zip", "my photos.zip")
    assert open_data_uri([b"data:,x"]).content_type == "text/plain"


@pytest.mark.parametrize(
    "uri",
    ["data:application/zip;base64", "data:" + "x" * 10_000, "data:;base64,aGVsb", "data:;base64,aGV$bG8=",
     "data:;base64,aGVsbG8=aGVsbG8=", "data:;base64,aGVsbG8=\naGVs", "http://x,y", ""],
)  # fmt: skip
def test_a_damaged_data_uri_is_refused_with_a_sentence(uri: str) -> None:
    with pytest.raises(ValueError, match="This data URI"):
        decoded(uri)


def test_only_data_uris_are_data_uris() -> None:
    assert is_data_uri("DATA:,x")
    assert not is_data_uri("http://data:,x")
