"""What is trained as text: an image's own caption, else the trigger phrase, else one neutral sentence.

A photo cropped in several framings says so in its caption, or the model would learn that the person is always so near.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from tintype.dataset.framing import Framing

TRIGGER_TOKEN = "[trigger]"
NEUTRAL = "a photo of a person"

Source = Literal["person", "file", "metadata", "model", "trigger", "default", "neutral"]
WRITTEN: tuple[Source, ...] = ("person", "file", "metadata", "model")  # about this very image

_WORDS: dict[Framing, str] = {
    "head": "close-up",
    "bust": "head and shoulders",
    "half": "upper body",
    "full": "full body",
}
_STATED_FRAMING = re.compile(
    r"\b(close[- ]?up|head[- ]?shot|head and shoulders|portrait shot|bust|upper body|half[- ]body|waist[- ]up|"
    r"full[- ](body|length)|cowboy shot|medium shot|wide shot|long shot)\b",
    re.IGNORECASE,
)
_TRIGGER = re.compile(r"(?<!\[)\[trigger\](?!\])", re.IGNORECASE)
# What looks like a place for the subject's name, and is none here: {trigger}, <tok>, [trigger word], [[trigger]] ...
_OPEN, _CLOSE = r"[\[{<(%$@*\\\uff3b\u3010]", r"[\]}>)%$@*\\\uff3d\u3011]"
_PLACEHOLDER = re.compile(
    rf"{_OPEN}+\s*trigger(?:[\s_-]*\w+)?\s*{_CLOSE}+|\btrigger[_-](?:word|phrase|token)\b"
    r"|[\[{<%]+\s*(?:name|tok|token|subject|instance)\s*[\]}>%]+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Caption:
    """Holds a caption as it is trained, and where it came from."""

    text: str
    source: Source
    note: str = ""  # what was done to it

    @property
    def written(self) -> bool:
        """Tells whether it was written about this very image."""
        return self.source in WRITTEN

    @property
    def states_framing(self) -> bool:
        """Tells whether it says itself how much of the person is to be seen."""
        return self.written and _STATED_FRAMING.search(self.text) is not None

    def framed(self, framing: Framing | None) -> str:
        """Adds the framing of a crop to a written caption that does not state one itself."""
        if framing is None or not self.written or self.states_framing:
            return self.text
        return f"{self.text.rstrip(' .,;')}, {_WORDS[framing]}"


def caption_of(
    written: str | None, trigger: str | None, default: str | None = None, *, source: Source = "file"
) -> Caption:
    """Chooses the caption of one image. `written` is what a person wrote about it, in `source`; empty counts as absent.

    `default` is for images without one, where there is no trigger phrase.
    """
    phrase, otherwise = (trigger or "").strip(), (default or "").strip()
    if written and written.strip():
        # Without a trigger the token would be trained as a word; the default's or neutral sentence's subject stands in.
        subject = phrase or otherwise or "a person"
        if written.lstrip().startswith("{"):  # JSON, which a quotation mark would break
            subject = json.dumps(subject, ensure_ascii=False)[1:-1]
        return Caption(_TRIGGER.sub(lambda _: subject, written).strip(), source)
    if phrase:
        return Caption(phrase, "trigger")
    return Caption(otherwise, "default") if otherwise else Caption(NEUTRAL, "neutral")


def placeholders(text: str) -> list[str]:
    """Lists what somebody may have written in place of `[trigger]`, which is trained as it stands."""
    return list(dict.fromkeys(found[0] for found in _PLACEHOLDER.finditer(text)))
