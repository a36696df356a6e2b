"""A number with its noun, as a sentence has it."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Writes `1 photo`, `2 photos`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
