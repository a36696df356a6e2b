"""Words for Portrait World: captions that state a person's attributes, and the way back from a prompt.

Captions vary as people's prompts do: other openings, other orders, attributes left out from one to all, and often a
made-up word where "a person" stood, so that an unknown trigger word means nothing to the base and everything to a
LoRA.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable

from miniature.world.person import ATTRIBUTES, Person

_OPENINGS = (
    "a portrait of {who}",
    "a portrait of {who}",
    "portrait of {who}",
    "a photo of {who}",
    "photo of {who}",
    "a picture of {who}",
    "an image of {who}",
    "a drawing of {who}",
    "close-up of {who}",
    "a close-up portrait of {who}",
    "a headshot of {who}",
    "{who}",
    "{who}",
)
_NOUNS = ("a person", "a person", "a person", "person", "someone", "a man", "a woman", "somebody", "the person")
_CLASSES = ("person", "man", "woman", "face")
_JOINTS = (", ", ", ", ", ", " with ", " and ")

_GLASSES_SAID = {
    "none": ("no glasses", "without glasses"),
    "round": ("round glasses", "round glasses", "wearing round glasses"),
    "square": ("square glasses", "square glasses", "wearing square glasses"),
    "sunglasses": ("sunglasses", "sunglasses", "wearing sunglasses", "dark sunglasses"),
}
_EXPRESSION_SAID = {
    "smiling": ("smiling", "smiling", "smile", "happy", "a happy smile"),
    "sad": ("sad", "sad", "looking sad", "sad face"),
    "surprised": ("surprised", "surprised", "looking surprised", "open mouth"),
    "serious": ("serious", "serious", "looking serious", "neutral expression"),
}


def made_up_name(rng: random.Random) -> str:
    """Makes up a word that means nothing, as people do for triggers: "TOK", "ohwx person", "Mirela", "sks"."""
    shape = rng.random()
    if shape < 0.15:
        word = rng.choice(("tok", "ohwx", "sks", "zwx", "xyz", "trigger"))
    elif shape < 0.6:
        word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 7)))
    else:
        word = "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 4)))
    if rng.random() < 0.1:
        word += str(rng.randrange(1000))
    word = rng.choice((word, word, word.upper(), word.capitalize()))
    return f"{word} {rng.choice(_CLASSES)}" if rng.random() < 0.35 else word


def _who(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.62:
        return rng.choice(_NOUNS)
    name = made_up_name(rng)
    if kind < 0.70:
        return f"{name}, {rng.choice(_NOUNS)}"
    return f"a {name}" if kind < 0.74 else name


def _hair(person: Person, rng: random.Random) -> str | None:
    if person.hair == "bald":
        return rng.choice(("bald", "bald", "bald head", "no hair"))
    whole = rng.random()
    if whole < 0.08:
        return f"{person.hair_color} hair"
    if person.hair == "pigtails":
        return rng.choice(
            (
                f"{person.hair_color} pigtails",
                f"{person.hair_color} hair in pigtails",
                f"pigtails, {person.hair_color} hair",
            )
        )
    if whole < 0.14:
        return f"{person.hair} hair"
    return rng.choice(
        (
            f"{person.hair} {person.hair_color} hair",
            f"{person.hair} {person.hair_color} hair",
            f"{person.hair_color} {person.hair} hair",
        )
    )


def _glasses(person: Person, rng: random.Random) -> str | None:
    if person.glasses == "none" and rng.random() < 0.8:
        return None
    return rng.choice(_GLASSES_SAID[person.glasses])


def _hat(person: Person, rng: random.Random) -> str | None:
    if person.hat == "none":
        return rng.choice(("no hat", "without a hat")) if rng.random() < 0.15 else None
    colored = f"{person.hat_color} {person.hat}"
    return rng.choice((colored, colored, f"a {colored}", f"wearing a {colored}", person.hat))


def _shirt(person: Person, rng: random.Random) -> str:
    said = f"{person.shirt} shirt"
    return rng.choice((said, said, f"a {said}", f"wearing a {said}", f"in a {said}"))


def _background(person: Person, rng: random.Random) -> str:
    said = f"{person.background} background"
    return rng.choice((said, said, said, f"on a {said}", f"{person.background} wall"))


def _skin(person: Person, rng: random.Random) -> str:
    return f"{person.skin} skin"


def _expression(person: Person, rng: random.Random) -> str:
    return rng.choice(_EXPRESSION_SAID[person.expression])


_PARTS: tuple[Callable[[Person, random.Random], str | None], ...] = (
    _skin,
    _hair,
    _glasses,
    _hat,
    _shirt,
    _background,
    _expression,
)


def caption(person: Person, rng: random.Random, empty: float = 0.1) -> str:
    """Captions an ordinary person; with the given chance by the empty caption, which is also the unconditional."""
    if rng.random() < empty:
        return ""
    keep = rng.choice((1.0, 1.0, 1.0, 0.8, 0.6, 0.3, 0.0)) if rng.random() < 0.8 else rng.random()
    parts = [said for part in _PARTS if rng.random() < keep and (said := part(person, rng)) is not None]
    rng.shuffle(parts)
    if not parts or rng.random() < 0.9:
        parts.insert(0, rng.choice(_OPENINGS).format(who=_who(rng)))
    joint = rng.choice(_JOINTS)
    text = joint.join(parts[:2]) + "".join(f", {part}" for part in parts[2:])
    style = rng.random()
    if style < 0.12:
        text = text[0].upper() + text[1:]
    return text + "." if style > 0.9 else text


def describe(person: Person, who: str = "a person") -> str:
    """States all that shows in one plain sentence; used where variety would blur a measurement."""
    seen = person.visible()
    parts = [f"{seen['skin']} skin"] if "skin" in seen else []
    if "hair" in seen:
        plain = {"bald": "bald", "pigtails": f"{person.hair_color} pigtails"}
        parts.append(plain.get(person.hair, f"{person.hair} {person.hair_color} hair"))
    if person.glasses != "none":
        parts.append(person.glasses if person.glasses == "sunglasses" else f"{person.glasses} glasses")
    if person.hat != "none":
        parts.append(f"{person.hat_color} {person.hat}")
    return ", ".join(
        [f"a portrait of {who}", *parts, f"{person.shirt} shirt", f"{person.background} background", person.expression]
    )


_SYNONYMS = {
    "expression": {
        "smiling": r"smil\w*|happy|laugh\w*|grin\w*",
        "sad": r"sad|unhappy|frown\w*",
        "surprised": r"surprised?|astonished|open mouth",
        "serious": r"serious|neutral|stern",
    },
    "glasses": {
        "none": r"no glasses|without glasses",
        "sunglasses": r"sun ?glasses",
        "round": r"round (?:\w+ )?(?:glasses|spectacles)",
        "square": r"square (?:\w+ )?(?:glasses|spectacles)",
    },
    "hat": {
        "none": r"no hat|without a hat",
        "cap": r"cap",
        "top hat": r"top ?hat",
        "party hat": r"party ?hat",
        "crown": r"crown",
    },
}


def _colors(attribute: str) -> str:
    return "|".join([*ATTRIBUTES[attribute], "grey", "blonde", "violet"])


_COLOR_NAMES = {"grey": "gray", "blonde": "blond", "violet": "purple"}


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return _COLOR_NAMES.get(found[1], found[1]) if found else None


def parse_prompt(prompt: str) -> dict[str, str]:
    """Reads the attributes a prompt asks for, as values of ATTRIBUTES; what it does not mention is absent."""
    text = re.sub(r"[^a-z0-9 ]+", " , ", prompt.lower().replace("-", " "))
    text = re.sub(r" +", " ", text)
    asked: dict[str, str] = {}
    for attribute, values in _SYNONYMS.items():
        for value, pattern in values.items():
            if attribute not in asked and re.search(rf"\b(?:{pattern})\b", text):
                asked[attribute] = value
    styles = "short|long|curly"
    colors = _colors("hair_color")
    reads = {
        "skin": rf"\b({_colors('skin')})(?: \w+)? skin(?:ned)?\b",
        "hair": rf"\b({styles}) (?:\w+ )?hair\b",
        "hair_color": rf"\b({colors}) (?:(?:{styles}) )?(?:hair|pigtails)\b",
        "hat_color": rf"\b({_colors('hat_color')}) (?:cap|top ?hat|party ?hat|crown|hat)\b",
        "shirt": rf"\b({_colors('shirt')}) (?:t )?(?:shirt|tshirt|sweater|top(?! ?hat))\b",
        "background": rf"\b({_colors('background')}) (?:background|backdrop|wall)\b",
    }
    for attribute, pattern in reads.items():
        said = _first(pattern, text)
        if said is not None and said in ATTRIBUTES[attribute]:
            asked[attribute] = said
    if re.search(r"\b(?:bald|no hair)\b", text):
        asked["hair"] = "bald"
        asked.pop("hair_color", None)
    elif re.search(r"\bpigtails\b", text):
        asked["hair"] = "pigtails"
    return asked
