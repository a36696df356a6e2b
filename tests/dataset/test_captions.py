"""What is trained as text."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tintype.dataset.captions import Caption, caption_of, key_of, read_caption


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
