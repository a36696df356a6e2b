"""Ideogram 4's captions: the JSON it was trained on, and the way there from what people write.

Sentences work but are foreign to the model, keys in another order are foreign too, and a pretty-printed file is torn
apart by tools that read line by line. So every caption is brought into one canonical line. What a repair changed is
said in words for the dataset's report; what cannot be repaired without guessing is refused.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tintype.errors import InputError

#: The style's `medium` as the model knows it; others are accepted.
MEDIUMS = ("photograph", "illustration", "3d_render", "painting", "graphic_design")
_MEDIUM_NAMES = {
    "photo": "photograph", "photography": "photograph", "drawing": "illustration", "3d": "3d_render",
    "render": "3d_render", "cgi": "3d_render", "paint": "painting", "design": "graphic_design",
}  # fmt: skip
_TOP = ("high_level_description", "style_description", "compositional_deconstruction")
_OTHER_NAMES = {"colour_palette": "color_palette", "bounding_box": "bbox", "description": "desc"}
_DROPPED = ("aspect_ratio",)  # prompt writers add it; the model reads the image's size elsewhere
_SIDE = 1000  # boxes count in thousandths of the image


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


HexColor = Annotated[str, Field(pattern=r"^#[0-9A-F]{6}$")]
Box = tuple[int, int, int, int]


class Element(_Part):
    """One thing in the image. bbox: [y_min, x_min, y_max, x_max], 0-1000 from the top left."""

    type: Literal["obj", "text"] = "obj"
    bbox: Box | None = None
    text: str | None = None
    desc: str
    color_palette: list[HexColor] | None = Field(default=None, max_length=5)


class Style(_Part):
    """How it looks; exactly one of `photo` and `art_style` is there."""

    aesthetics: str | None = None
    lighting: str | None = None
    photo: str | None = None
    medium: str | None = None
    art_style: str | None = None
    color_palette: list[HexColor] | None = Field(default=None, max_length=16)


class Composition(_Part):
    """What lies behind everything, and what stands in front of it."""

    background: str = ""
    elements: list[Element] = Field(default_factory=list)


class Caption(_Part):
    """A caption in the model's own terms; fields stand in the order the model was trained on."""

    high_level_description: str | None = None
    style_description: Style | None = None
    compositional_deconstruction: Composition

    def line(self) -> str:
        """Writes the canonical text: one line, compact, keys in order, letters of every script as they are."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Canonical:
    """A caption as trained, and what had to be done to it, in words for the report."""

    text: str
    notes: tuple[str, ...] = ()
    wrapped: bool = False


def wrap(sentence: str) -> Caption:
    """Puts a plain sentence into the schema: as the summary, and as the description of the one thing to be seen."""
    plain = " ".join(sentence.split())
    return Caption(
        high_level_description=plain, compositional_deconstruction=Composition(elements=[Element(desc=plain)])
    )


def canonical(text: str, *, name: str = "caption") -> Canonical:
    """Makes the one line that is trained for what someone wrote: a sentence, or JSON of any layout.

    Raises InputError, naming `name` (the caption's file), for JSON that cannot be repaired without guessing.
    """
    stripped, notes = _unfenced(text.removeprefix("\ufeff").strip())
    if not stripped.startswith(("{", '"{', "[{")):  # no JSON
        if any(ord(letter) < 32 and letter not in "\t\n\r" for letter in stripped):
            raise _refused(name, "it contains control characters")
        return Canonical(wrap(stripped).line(), (*notes, "plain sentence, wrapped"), wrapped=True)
    loaded, repair = _loaded(stripped, name)
    notes += [repair] if repair else []
    caption = _validated(_arranged(loaded, notes, name), name)
    notes += problems_of(caption)
    return Canonical(caption.line(), tuple(dict.fromkeys(notes)))


def problems_of(caption: Caption) -> list[str]:
    """Lists what the schema asks for beyond types, and the caption lacks; it can be trained all the same."""
    found = []
    style = caption.style_description
    if style is not None:
        if (style.photo is None) == (style.art_style is None):
            found.append("style_description should have exactly one of photo and art_style")
        lacking = [field for field in ("aesthetics", "lighting", "medium") if getattr(style, field) is None]
        found += [f"style_description has no {field}" for field in lacking]
    for index, element in enumerate(caption.compositional_deconstruction.elements):
        if element.type == "text" and element.text is None:
            found.append(f"elements[{index}] is of type text but has no text")
    if not caption.high_level_description:
        found.append("no high_level_description")
    return found


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_COMMA = re.compile(rf"(?P<string>{_STRING.pattern})|,(?P<bracket>\s*[}}\]])", re.DOTALL)  # before a bracket


def _refused(name: str, why: str) -> InputError:
    return InputError(
        f"{name}: the caption cannot be read: {why}.",
        remedy="Write one JSON object in Ideogram's schema, or a plain sentence.",
    )


def _unfenced(text: str) -> tuple[str, list[str]]:
    fenced = re.fullmatch(r"```[a-zA-Z]*\s*\n?(.*?)\n?\s*```", text, re.DOTALL)
    return (fenced[1].strip(), ["code fence removed"]) if fenced else (text, [])


def _loaded(text: str, name: str) -> tuple[dict[str, Any], str]:
    """The object a text means, and what had to be repaired to see it."""
    why = "the JSON is broken"
    for repaired, note in _readings(text):
        try:
            value = json.loads(repaired, strict=False)
        except (ValueError, RecursionError) as problem:
            why = why if note else f"the JSON is broken: {problem}"
            continue
        if isinstance(value, str):  # JSON that was encoded twice
            value, note = _inner(value, name), "decoded twice"
        if isinstance(value, list) and len(value) == 1:
            value, note = value[0], "taken out of a list"
        if isinstance(value, dict):
            return value, note
        why = "it is not one JSON object"
    quoted = _python_literal(text)
    if quoted is not None:
        return quoted, "Python quotes made JSON's"
    raise _refused(name, why)


def _inner(text: str, name: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError) as problem:
        raise _refused(name, f"the JSON is broken: {problem}") from None


def _readings(text: str) -> list[tuple[str, str]]:
    """The text as it stands, then with the repairs that leave no choice."""
    without_commas = _COMMA.sub(lambda found: found["string"] or found["bracket"], text.replace("\x00", ""))
    return [
        (text, ""),
        (without_commas, "trailing comma removed"),
        (_closed(without_commas), "missing closing brackets added"),
    ]


def _closed(text: str) -> str:
    """The text with the brackets closed that are still open; unchanged where it ends within a string."""
    plain = _STRING.sub("", text)
    if '"' in plain:
        return text
    waiting: list[str] = []
    for letter in plain:
        if letter in "{[":
            waiting.append("}" if letter == "{" else "]")
        elif letter in "}]" and (not waiting or waiting.pop() != letter):
            return text
    return text.rstrip().rstrip(",") + "".join(reversed(waiting))


def _python_literal(text: str) -> dict[str, Any] | None:
    """What Python prints for a dict of strings and numbers: single quotes."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, dict) and all(isinstance(key, str) for key in value) else None


def _arranged(loaded: Mapping[str, Any], notes: list[str], name: str) -> dict[str, Any]:
    """The object with everything brought to where the schema has it; types are left to the validation."""
    top = _renamed(loaded, notes)
    if not any(key in top for key in _TOP):
        raise _refused(name, f"it has none of the keys {', '.join(_TOP)}")
    if "compositional_deconstruction" not in top:
        if not isinstance(top.get("high_level_description"), str):
            raise _refused(name, "compositional_deconstruction is missing")
        notes.append("compositional_deconstruction made from the summary")
        top["compositional_deconstruction"] = {"elements": [{"desc": top["high_level_description"]}]}
    if isinstance(style := top.get("style_description"), dict):
        top["style_description"] = _arranged_style(style, notes)
    if isinstance(composition := top["compositional_deconstruction"], dict):
        composition = _renamed(composition, notes)
        if isinstance(elements := composition.get("elements"), list):
            composition["elements"] = [_arranged_element(element, notes) for element in elements]
        top["compositional_deconstruction"] = composition
    return top


def _renamed(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Without nulls and strays, other spellings of keys in the schema's."""
    kept: dict[str, Any] = {}
    for key, value in given.items():
        if key in _DROPPED:
            notes.append(f"{key} dropped")
        elif value is not None:
            known = _OTHER_NAMES.get(key, key)
            if known != key:
                notes.append(f"{key} is spelt {known}")
            kept[known] = value
    return kept


def _arranged_style(style: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    kept = _with_palette(_renamed(style, notes), notes)
    if isinstance(medium := kept.get("medium"), str):
        plain = re.sub(r"[\s-]+", "_", medium.strip().lower())
        folded = _MEDIUM_NAMES.get(plain, plain if plain in MEDIUMS else medium)
        if folded != medium:
            notes.append(f"medium {medium} is {folded}")
        kept["medium"] = folded
    return kept


def _arranged_element(element: Any, notes: list[str]) -> Any:
    if isinstance(element, str):
        notes.append("element made from a string")
        return {"desc": element}
    if not isinstance(element, dict):
        return element
    kept = _with_palette(_renamed(element, notes), notes)
    if "type" not in kept:
        kept["type"] = "text" if "text" in kept else "obj"
        notes.append("element's type added")
    if (box := _arranged_box(kept.get("bbox"))) is not None:
        if list(box) != list(kept["bbox"]):
            notes.append("box brought into 0-1000, smaller side first")
        kept["bbox"] = box
    return kept


def _arranged_box(box: Any) -> Box | None:
    """Whole numbers within 0-1000, smaller first; None for what is no box. Which axis is which cannot be seen."""
    if not isinstance(box, list | tuple) or len(box) != 4:
        return None
    if not all(isinstance(side, int | float) and not isinstance(side, bool) and side == side for side in box):
        return None
    top, left, bottom, right = (round(min(_SIDE, max(0, side))) for side in box)
    return min(top, bottom), min(left, right), max(top, bottom), max(left, right)


def _with_palette(part: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    if isinstance(palette := part.get("color_palette"), list):
        written = [_hex(color) for color in palette]
        if written != palette:
            notes.append("colours written as #RRGGBB")
        part["color_palette"] = written
    return part


def _hex(color: Any) -> Any:
    """#RRGGBB in capitals where a colour is hexadecimal; anything else as it came, for the validation to refuse."""
    if not isinstance(color, str):
        return color
    digits = color.strip().removeprefix("#").upper()
    if re.fullmatch(r"[0-9A-F]{3}", digits):
        digits = "".join(digit * 2 for digit in digits)
    return f"#{digits}" if re.fullmatch(r"[0-9A-F]{6}", digits) else color


def _validated(arranged: Mapping[str, Any], name: str) -> Caption:
    try:
        return Caption.model_validate(arranged)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        why = f"{place} is not a key of the schema" if unknown else f"{place}: {first['msg']}"
        if first["type"] == "string_pattern_mismatch":
            why = f"{first['input']!r} is no hexadecimal colour"
        raise _refused(name, why) from None
