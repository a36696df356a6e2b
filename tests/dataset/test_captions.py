"""What is trained as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.dataset.captions import Caption, caption_of, read_caption


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_captions_are_read_in_any_common_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Zoë,  in a\r\ncafé \n".encode(encoding))
    assert read_caption(tmp_path / "a.txt") == "Zoë, in a café"


def test_bytes_of_no_encoding_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\x81 \x8d")
    assert read_caption(tmp_path / "a.txt").startswith("caf")


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
