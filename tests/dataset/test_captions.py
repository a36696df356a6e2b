"""What is trained as text, given what was written about a photo."""

from __future__ import annotations

import json

import pytest

from tintype.dataset.captions import Caption, caption_of, placeholders


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


@pytest.mark.parametrize("token", ["[Trigger]", "[TRIGGER]", "[tRiGgEr]"])
def test_the_token_is_replaced_in_any_case(token: str) -> None:
    assert caption_of(f"{token} smiling", "a \\1 b").text == "a \\1 b smiling"


@pytest.mark.parametrize(
    "spelling",
    [
        "{trigger}", "<trigger>", "[[trigger]]", "[trigger word]", "[trigger_phrase]", "%trigger%", "{{Trigger}}",
        "\uff3btrigger\uff3d", "[ trigger ]", r"\[trigger\]", "(trigger)", "trigger_word", "[name]", "<tok>", "{TOKEN}",
    ],
)  # fmt: skip
def test_other_spellings_stay_and_are_named(spelling: str) -> None:
    caption = caption_of(f"a photo of {spelling}, smiling", "TOK")
    assert caption.text == f"a photo of {spelling}, smiling"
    assert placeholders(caption.text) == [spelling]


@pytest.mark.parametrize("said", ["a hand on the trigger (of a gun)", "a man (smiling)", "name tag", "[x] TOK <3"])
def test_words_that_mean_what_they_say_are_no_placeholders(said: str) -> None:
    assert placeholders(said) == []


def test_a_trigger_with_quotation_marks_does_not_break_a_caption_that_is_json() -> None:
    said = caption_of('{"high_level_description": "a photo of [Trigger]"}', 'the "one"').text
    assert json.loads(said) == {"high_level_description": 'a photo of the "one"'}
