"""A prompt reaches the model in the words it was trained on, whoever writes them, and whatever it says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st
from tests.support.captions import verify

from tintype.inference.prompts import LONGEST_TEXT, MOST_TEXTS, RULE, against, by_rule, prepare, quoted
from tintype.models.ideogram4.captions import wrap

CAPTION = wrap("a red hat").line()


def test_a_sentence_is_wrapped_exactly_as_plain_captions_are_for_training() -> None:
    sentence = "a portrait of a person, blue shirt, yellow background"
    prompt = prepare(sentence, expand=True)
    assert (prompt.text, prompt.by, prompt.notes) == (wrap(sentence).line(), RULE, ())
    assert prompt.line == f"Prompt expanded by rule: {prompt.text}"


def test_without_expansion_a_sentence_is_left_as_it_is() -> None:
    prompt = prepare("a red hat ", expand=False)
    assert (prompt.text, prompt.by) == ("a red hat ", None)
    assert prompt.line == "Prompt as given: a red hat "


@pytest.mark.parametrize("expand", [True, False])
def test_a_caption_in_the_schema_is_only_made_canonical(expand: bool) -> None:
    spread = json.dumps(dict(reversed(json.loads(CAPTION).items())), indent=2)
    prompt = prepare(spread, expand=expand)
    assert (prompt.text, prompt.by) == (CAPTION, None)


def test_quoted_words_become_texts_of_their_own() -> None:
    caption = json.loads(by_rule('a poster, "SALE" above \u201cToday  only\u201d and "SALE" again'))
    elements = caption["compositional_deconstruction"]["elements"]
    assert [element["type"] for element in elements] == ["obj", "text", "text"]
    assert [element.get("text") for element in elements[1:]] == ["SALE", "Today only"]
    assert caption["high_level_description"].startswith("a poster")


@pytest.mark.parametrize(
    ("sentence", "texts"),
    [
        ("nothing", []), ('an open " quote', []), ('""', []), ('"  "', []), ("it's a dog's life", []),
        ("\u00abBonjour\u00bb", ["Bonjour"]), ("\u201eHallo\u201c", ["Hallo"]), ('"a" "b"', ["a", "b"]),
        (f'"{"x" * (LONGEST_TEXT + 1)}"', []),
    ],
)  # fmt: skip
def test_what_counts_as_quoted(sentence: str, texts: list[str]) -> None:
    assert quoted(sentence) == texts


def test_a_page_of_dialogue_is_not_all_lettering() -> None:
    assert len(quoted(" ".join(f'"{number}"' for number in range(50)))) == MOST_TEXTS


def test_what_begins_like_json_and_is_none_is_a_sentence_with_a_note() -> None:
    prompt = prepare("{red|blue} hat", expand=True)
    assert json.loads(prompt.text)["high_level_description"] == "{red|blue} hat"
    assert "taken as a sentence" in prompt.notes[0]


def test_a_writers_caption_is_drawn_in_canonical_form_under_its_name() -> None:
    asked = []

    def writer(idea: str, width: int, height: int) -> str:
        asked.append((idea, width, height))
        return json.dumps(json.loads(CAPTION), indent=1)

    prompt = prepare("hat", expand=True, size=(832, 1248), writer=writer, name="Qwen3-VL")
    assert (prompt.text, prompt.by) == (CAPTION, "Qwen3-VL")
    assert asked == [("hat", 832, 1248)]
    assert prompt.line.startswith("Prompt expanded by Qwen3-VL: ")
    assert prepare("hat", expand=False, writer=writer).by is None
    assert prepare(CAPTION, expand=True, writer=writer).by is None
    assert len(asked) == 1


@pytest.mark.parametrize("nonsense", ["{", "", "I cannot help with that.", '{"unknown": 1}', "[1, 2]", "\0"])
def test_where_a_writer_fails_the_rule_takes_its_place_and_the_log_says_so(nonsense: str) -> None:
    prompt = prepare("a hat", expand=True, writer=lambda *_: nonsense, name="Qwen3-VL")
    assert (prompt.text, prompt.by) == (wrap("a hat").line(), RULE)
    assert "Qwen3-VL" in prompt.notes[0]


TRIGGER = "a photo in my custom style"


def test_what_calls_a_lora_is_said_in_the_captions_words_or_the_rule_says_it() -> None:
    def prepared(prompt: str, written: str, triggers: tuple[str, ...] = (TRIGGER,)) -> str | None:
        writing = wrap("x").line().replace('"x"', f'"{written}"')
        return prepare(prompt, expand=True, writer=lambda *_: writing, name="Qwen3-VL", triggers=triggers).by

    asked = "A photo in my custom style, at sea"
    assert prepared(asked, "Waves; a photo in my custom style.") == "Qwen3-VL"
    assert prepared(asked, "Waves in a custom style.") == RULE
    assert prepared("a boat at sea", "Waves.") == "Qwen3-VL", "the prompt does not call it"
    assert prepared(asked, "Waves.", ()) == "Qwen3-VL"
    assert prepared("ohwx at sea", "Waves.", ("", "tok", "ohwx")) == RULE
    assert prepared("ohwxes at sea", "Waves.", ("ohwx",)) == "Qwen3-VL", "another word"
    refused = prepare(asked, expand=True, writer=lambda *_: wrap("x").line(), name="Qwen3-VL", triggers=(TRIGGER,))
    assert refused.text == wrap(asked).line()
    assert any(TRIGGER in note for note in refused.notes)


@given(st.text(max_size=200), st.booleans())
def test_no_prompt_is_an_error_and_what_is_expanded_is_a_canonical_caption(text: str, expand: bool) -> None:
    prompt = prepare(text, expand=expand)
    if prompt.by == RULE:
        assert "\n" not in prompt.text
        assert [problem for problem in verify(prompt.text) if "no high_level_description" not in problem] == []


@pytest.mark.parametrize(
    ("negative", "prompt", "left", "overruled"),
    [
        ("", "a red hat", "", ()),
        (" , ;\n", "a red hat", "", ()),
        ("glasses, rain", "a red hat", "glasses, rain", ()),
        ("Red  Hat; rain", "a person, red hat", "rain", ("Red  Hat",)),
        ("hat", "a hatter", "hat", ()),
        ("red hat", "a red scarf and a blue hat", "red hat", ()),
        ("hat, hat", "hat", "", ("hat", "hat")),
        ("MÜTZE", "eine Mütze", "", ("MÜTZE",)),
        ("hat", '{"high_level_description":"a hat"}', "", ("hat",)),
    ],
)
def test_what_the_prompt_names_is_taken_out(negative: str, prompt: str, left: str, overruled: tuple[str, ...]) -> None:
    kept = against(negative, prompt)
    assert (kept.text, kept.overruled) == (left, overruled)
    assert bool(kept.notes) == bool(overruled)
    assert all(part in " ".join(kept.notes) for part in overruled)
