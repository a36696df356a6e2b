"""Byte fallback for the T5 tokenizer class, in the one place where its files can carry it.

T5Tokenizer rebuilds itself from a list of pieces with byte fallback switched off, so an unknown character would become
<unk> and "Zoë" would be told as "Zo?". What it does keep from its files is SentencePiece's table of character
replacements. We write that table ourselves: capitals become small letters, and characters beyond ASCII become symbols
for their UTF-8 bytes, each a piece of the vocabulary.

The table is a double-array trie in the layout of Darts-clone (see `Precompiled` in Hugging Face's tokenizers).
"""

from __future__ import annotations

import string
import struct
from collections.abc import Iterable, Mapping

#: 128 symbols for the bytes 0x80 to 0xFF; from a private plane, so that no text holds them by accident.
BYTE_SYMBOLS = tuple(chr(0xE000 + byte) for byte in range(0x80, 0x100))
_Node = dict[int, "_Node"]
_SPOKEN: tuple[Iterable[int], ...] = (
    range(0x80, 0x800),  # Latin, Greek, Cyrillic, Hebrew, Arabic and their neighbours
    range(0x900, 0xE80),  # Indic scripts and Thai
    range(0x1E00, 0x2000),  # Vietnamese and polytonic Greek
    range(0x2010, 0x2060),  # typographic punctuation
    range(0x20A0, 0x20C0),  # currencies
    range(0x2600, 0x27C0),  # symbols
    range(0x3000, 0x3100),  # kana
    range(0x4E00, 0xA000),  # CJK ideographs
    range(0xAC00, 0xD7A4),  # Hangul
    range(0x1F300, 0x1F700),  # emoji
    range(0x1F900, 0x1FA00),
)


def byte_symbols(text: str) -> str:
    """Replaces each byte beyond ASCII by its symbol."""
    return "".join(chr(byte) if byte < 0x80 else BYTE_SYMBOLS[byte - 0x80] for byte in text.encode())


def replacements() -> dict[str, str]:
    """Lists every character that the tokenizer rewrites, with what it becomes."""
    table = {capital: capital.lower() for capital in string.ascii_uppercase}
    for span in _SPOKEN:
        for code in span:
            character = chr(code)
            small = character.lower() if len(character.lower()) == 1 else character
            table[character] = byte_symbols(small)
    return table


def charsmap(table: Mapping[str, str]) -> bytes:
    """Packs the table as SentencePiece does: trie size, trie, then the replacements, each ended by a zero byte."""
    offsets: dict[str, int] = {}
    texts = bytearray()
    for text in table.values():
        if text not in offsets:
            offsets[text] = len(texts)
            texts += text.encode() + b"\0"
    trie = _double_array({key.encode(): offsets[text] for key, text in table.items()})
    return struct.pack("<I", 4 * len(trie)) + struct.pack(f"<{len(trie)}I", *trie) + bytes(texts)


def _double_array(values: Mapping[bytes, int]) -> list[int]:
    """Builds a Darts-clone trie; units: bits 10-30 offset to the children, bit 8 "has a value", low byte label."""
    root: _Node = {}
    for key in values:
        node = root
        for byte in key:
            node = node.setdefault(byte, {})
    units, used, first_free = [0], {0}, 1
    pending: list[tuple[int, bytes, _Node]] = [(0, b"", root)]
    while pending:
        position, key, children = pending.pop()
        slots = [*children, *([0] if key in values else [])]
        base = first_free & ~0xFF if len(slots) > 1 else first_free
        if len(slots) == 1:
            base = first_free ^ slots[0]
        while base == 0 or any((base ^ slot) in used for slot in slots) or (position ^ base) >= 1 << 21:
            base += 1
        units += [0] * (max(base ^ slot for slot in slots) + 1 - len(units))
        used.update(base ^ slot for slot in slots)
        units[position] |= (position ^ base) << 10
        if key in values:
            units[position] |= 1 << 8
            units[base] = values[key] | 1 << 31
        for byte, below in children.items():
            units[base ^ byte] = byte
            pending.append((base ^ byte, key + bytes([byte]), below))
        while first_free in used:
            first_free += 1
    return units
