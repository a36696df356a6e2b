"""Captions reach the model as it was trained on them, and nothing a person wrote is guessed at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.support.captions import verify

from tintype.errors import InputError
from tintype.models.ideogram4.captions import Caption, Composition, Element, Style, canonical, wrap

GOOD = (
    '{"high_level_description":"a crown","style_description":{"aesthetics":"plain","lighting":"soft","photo":"close",'
    '"medium":"photograph","color_palette":["#AA0011"]},"compositional_deconstruction":{"background":"a wall",'
    '"elements":[{"type":"obj","bbox":[0,10,500,1000],"desc":"a crown","color_palette":["#FFD700"]},'
    '{"type":"text","text":"Grüße","desc":"a sign"}]}}'
)

words = st.text(max_size=30)
colors = st.lists(st.from_regex(r"#[0-9A-F]{6}", fullmatch=True), max_size=5)
sides = st.integers(0, 500)
boxes = st.tuples(sides, sides, sides.map(lambda side: side + 500), sides.map(lambda side: side + 500))
elements = st.one_of(
    st.builds(Element, type=st.just("obj"), bbox=st.none() | boxes, desc=words, color_palette=st.none() | colors),
    st.builds(Element, type=st.just("text"), bbox=st.none() | boxes, text=words, desc=words),
)
styles = st.one_of(
    st.builds(Style, aesthetics=words, lighting=words, photo=words, medium=st.sampled_from(["photograph", "collage"])),
    st.builds(Style, aesthetics=words, lighting=words, medium=st.just("painting"), art_style=words),
)
captions = st.builds(
    Caption,
    high_level_description=words,
    style_description=st.none() | styles,
    compositional_deconstruction=st.builds(Composition, background=words, elements=st.lists(elements, max_size=3)),
)


def shuffled(value: Any) -> Any:
    """The same object with its keys the other way round, everywhere."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_a_canonical_caption_passes_unchanged() -> None:
    assert verify(GOOD) == []
    assert canonical(GOOD).text == GOOD
    assert canonical(GOOD).notes == ()


@given(captions)
@settings(deadline=None, max_examples=60)
def test_canonical_is_idempotent_and_one_line(caption: Caption) -> None:
    line = caption.line()
    assert "\n" not in line
    again = canonical(line)
    assert again.text == line
    assert Caption.model_validate_json(again.text) == caption


@given(captions, st.sampled_from([None, 2]), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_layout_escaping_fences_and_key_order_do_not_matter(
    caption: Caption, indent: int | None, escaped: bool, fenced: bool
) -> None:
    written = json.dumps(shuffled(json.loads(caption.line())), indent=indent, ensure_ascii=escaped)
    if fenced:
        written = f"```json\n{written}\n```"
    assert canonical(written).text == caption.line()


@given(st.text(min_size=1).filter(lambda text: not text.lstrip("\ufeff \n\t").startswith(("{", "[{", '"{', "```"))))
@settings(deadline=None)
def test_any_sentence_is_wrapped_or_refused_in_words(sentence: str) -> None:
    if any(ord(letter) < 32 and letter not in "\t\n\r" for letter in sentence.removeprefix("\ufeff").strip()):
        with pytest.raises(InputError, match=r"a\.txt: .*control characters"):
            canonical(sentence, name="a.txt")
        return
    ready = canonical(sentence, name="a.txt")
    assert ready.wrapped
    said = " ".join(sentence.removeprefix("\ufeff").split())
    assert json.loads(ready.text)["high_level_description"] == said


@given(st.text(alphabet='{}[]",:abc\\ \n', max_size=60).map(lambda text: "{" + text))
@settings(deadline=None)
def test_rubbish_in_braces_never_raises_anything_but_a_refusal(text: str) -> None:
    try:
        ready = canonical(text)
    except InputError:
        return
    assert canonical(ready.text).text == ready.text


def test_a_sentence_is_the_summary_and_the_one_thing_to_see() -> None:
    line = wrap("a photo of\n TOK, smiling").line()
    assert line == (
        '{"high_level_description":"a photo of TOK, smiling","compositional_deconstruction":'
        '{"background":"","elements":[{"type":"obj","desc":"a photo of TOK, smiling"}]}}'
    )


@pytest.mark.parametrize(
    ("broken", "note"),
    [
        (GOOD.replace('"desc":"a sign"}]}}', '"desc":"a sign",},]}}'), "trailing comma removed"),
        (GOOD[:-2], "missing closing brackets added"),
        (GOOD[:-4], "missing closing brackets added"),
        (json.dumps(GOOD), "decoded twice"),
        (f"[{GOOD}]", "taken out of a list"),
        (repr(json.loads(GOOD)), "Python quotes made JSON's"),
        (GOOD.replace("#AA0011", "#a01").replace("#FFD700", "ffd700"), "colours written as #RRGGBB"),
        (GOOD.replace('"color_palette":["#AA', '"colour_palette":["#AA'), "colour_palette is spelt color_palette"),
        (GOOD.replace('"medium":"photograph"', '"medium":"Photo"'), "medium Photo is photograph"),
        (GOOD.replace('{"high', '{"aspect_ratio":"1:1","high'), "aspect_ratio dropped"),
        (GOOD.replace("[0,10,500,1000]", "[-3,10.0,500,1200]"), "box brought into 0-1000, smaller side first"),
        (GOOD.replace("[0,10,500,1000]", "[500,1000,0,10]"), "box brought into 0-1000, smaller side first"),
        (GOOD.replace('"type":"text",', ""), "element's type added"),
    ],
)
def test_what_is_unambiguous_is_repaired_and_said(broken: str, note: str) -> None:
    ready = canonical(broken)
    assert note in ready.notes
    fixed = json.loads(ready.text)
    expected = json.loads(GOOD)
    if "a01" in broken:
        expected["style_description"]["color_palette"] = ["#AA0011"]
    assert fixed == expected
    assert verify(broken) != []


def test_commas_and_brackets_inside_strings_are_left_alone() -> None:
    tricky = 'a "quoted, }" word, ] and {,}'
    line = wrap(tricky).line()
    assert canonical(line[:-2] + ",}}").text == line
    assert json.loads(canonical(line[:-1]).text)["high_level_description"] == tricky


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('{"high_level_description":"unfinished sent', "broken"),
        ('{"a":1}', "none of the keys"),
        ('{"compositional_deconstruction":{"background":"","elements":[{"type":"obj"}]}}', "elements.0.desc"),
        (GOOD.replace('"type":"obj"', '"type":"person"'), "elements.0.type"),
        (GOOD.replace('"lighting"', '"lights"'), "lights is not a key"),
        (GOOD.replace("#AA0011", "crimson"), "'crimson' is no hexadecimal colour"),
        (GOOD.replace("[0,10,500,1000]", "[0,10,500]"), "bbox"),
        (GOOD.replace('["#FFD700"]', json.dumps(["#FFD700"] * 6)), "color_palette"),
        (f"[{GOOD},{GOOD}]", "not one JSON object"),
        ('{"style_description":{}}', "compositional_deconstruction is missing"),
        ("a bell \x07", "control characters"),
    ],
)
def test_what_would_need_guessing_is_refused_by_file_and_place(bad: str, why: str) -> None:
    with pytest.raises(InputError) as problem:
        canonical(bad, name="photo_3.txt")
    assert problem.value.message.startswith("photo_3.txt: ")
    assert why in problem.value.message
    assert "plain sentence" in problem.value.message
    assert verify(bad) != []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (('"photo":"close",', '"photo":"close","art_style":"oil",'), "exactly one of photo and art_style"),
        (('"lighting":"soft",', ""), "no lighting"),
        (('"high_level_description":"a crown",', ""), "no high_level_description"),
        (('"text":"Grüße",', ""), "no text"),
    ],
)
def test_what_the_schema_advises_is_noted_but_trained(change: tuple[str, str], note: str) -> None:
    ready = canonical(GOOD.replace(*change))
    assert any(note in said for said in ready.notes)


def test_a_summary_alone_is_completed() -> None:
    ready = canonical('{"high_level_description":"a red hat"}')
    assert ready.text == wrap("a red hat").line()
    assert "compositional_deconstruction made from the summary" in ready.notes
