"""What is trained as text, from files of one caption and from files of all, as other trainers write them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from tintype.dataset.captions import Caption, caption_of, key_of, read_caption, read_table


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_captions_are_read_in_any_common_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Zoë,  in a\r\ncafé \n".encode(encoding))
    assert read_caption(tmp_path / "a.txt") == "Zoë, in a café"


def test_bytes_of_no_encoding_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\x81 \x8d\x00")
    assert read_caption(tmp_path / "a.txt").startswith("caf")
    assert "\0" not in read_caption(tmp_path / "a.txt")


def test_half_a_character_of_utf16_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("TOK".encode("utf-16") + b"\x00")
    assert "T" in read_caption(tmp_path / "a.txt")


def test_names_that_computers_write_differently_are_one_name() -> None:
    assert key_of("in/IMG_1.JPG") == key_of("in/img_1.txt")
    assert key_of(unicodedata.normalize("NFD", "Zoë.jpg")) == key_of("Zoë.txt")
    assert key_of("in/a.jpg") != key_of("a.txt")


def test_the_trigger_replaces_its_token_everywhere() -> None:
    assert caption_of("[trigger] and [trigger]", "TOK") == Caption("TOK and TOK", "file")


def test_a_photo_without_a_caption_is_the_trigger_alone() -> None:
    assert caption_of(None, " TOK ") == Caption("TOK", "trigger")
    assert caption_of("  ", "TOK") == Caption("TOK", "trigger")


def test_without_caption_and_trigger_one_neutral_sentence_is_trained() -> None:
    assert caption_of(None, None) == Caption("a photo of a person", "neutral")
    assert caption_of(None, "") == Caption("a photo of a person", "neutral")


def test_without_a_trigger_its_token_is_not_trained_as_a_word() -> None:
    assert caption_of("[trigger] smiling", None).text == "a person smiling"


def test_a_written_caption_states_the_framing_of_its_cut() -> None:
    caption = caption_of("a photo of [trigger] in a garden.", "TOK")
    assert caption.framed("head") == "a photo of TOK in a garden, close-up"
    assert caption.framed("bust").endswith("garden, head and shoulders")
    assert caption.framed("full").endswith("garden, full body")
    assert caption.framed(None) == caption.text


def test_nothing_is_added_to_a_trigger_alone() -> None:
    assert caption_of(None, "TOK").framed("head") == "TOK"
    assert caption_of(None, None).framed("head") == "a photo of a person"


@pytest.mark.parametrize("said", ["close-up of TOK", "TOK, full body shot", "a Headshot of TOK", "TOK, waist-up"])
def test_a_caption_that_states_its_framing_is_left_as_it_is(said: str) -> None:
    caption = caption_of(said, "TOK")
    assert caption.states_framing
    assert caption.framed("head") == said


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
    assert [problem.split(" ")[:2] for problem in table.problems] == [["line", str(n)] for n in (2, 3, 4, 5)]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' * 50_000, b"null", b"9" * 5000])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_nonsense_has_no_captions_and_no_crash(tmp_path: Path, name: str, content: bytes) -> None:
    assert captions(tmp_path, content, name) == {}


@pytest.mark.parametrize("nowhere", [".", "/", "./", "\\\\"])
def test_a_path_to_nothing_names_no_picture(tmp_path: Path, nowhere: str) -> None:
    (tmp_path / "file").write_text(json.dumps({"file_name": nowhere, "text": "one"}))
    table = read_table(tmp_path / "file", "metadata.jsonl")
    assert (table.captions, table.problems) == ({}, ["line 1 names no picture"])
