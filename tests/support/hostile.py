"""Texts of strangers, as they would like them to reach somebody's terminal."""

from __future__ import annotations

import re

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;a title\x07",
    "\x1b]52;c;Y2xpcGJvYXJk\x1b\\",
    "\x9b31mred",
    "\x9d0;a title\x9c",
    "all is well\roh no",
    "three\b\b\b\b\bone",
    "\x7f\x00\x0b\x0c",
    "abc\u202ezip.exe",
    "\u2066isolated\u2069",
    "one\u2028two",
    "tag\U000e0041",
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]")


def is_harmless(text: str) -> bool:
    """Tells whether a terminal would obey nothing in `text`."""
    return OBEYED.search(text) is None
