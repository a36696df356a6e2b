"""Captions in one file for all, as other trainers write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tintype.dataset.captions import key_of
from tintype.dataset.metadata import read_table


def captions(tmp_path: Path, content: str | bytes, name: str = "metadata.jsonl") -> dict[str, str]:
    (tmp_path / "file").write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(tmp_path / "file", name).captions


@pytest.mark.parametrize("field", ["file_name", "image", "image_path", "path"])
@pytest.mark.parametrize("text", ["text", "caption", "prompt"])
def test_json_lines_are_read_under_every_common_name(tmp_path: Path, field: str, text: str) -> None:
    lines = "\n".join(json.dumps({field: f"{n}.jpg", text: f"[trigger] {n}"}) for n in (1, 2))
    assert captions(tmp_path, lines) == {"1": "[trigger] 1", "2": "[trigger] 2"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.json", '{"a.jpg": "one"}'),
        ("meta.json", '{"a.jpg": {"caption": "one", "tags": "x"}}'),
        ("list.json", '[{"file_name": "a.jpg", "text": "one"}]'),
        ("lines.json", '{"file_name": "a.jpg", "text": "one"}'),
        ("metadata.csv", "file_name,text\r\na.jpg,one\r\n"),
        ("metadata.jsonl", "\ufeff" + '{"file_name": "a.jpg", "text": ["one", "two"]}'),
    ],
)
def test_other_forms_say_the_same(tmp_path: Path, name: str, content: str) -> None:
    assert captions(tmp_path, content, name) == {"a": "one"}


def test_names_are_relative_to_the_file_that_lists_them(tmp_path: Path) -> None:
    line = '{"file_name": "images/a.jpg", "text": "one"}'
    assert captions(tmp_path, line, "set/metadata.jsonl") == {key_of("set/images/a.jpg"): "one"}


@pytest.mark.parametrize("path", ["/home/me/set/a.jpg", "../set/a.jpg", "C:\\set\\a.jpg"])
def test_a_path_of_another_computer_matches_by_its_last_part(tmp_path: Path, path: str) -> None:
    found = captions(tmp_path, json.dumps({"image_path": path, "caption": "one"}), "set/x.jsonl")
    assert found == {key_of("set/a.jpg"): "one"}


def test_lines_that_cannot_be_used_are_named_and_the_others_count(tmp_path: Path) -> None:
    lines = ['{"file_name": "a.jpg", "text": "one"}', "not json", "[1]", '{"text": "x"}', '{"file_name": "b.jpg"}']
    (tmp_path / "file").write_text("\n".join(lines))
    table = read_table(tmp_path / "file", "metadata.jsonl")
    assert table.captions == {"a": "one"}
    assert [trouble.split(" ")[:2] for trouble in table.troubles] == [["line", str(n)] for n in (2, 3, 4, 5)]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' * 50_000, b"null", b"9" * 5000])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_nonsense_has_no_captions_and_no_crash(tmp_path: Path, name: str, content: bytes) -> None:
    assert captions(tmp_path, content, name) == {}
