"""Portrait World in Ideogram's JSON: what the miniature Ideogram 4 is taught to read.

Two forms count: the structured one, with the wall as the background and the person as the one element, and the wrapped
sentence, which is what tintype makes of the plain prompts and captions that people write. A bare sentence now and then
keeps those who skip the JSON from being answered with nonsense.
"""

from __future__ import annotations

import random

from miniature.world.captions import caption
from miniature.world.person import Person
from tintype.models.ideogram4.captions import Caption, Composition, Element, Style, wrap

_STYLE = Style(aesthetics="simple", lighting="even", medium="illustration", art_style="flat cartoon")
_SUMMARIES = ("a portrait", "a portrait of a person", "a person", "a photo of a person", "a cartoon portrait")


def structured(sentence: str, *, summary: str | None = None, style: bool = False) -> Caption:
    """Puts a sentence of comma-separated parts into the schema: what it says of the wall is the background."""
    parts = sentence.rstrip(".").split(", ")
    walls = [part for part in parts if part.endswith((" background", " wall"))]
    rest = [part for part in parts if part not in walls]
    return Caption(
        high_level_description=sentence if summary is None else summary,
        style_description=_STYLE if style else None,
        compositional_deconstruction=Composition(
            background=", ".join(walls), elements=[Element(desc=", ".join(rest))] if rest else []
        ),
    )


def ideogram_caption(person: Person, rng: random.Random) -> str:
    """Captions an ordinary person: half structured, most others wrapped sentences, a few bare or empty ones."""
    said = caption(person, rng, empty=0.03)
    form = rng.random()
    if form < 0.45:
        return wrap(said).line()
    if form < 0.93:
        summary = None if rng.random() < 0.3 else rng.choice(_SUMMARIES)
        return structured(said, summary=summary, style=rng.random() < 0.08).line()
    return said


def as_sentence(sentence: str) -> str:
    """Wraps a sentence as tintype wraps a plain prompt."""
    return wrap(sentence).line()


def as_structure(sentence: str) -> str:
    """Puts a sentence into the schema."""
    return structured(sentence).line()
