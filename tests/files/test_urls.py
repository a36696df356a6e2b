from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tintype.files.urls import (
    internal_url,
    is_file_id,
    new_file_id,
    own_file,
    own_reference,
    public_url,
    render,
    safe_file_name,
)


def test_ids_are_url_safe_and_carry_at_least_128_random_bits() -> None:
    ids = {new_file_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(id_) * 6 >= 128 and is_file_id(id_) for id_ in ids)
    assert set("".join(ids)) <= set(string.ascii_letters + string.digits + "-_")


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("photos.zip", "photos.zip"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\me.jpg", "me.jpg"),
        ("my photos (1).tar.gz", "my_photos_1_.tar.gz"),
        ("фото.zip", "фото.zip"),
        ("...", "file"),
        ("", "file"),
        (None, "file"),
        ("a\0b\nc.zip", "a_b_c.zip"),
        (".hidden", "hidden"),
        ("a%2Fb.zip", "a_2Fb.zip"),
    ],
)
def test_file_names_lose_everything_dangerous_and_keep_their_suffix(given_name: str | None, kept: str) -> None:
    assert safe_file_name(given_name) == kept


def test_a_very_long_name_keeps_its_suffix() -> None:
    name = safe_file_name("ä" * 500 + ".safetensors")
    assert name.endswith(".safetensors")
    assert len(name.encode()) <= 200


@given(st.text())
def test_any_name_becomes_one_that_is_safe_and_stays_the_same(name: Any) -> None:
    safe = safe_file_name(name)
    assert safe == safe_file_name(safe)
    assert safe not in ("", ".", "..")
    assert "/" not in safe
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 255
    id_ = new_file_id()
    assert own_file(public_url("http://h", id_, safe), {"h"}.__contains__) == (id_, safe)
    assert own_file(internal_url(id_, safe), {"h"}.__contains__) == (id_, safe)
    assert own_reference(internal_url(id_, safe)) == own_reference(internal_url(id_, safe, until=9)) == (id_, safe)


OURS = {"127.0.0.1", "::1", "v3.fal.media", "h"}.__contains__


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8787/cdn/files/ID/a.zip",
        "http://127.0.0.1:1/files/ID/a.zip",
        "http://[::1]:8787/files/ID/a.zip",
        "https://v3.fal.media/files/ID/a.zip",
        "HTTP://H./files/ID/a.zip?x=1#y",
        "http://somebody:secret@h/files/ID/a.zip",
        "http://example.com@h/files/ID/a.zip",
        "http://h/%66iles/ID/a%2Ezip",
        "tintype:files/ID/a.zip",
        "TINTYPE:Files/ID/a.zip",
        "tintype:files/ID/a.zip?until=17",
    ],
)
def test_files_of_this_server_are_known_by_its_names_alone(url: str) -> None:
    id_ = new_file_id()
    assert own_file(url.replace("ID", id_), OURS) == (id_, "a.zip")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/files/ID/a.zip",
        "http://h@example.com/files/ID/a.zip",
        "http://h:1@example.com:2/files/ID/a.zip",
        "http://example.com/http://h/files/ID/a.zip",
        "http://example.com/?x=http://h/files/ID/a.zip",
        "http://example.com/#@h/files/ID/a.zip",
        "http://h.example.com/files/ID/a.zip",
        "http://[::2]/files/ID/a.zip",
        "http://127.0.0.2/files/ID/a.zip",
        "//h/files/ID/a.zip",
        "http:/files/ID/a.zip",
        "http:///files/ID/a.zip",
        " tintype:files/ID/a.zip",
        "tintype :files/ID/a.zip",
        "tintype:files/ID/a.zip ",
        "tintype:files/ID/a.zip#x",
        "tintype:files/ID/a.zip?until=x",
        "tintype:files/ID/../a.zip",
        "tintype:files//ID/a.zip",
        "tintype%3Afiles/ID/a.zip",
        "file:files/ID/a.zip",
    ],
)
def test_whatever_else_looks_like_a_file_of_this_server_is_foreign(url: str) -> None:
    assert own_file(url.replace("ID", new_file_id()), OURS) is None


def test_own_files_are_recognised_only_by_a_whole_id() -> None:
    id_ = new_file_id()
    for url in (
        f"http://h/files/{id_}/../a.zip",
        f"http://h/files/{id_}/..%2F..%2Fa",
        f"http://h/files/{id_[:-1]}/a.zip",
        "https://v3.fal.media/files/monkey/abc_lora.safetensors",
        f"ftp://h/files/{id_}/a.zip",
        "tintype:files/../../etc/passwd",
        "http://[broken/files/x/y",
        f"data:text/plain,/files/{id_}/a.zip",
    ):
        assert own_file(url, lambda host: True) is None, url


def test_rendering_turns_whole_references_anywhere_into_urls_and_nothing_else() -> None:
    id_ = new_file_id()
    output = {
        "file": {"url": internal_url(id_, "ü.png")},
        "list": [internal_url(id_, "b.png"), 1, None, True],
        "prompt": f"a picture of {internal_url(id_, 'b.png')}",
        "odd": "tintype:files/not-one",
    }
    assert render(output, "https://my.host") == {
        "file": {"url": f"https://my.host/cdn/files/{id_}/%C3%BC.png"},
        "list": [f"https://my.host/cdn/files/{id_}/b.png", 1, None, True],
        "prompt": output["prompt"],
        "odd": output["odd"],
    }
