"""What an id that nobody answers to was meant for: programs call fal's endpoints, of which this server has some.

It is told by the words of the id alone. The same words, otherwise spelt, are the same endpoint. Else those are near
that do the same with the same base, or at least the same; and why there is no such endpoint follows from words that
say what it does beyond them. Words that say nothing lead nowhere.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tintype.catalog.endpoint import Endpoint

_LONGEST = 200  # characters of an id that are looked at
_MOST_NEAR = 2
_ALIKE = 0.8  # how much of two words is the same where one is the other misspelt

_TRAIN, _FROM_IMAGE = "train", "i2i"
_ALIASES = {"trainer": _TRAIN, "training": _TRAIN, "finetune": _TRAIN, "finetuning": _TRAIN}
_SAY_NOTHING = frozenset({"fal", "ai", "endpoint", "image", "model", "models", "to", "text"})
_OTHER_MEDIA = frozenset(
    {"3d", "audio", "avatar", "lipsync", "music", "sound", "speech", "talking", "tts", "video", "voice"}
)
_CHANGES_IMAGES = frozenset(
    {"background", "canny", "character", "depth", "differential", "edit", "expand", "fill", "inpaint", "inpainting",
     "inversion", "kontext", "layerize", "outpaint", "pulid", "redux", "reframe", "remix", "remove", "subject",
     "tiling", "tryon", "upscale", "upscaler"}
)  # fmt: skip
_OTHER_WEIGHTS = frozenset({"flex", "klein", "krea", "max", "pro", "schnell", "srpo", "ultra"})
_DISTILLED = frozenset({"fast", "flash", "instant", "turbo"})  # where something is generated
_CHANGES = "It changes images in a way that nothing here does."
_OTHER_BASE = "Its base model is not one of this server's."


@dataclass(frozen=True)
class Nearest:
    """Holds the endpoints that are nearest to an id, the nearest first, and why it is none; both may be empty."""

    endpoints: tuple[Endpoint, ...] = ()
    reason: str = ""
    is_meant: bool = False  # the one endpoint is what was asked for, otherwise spelt

    @property
    def sentence(self) -> str:
        """Says it to whoever sent the id; "" where there is nothing to say."""
        names = " and ".join(endpoint.id for endpoint in self.endpoints)
        if self.is_meant:
            return f"Did you mean {names}?"
        told = f"The nearest here {'is' if len(self.endpoints) == 1 else 'are'} {names}." if names else ""
        return f"{self.reason} {told}".strip()


def nearest(name: str, endpoints: Sequence[Endpoint]) -> Nearest:
    """Finds what is nearest to an id that is none, or to the path of a URL."""
    name = name.lower().strip("/")[:_LONGEST]
    words = _words(name)
    if meant := [one for one in endpoints if any(_is_respelt(words, _words(known)) for known in _names(one))]:
        return Nearest((meant[0],), is_meant=True)
    asked = set(words)
    if asked & _OTHER_MEDIA:
        return Nearest(reason="Only images are made here.")
    is_other = asked & _OTHER_WEIGHTS or (_TRAIN not in asked and asked & _DISTILLED)
    reason = _CHANGES if asked & _CHANGES_IMAGES else _OTHER_BASE if is_other else ""
    held = [(len(known), known, one) for one in endpoints for known in _names(one) if f"/{known}/" in f"/{name}/"]
    _, known, one = max(held, key=lambda found: found[0], default=(0, "", None))
    if one is not None and not reason and _FROM_IMAGE not in asked - set(_words(known)):
        return Nearest((one,), is_meant=True)
    if near := _of_that_base(asked, endpoints):
        versions = {word for word in asked if re.fullmatch(r"v?\d+[a-z]?", word)}
        own = {word for one in endpoints if _base_word(one) in asked for known in _names(one) for word in _words(known)}
        return Nearest(
            near, reason or (_CHANGES if _FROM_IMAGE in asked - own else _OTHER_BASE if versions - own else "")
        )
    near = _of_any_base(name, asked, endpoints)
    return Nearest(near, reason or _OTHER_BASE) if near else Nearest()


def _of_that_base(asked: set[str], endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Those of the base that the words name which share most words; an equal number is told whole, up to a few."""
    found = [one for one in endpoints if _base_word(one) in asked and _is_of_kind(one, asked)]
    if _FROM_IMAGE in asked:
        found = [one for one in found if _takes_image(one)] or found
    shared = {one.id: max(len(asked & set(_words(known))) for known in _names(one)) for one in found}
    best = [one for one in found if shared[one.id] == max(shared.values())]
    return tuple(sorted(best, key=lambda one: len(_words(one.id)))[:_MOST_NEAR])


def _of_any_base(name: str, asked: set[str], endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """One of each base that does what the words ask for."""
    does = [
        one
        for one in endpoints
        if _is_of_kind(one, asked) and (_TRAIN in asked or one.category in name or ("lora" in asked & {*one.tags}))
    ]
    return tuple({one.base: one for one in reversed(does)}.values())[::-1][:_MOST_NEAR]


def _is_of_kind(endpoint: Endpoint, asked: set[str]) -> bool:
    if (endpoint.kind == "training") != (_TRAIN in asked):
        return False
    return not _takes_image(endpoint) or bool(asked & {_FROM_IMAGE, *_CHANGES_IMAGES})


def _takes_image(endpoint: Endpoint) -> bool:
    return endpoint.category == "image-to-image"


def _base_word(endpoint: Endpoint) -> str:
    return endpoint.base.rstrip("0123456789")


def _names(endpoint: Endpoint) -> Iterator[str]:
    yield from (endpoint.id, *endpoint.aliases)


def _words(name: str) -> list[str]:
    words = (_ALIASES.get(word, word) for word in re.findall(r"[a-z0-9]+", name.replace("image-to-image", _FROM_IMAGE)))
    return [word for word in words if word not in _SAY_NOTHING]


def _is_respelt(words: list[str], known: list[str]) -> bool:
    if "".join(words) == "".join(known):
        return True
    return len(words) == len(known) and all(
        word == other or difflib.SequenceMatcher(None, word, other).ratio() >= _ALIKE
        for word, other in zip(words, known, strict=True)
    )
