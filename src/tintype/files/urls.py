"""How a file of this server is named: inside, in URLs, and on disk.

What is stored never holds a host name: a file is `tintype:files/<id>/<name>` inside and becomes an absolute URL only
when it is answered, so moving a server (or reaching it by two names) breaks no old result. Ids carry 192 random
bits; whoever knows one may read the file, unless it has a list of who may.

A URL is turned into such a reference once, when a request is sent, if its host is one of this server's names. What
reads files knows references alone: any other host is a foreign one, whatever its path looks like.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import httpx

from tintype.catalog import INTERNAL_SCHEME
from tintype.files.addresses import parsed_url

ID_BYTES = 24
_ID = re.compile(r"[A-Za-z0-9_-]{32}")
_OWN_PATH = re.compile(r"(?:/cdn)?/files/([A-Za-z0-9_-]{32})/([^/]+)")
_REFERENCE = re.compile(INTERNAL_SCHEME + r"([A-Za-z0-9_-]{32})/([^/?#]+)(?:\?until=([0-9]{1,12}))?", re.IGNORECASE)
_LONGEST_URL = 4096
_LONGEST_NAME = 180  # bytes; file systems stop at 255
_LONGEST_SUFFIX = 24


def new_file_id() -> str:
    """Makes 32 url-safe characters, 192 random bits."""
    return secrets.token_urlsafe(ID_BYTES)


def is_file_id(text: str) -> bool:
    """Tells whether `text` has the shape of a file id."""
    return _ID.fullmatch(text) is not None


def safe_file_name(name: str | None, *, default: str = "file") -> str:
    """Makes a name that is safe as a file name, an object key and a URL segment; letters of any script are kept."""
    plain = unicodedata.normalize("NFC", (name or "").replace("\\", "/").rsplit("/", 1)[-1])
    kept = re.sub(r"[^\w.-]+", "_", plain, flags=re.UNICODE).lstrip("._").rstrip("_")
    if not kept.strip("._-"):
        kept = default
    stem, suffix = _split(kept)
    while len((stem + suffix).encode()) > _LONGEST_NAME:
        stem = stem[:-1]
    return stem + suffix if suffix else stem.rstrip("_")


def _split(name: str) -> tuple[str, str]:
    """Splits off the suffix; `.tar.gz` and its kin count as one suffix."""
    match = re.search(r"(?:\.tar)?\.[^.]*$", name)
    if match is None or match.start() == 0 or len(match.group().encode()) > _LONGEST_SUFFIX:
        return name, ""
    return name[: match.start()], match.group()


def internal_url(file_id: str, file_name: str, *, until: int = 0) -> str:
    """Makes the reference that is stored in inputs and outputs. A signed URL opened it `until` then (unix seconds)."""
    return f"{INTERNAL_SCHEME}{file_id}/{quote(file_name)}{f'?until={until}' if until else ''}"


def public_url(origin: str, file_id: str, file_name: str) -> str:
    """Makes the absolute URL, for an origin such as `http://127.0.0.1:8787`."""
    return f"{origin}/cdn/files/{file_id}/{quote(file_name)}"


def is_internal(url: str) -> bool:
    """Tells whether `url` claims to be a reference; only `own_reference` tells whether it is one."""
    return url[: len(INTERNAL_SCHEME)].lower() == INTERNAL_SCHEME


def own_reference(text: str) -> tuple[str, str] | None:
    """Reads (id, file name) from `text` if it is an internal reference and nothing else."""
    match = _REFERENCE.fullmatch(text)
    return match and _named(match[1], unquote(match[2], errors="replace"))


def opened_until(reference: str) -> int:
    """Tells until when (unix seconds) a signed URL opened what a reference names; 0 where it was none."""
    match = _REFERENCE.fullmatch(reference)
    return int(match[3] or 0) if match else 0


def own_file(url: str, is_own_host: Callable[[str], bool]) -> tuple[str, str] | None:
    """Reads (id, file name) from a reference, or from `/cdn/files/…` or `/files/…` on a host of ours (without port)."""
    if is_internal(url) or len(url) > _LONGEST_URL:
        return own_reference(url)
    try:
        parsed = parsed_url(url)
    except httpx.InvalidURL:
        return None
    match = _OWN_PATH.fullmatch(parsed.path)
    if match is None or parsed.scheme not in ("http", "https") or not is_own_host(parsed.host.rstrip(".")):
        return None
    return _named(match[1], match[2])


def _named(file_id: str, name: str) -> tuple[str, str] | None:
    return (file_id, name) if name == safe_file_name(name) else None


def render(value: Any, origin: str) -> Any:
    """Turns every internal reference in a JSON value into an absolute URL."""
    if isinstance(value, str):
        return public_url(origin, *own) if (own := own_reference(value)) else value
    if isinstance(value, dict):
        return {name: render(part, origin) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [render(part, origin) for part in value]
    return value
