"""Takes long data URIs out of a JSON body while it arrives, so that a 200 MB dataset never stands in memory.

It knows just enough JSON to tell where strings begin and end. A string that starts with `data:` (blanks before it go)
and grows past 64 KiB goes to disk (with its JSON escapes undone) and leaves a short placeholder; everything else passes
through untouched and is parsed by the real parser afterwards, which also finds whatever is wrong with it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from tintype.catalog import INTERNAL_SCHEME
from tintype.errors import PayloadTooLarge
from tintype.files.spool import Spool

LONGEST_INLINE = 64 * 1024  # characters of a data URI that stay in the request
MOST_REST = 1024 * 1024  # bytes of JSON beside the data URIs
MOST_STRINGS = 20_000  # each costs some microseconds; no input has more than a few dozen
# Complete JSON string content: plain bytes and whole escapes. What follows it is an escape that was cut in two.
_WHOLE = re.compile(rb"(?:[^\\]+|\\u[0-9a-fA-F]{4}|\\[^u])*", re.DOTALL)
_CONTENT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)  # of a string, up to its quote or the chunk's end
_BLANKS = re.compile(rb"(?: |\\[nrt]){0,1000}+")  # bounded: they are looked at again with every chunk
_PLAIN_CONTENT = re.compile(rb'[^"]*+')  # three times as fast, where nothing is escaped
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
_LONGEST_ESCAPE = 6


class DataUriExtractor:
    """Splits a body that it is fed into `rest`, JSON with placeholders, and `spools`, what they stand for."""

    def __init__(self, new_spool: Callable[[], Spool]) -> None:
        self.rest = bytearray()
        self.spools: dict[str, Spool] = {}
        self._new_spool = new_spool
        self._inside = False
        self._strings = 0
        self._cut = b""  # the backslash that a chunk ended with
        self._start: bytearray | None = None  # the string so far, while it may become a long data URI
        self._spool: Spool | None = None
        self._held = b""  # a JSON escape cut in two by a chunk's end

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body. Raises PayloadTooLarge and StorageFull."""
        chunk, self._cut = self._cut + chunk, b""
        at, content = 0, _CONTENT if b"\\" in chunk else _PLAIN_CONTENT
        while at < len(chunk):
            if self._inside:
                match = content.match(chunk, at)
                end = match.end() if match else at
                self._take(chunk[at:end])
                at = end + 1
                if chunk[end:at] == b'"':
                    self._close()
                else:
                    self._cut = chunk[end:]  # nothing, or a backslash that escapes what comes next
            else:
                quote = chunk.find(b'"', at)
                end = len(chunk) if quote < 0 else quote + 1
                self._pass(chunk[at:end])
                at = end
                if quote >= 0:
                    self._count_string()
                    self._inside, self._start = True, bytearray()

    def finish(self) -> None:
        """Passes on what a body that ends in the middle of a string holds back, for the parser to refuse."""
        self._pass(bytes(self._start or b"") + self._cut)

    def discard(self) -> None:
        """Removes the spools that were not moved away."""
        for spool in self.spools.values():
            spool.discard()
        if self._spool is not None:
            self._spool.discard()

    def _take(self, piece: bytes) -> None:
        if self._spool is not None:
            self._spool.write(self._unescaped(piece))
        elif self._start is None:
            self._pass(piece)
        else:
            self._start += piece
            blanks = _BLANKS.match(self._start)
            first = blanks.end() if blanks else 0
            begins = self._start[first : first + 5].lower()
            if not b"data:".startswith(begins) or (len(self._start) > LONGEST_INLINE and len(begins) < 5):
                self._pass(bytes(self._start))
                self._start = None
            elif len(self._start) > LONGEST_INLINE:
                self._spool = self._new_spool()
                self._spool.write(self._unescaped(bytes(self._start[first:])))
                self._start = None

    def _close(self) -> None:
        if self._spool is not None:
            self._spool.write(self._held)
            self._spool.finish()
            placeholder = f"{INTERNAL_SCHEME}spooled/{secrets.token_urlsafe(24)}"
            self.spools[placeholder] = self._spool
            self._pass(placeholder.encode())
        elif self._start is not None:
            self._pass(bytes(self._start))
        self._pass(b'"')
        self._inside, self._start, self._spool, self._held = False, None, None, b""

    def _count_string(self) -> None:
        self._strings += 1
        if self._strings > MOST_STRINGS:
            raise PayloadTooLarge(
                f"This body holds more than {MOST_STRINGS} texts.", remedy="Send one JSON object with the inputs."
            )

    def _pass(self, data: bytes) -> None:
        self.rest += data
        if len(self.rest) > MOST_REST:
            raise PayloadTooLarge(
                f"This body holds more than {MOST_REST // (1024 * 1024)} MiB of JSON beside its files.",
                remedy="Upload large files, or send them as data URIs.",
            )

    def _unescaped(self, piece: bytes) -> bytes:
        text = self._held + piece
        if b"\\" not in text:
            self._held = b""
            return text
        match = _WHOLE.match(text)
        whole = match.end() if match else 0
        # A longer rest is no escape at all: it stays as it is, and the data URI's decoder refuses it.
        if len(text) - whole >= _LONGEST_ESCAPE:
            whole = len(text)
        self._held = text[whole:]
        return _ESCAPE.sub(_meant, text[:whole])


def _meant(escape: re.Match[bytes]) -> bytes:
    if escape[1] is not None:
        return chr(int(escape[1], 16)).encode("utf-8", "surrogatepass")
    return _PLAIN.get(escape[2], escape[2])
