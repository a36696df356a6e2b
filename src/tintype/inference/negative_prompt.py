"""What a negative prompt means to a model that has none: the branch that guidance pushes away from hears its words.

Ideogram 4's guidance compares the picture that the prompt asks for with the one that a second network draws from no
words at all. A negative prompt takes that second place: the first network draws what should not be seen, and guidance
leads away from it. Words that the prompt asks for too would be pushed away as well, so they are taken out beforehand:
the prompt wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BETWEEN = re.compile(r"[,;.\n]+")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Negative:
    """What is left of a negative prompt, and the parts that the prompt overruled."""

    text: str
    overruled: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """For the log."""
        if not self.overruled:
            return ()
        return (f"Left out of the negative prompt, because the prompt asks for it: {', '.join(self.overruled)}.",)


def against(negative_prompt: str, prompt: str) -> Negative:
    """The parts of a negative prompt, between commas, that the prompt does not name."""
    asked = f" {_plain(prompt)} "
    parts = [part.strip() for part in _BETWEEN.split(negative_prompt) if _plain(part)]
    overruled = tuple(part for part in parts if f" {_plain(part)} " in asked)
    return Negative(", ".join(part for part in parts if part not in overruled), overruled)


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
