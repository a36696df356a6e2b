"""How a file of this server is named: inside, in URLs, and on disk.

What is stored never holds a host name: a file is `tintype:files/<id>/<name>` inside and becomes an absolute URL only
when it is answered, so moving a server (or reaching it by two names) breaks no old result. Ids carry 192 random
bits; whoever knows one may read the file, and a URL is recognised as ours by its id whatever host it names.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tintype.catalog import INTERNAL_SCHEME

ID_BYTES = 24
_ID = re.compile(r"[A-Za-z0-9_-]{32}")
_OWN_PATH = re.compile(r"^(?:/cdn)?/files/([A-Za-z0-9_-]{32})/([^/]+)$")
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


def internal_url(file_id: str, file_name: str) -> str:
    """Makes the reference that is stored in inputs and outputs."""
    return f"{INTERNAL_SCHEME}{file_id}/{quote(file_name)}"


def public_url(origin: str, file_id: str, file_name: str) -> str:
    """Makes the absolute URL, for an origin such as `http://127.0.0.1:8787`."""
    return f"{origin}/cdn/files/{file_id}/{quote(file_name)}"


def own_file(url: str) -> tuple[str, str] | None:
    """Reads (id, file name) from a URL with one of our ids: internal, `/cdn/files/…` or `/files/…` on any host."""
    if url.startswith(INTERNAL_SCHEME):
        path = "/files/" + url.removeprefix(INTERNAL_SCHEME)
    elif url[:8].lower().startswith(("http://", "https://")) and len(url) < 4096:
        try:
            path = urlsplit(url).path
        except ValueError:
            return None
    else:
        return None
    match = _OWN_PATH.match(path)
    if match is None:
        return None
    file_id, name = match.group(1), unquote(match.group(2), errors="replace")
    return (file_id, name) if name == safe_file_name(name) else None


def render(value: Any, origin: str) -> Any:
    """Turns every internal reference in a JSON value into an absolute URL."""
    if isinstance(value, str):
        return f"{origin}/cdn/files/{value.removeprefix(INTERNAL_SCHEME)}" if own_reference(value) else value
    if isinstance(value, dict):
        return {name: render(part, origin) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [render(part, origin) for part in value]
    return value


def own_reference(value: str) -> bool:
    """Tells whether a string is an internal reference and nothing else."""
    return value.startswith(INTERNAL_SCHEME) and own_file(value) is not None
