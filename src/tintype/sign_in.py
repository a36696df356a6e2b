"""Links by which a person signs in to the pages: each stands for one key, works once, and for an hour.

Whoever can write in the data folder can make one: `tintype serve` and `tintype open` print it, the web process takes
it. What is kept is a file named by the hash of the link's code, so that reading the folder gives nobody a link; whoever
removes the file has used the link, and the file system lets only one remove it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from pathlib import Path

from tintype.installation import write_secret

LINK_SECONDS = 3600.0
_CODE_BYTES = 24


def sign_in_url(origin: str, data_dir: Path, key_id: str) -> str:
    """Makes a link for a key. Its code stands behind `#`, which browsers send to nobody."""
    folder = _folder(data_dir)
    folder.mkdir(mode=0o700, exist_ok=True)
    _remove_expired(folder)
    code = secrets.token_urlsafe(_CODE_BYTES)
    claim = {"key_id": key_id, "expires_at": time.time() + LINK_SECONDS}
    write_secret(folder / _name(code), json.dumps(claim).encode())
    return f"{origin}/sign-in#{code}"


def take_code(data_dir: Path, code: str) -> str | None:
    """Returns the id of the key that a link's code stands for, and ends the link; None for one that is not there, was
    used, or is over."""
    path = _folder(data_dir) / _name(code)
    try:
        claim = json.loads(path.read_text())
        path.unlink()
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return str(claim["key_id"]) if claim["expires_at"] > time.time() else None


def _remove_expired(folder: Path) -> None:
    for path in folder.iterdir():
        try:
            if path.stat().st_mtime < time.time() - LINK_SECONDS:
                path.unlink()
        except FileNotFoundError:  # used at this moment
            continue


def _name(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()


def _folder(data_dir: Path) -> Path:
    return data_dir / "sign-in"
