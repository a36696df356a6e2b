"""Data URIs of any size, decoded as they stream: a dataset may arrive as one string of some hundred megabytes.

Tolerant where browsers and people differ (line breaks, percent-encoding, the url-safe alphabet, missing padding) and
strict where a mistake would otherwise surface as a damaged archive: a foreign character, a cut-off end.
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, unquote_to_bytes

_LONGEST_HEADER = 4096
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n\f\v"


@dataclass(frozen=True)
class DataUri:
    """A data URI whose header was read; `chunks` decodes the rest and raises ValueError where it cannot."""

    content_type: str
    file_name: str
    chunks: Iterator[bytes]


def is_data_uri(url: str) -> bool:
    """Tells whether a URL holds its data itself."""
    return url[:5].lower() == "data:"


def open_data_uri(pieces: Iterable[bytes]) -> DataUri:
    """Reads the header of a data URI that arrives in pieces. Raises ValueError with a sentence for the person."""
    stream = iter(pieces)
    head = b""
    while b"," not in head and len(head) <= _LONGEST_HEADER:
        piece = next(stream, None)
        if piece is None:
            break
        head += piece
    header, comma, first = head.partition(b",")
    if not comma or len(header) > _LONGEST_HEADER or header[:5].lower() != b"data:":
        raise ValueError("This data URI has no comma between its header and its data.")
    parameters = [part.strip() for part in header[5:].decode("utf-8", "replace").split(";")]
    encoded = any(part.lower() == "base64" for part in parameters[1:])
    name = next((part.split("=", 1)[1] for part in parameters[1:] if re.match(r"(file)?name=", part, re.I)), "")
    body = itertools.chain((first,), stream)
    return DataUri(
        content_type=parameters[0] or "text/plain",
        file_name=unquote(name).strip('"'),
        chunks=_from_base64(body) if encoded else _percent_decoded(body),
    )


def _percent_decoded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decodes percent escapes, also one that is cut in two by a chunk's end."""
    held = b""
    for piece in pieces:
        text = held + piece
        cut = text.rfind(b"%", max(0, len(text) - 2))
        held = text[cut:] if cut >= 0 else b""
        text = text[:cut] if cut >= 0 else text
        if text:
            yield unquote_to_bytes(text) if b"%" in text else text
    if held:
        yield unquote_to_bytes(held)


def _from_base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decodes in whole groups of four characters; what is left over waits for the next piece."""
    held, ended = b"", False
    for piece in _percent_decoded(pieces):
        text = held + piece.translate(_URL_SAFE, _SPACE)
        if b"=" in text:
            text, padding = text.split(b"=", 1)
            if padding.strip(b"="):
                raise ValueError("This data URI goes on after the padding that ends base64.")
            ended = True
        elif ended and piece.strip(_SPACE + b"="):
            raise ValueError("This data URI goes on after the padding that ends base64.")
        foreign = text.translate(None, _ALPHABET)
        if foreign:
            raise ValueError(f"This data URI holds {chr(foreign[0])!r}, which is not a base64 character.")
        whole = len(text) - len(text) % 4
        held = text[whole:]
        if whole:
            yield binascii.a2b_base64(text[:whole])
    if len(held) == 1:
        raise ValueError("This data URI is cut off: its base64 ends in the middle of a byte.")
    if held:
        yield binascii.a2b_base64(held + b"=" * (4 - len(held)))
