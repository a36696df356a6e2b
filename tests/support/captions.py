"""Whether a text is a caption of Ideogram 4 in canonical form."""

from __future__ import annotations

from tintype.errors import InputError
from tintype.models.ideogram4.captions import canonical


def verify(text: str) -> list[str]:
    """Lists what keeps a text from being a canonical caption, as sentences; empty for one that is."""
    try:
        ready = canonical(text)
    except InputError as problem:
        return [problem.message]
    if ready.wrapped:
        return ["The caption is a plain sentence, not JSON."]
    found = list(ready.notes)
    if not found and ready.text != text:
        found.append("The caption is not on one line in compact form with its keys in order.")
    return found
