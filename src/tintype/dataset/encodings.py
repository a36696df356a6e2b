"""Finds out in which encoding names and captions were written where nothing says so.

Bytes that are UTF-8 throughout are UTF-8: nothing else looks like it by chance. All others of an archive are looked at
together, because a name of three letters says little and an archive comes from one computer. The judge of letters is
chardet; names that a metadata file spells out weigh more than its judgement. A guess is said, and how sure it is.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_CODE_PAGES = (
    "cp1252", "cp850", "cp437", "cp1251", "cp866", "koi8-r", "koi8-u", "cp932", "gb18030", "big5hkscs", "cp949",
    "euc_jis_2004", "cp1250", "cp852", "cp1253", "cp737", "cp1254", "cp857", "cp1255", "cp862", "cp1256", "cp720",
    "cp874", "iso8859-2", "cp1257", "cp775", "cp1258", "mac-roman", "mac-cyrillic",
)  # fmt: skip
USUAL_IN_TEXT = ("cp1252",)
USUAL_IN_NAMES = ("cp850", "cp437")  # what zip files have without a declaration, by their specification and by Windows
_USUAL_WEIGHS = 1.8  # a few accented letters look like those of several pages
_SURE = 1.6  # times as likely as the next that would read otherwise
_LONGEST_SAMPLE = 16 * 1024  # bytes of one text
_MOST_READ = 10_000  # letters in which what is odd is looked for
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_LEAST_LIKELY = 0.0001
_HALVES, _HALVES_WEIGH = re.compile(r"\\[\\/.\n]|\\$"), 10  # backslashes that separate no folders
_BETWEEN_NAMES = re.compile(r"[\"/\\,;\t|\r\n]+")  # in paths, JSON and tables
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")  # as JSON writes letters beyond ASCII


@dataclass(frozen=True)
class Guess:
    """Names an encoding, and tells whether others are far less likely."""

    encoding: str
    sure: bool = True


def unicode_of(raw: bytes) -> str | None:
    """Decodes what is UTF-8, or UTF-16 or 32 by its mark or its zeros; None for all else."""
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    if b"\0" in raw and encoding == "utf-8":
        import chardet

        seen = chardet.detect(raw[:_LONGEST_SAMPLE], compat_names=False)["encoding"] or ""
        encoding = seen if seen.startswith("utf-") else encoding
    try:
        # Half a character at the end of UTF-16 is no reason to lose the rest.
        text = raw.decode(encoding, "strict" if encoding.startswith("utf-8") else "replace")
    except UnicodeDecodeError:
        return None
    return text.replace("\0", "")


def guess(texts: Sequence[bytes], usual: Sequence[str], known: Container[str] = ()) -> Guess:
    """Guesses in which one encoding all these texts are. `usual` pages win where little speaks against them.

    `known` are words among which some of them, being names of files, are spelt out.
    """
    if _fits(texts, "utf-8"):
        return Guess("utf-8")
    import chardet

    samples = [trimmed(text, _LONGEST_SAMPLE) for text in texts if not text.isascii()]
    seen = chardet.detect_all(
        b"\n".join(samples), ignore_threshold=True, compat_names=False, include_encodings=_CODE_PAGES
    )
    confidence = {one["encoding"]: one["confidence"] for one in seen}

    def weight(page: str) -> tuple[int, float]:
        likely = max(confidence.get(page, 0.0), _LEAST_LIKELY) * (_USUAL_WEIGHS if page in usual else 1)
        return _spelt_out(samples, page, known), likely / 2 ** _odd(samples, page)

    fitting = [page for page in (*usual, *_CODE_PAGES) if _fits(texts, page)]
    weights = {page: weight(page) for page in dict.fromkeys(fitting)}
    best = max(weights, key=weights.__getitem__)
    read = [text.decode(best) for text in texts]
    others = [weights[page] for page in weights if [text.decode(page) for text in texts] != read]
    least = max([(0, _LEAST_LIKELY), *((names, _SURE * share) for names, share in others)])
    return Guess(best, weights[best] > least)


def trimmed(raw: bytes, most: int) -> bytes:
    """Cuts a text at a blank, so that no character is cut; there may be none."""
    if len(raw) <= most:
        return raw
    cut = max(raw.rfind(b" ", 0, most), raw.rfind(b"\n", 0, most))
    return raw[: cut if cut > 0 else most]


def spelt_in(tables: Iterable[bytes]) -> frozenset[str]:
    """Collects what may be names in metadata files whose encoding is no question, with JSON's escapes resolved."""
    texts = (unicode_of(raw) or "" for raw in tables)
    plain = (_ESCAPES.sub(lambda found: json.loads(f'"{found[0]}"'), text) for text in texts)
    return frozenset(word.strip() for text in plain for word in _BETWEEN_NAMES.split(text))


def _fits(texts: Sequence[bytes], encoding: str) -> bool:
    try:
        for text in texts:
            text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _odd(texts: Sequence[bytes], page: str) -> int:
    """Counts what neither names nor sentences hold: frames, formulas, and backslashes that are half a character."""
    read = "\n".join(text.decode(page, "replace") for text in texts)[:_MOST_READ]
    symbols = sum(not letter.isascii() and unicodedata.category(letter)[0] in "SC" for letter in read)
    return min(symbols + read.count("\\") + _HALVES_WEIGH * len(_HALVES.findall(read)), 100)


def _spelt_out(names: Sequence[bytes], page: str, known: Container[str]) -> int:
    """How many names of files are known when read in this code page, as a whole or without a suffix."""
    read = (PurePosixPath(name.decode(page, "replace").replace("\\", "/")) for name in names)
    return sum(name.name in known or name.stem in known for name in read)
