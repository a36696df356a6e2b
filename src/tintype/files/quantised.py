"""Rounded networks that are kept for the next start: where each lies, and when it goes.

A file is named after what it was made of, so that changed weights are rounded anew. It says so in its header too, so
that one whose weights are no longer there is known for it. Reading and writing need torch: models/quantised_file.py.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

_UNUSED_SECONDS = 30 * 86400.0
_UNFINISHED_SECONDS = 86400.0  # longer than any takes to be written
_LONGEST_HEADER = 64 * 1024 * 1024  # bytes
_FORM = 1  # of the numbers in these files


def identity_of(sources: Sequence[Path]) -> str:
    """Says which files these are, as JSON: where they lie, their sizes and times."""
    seen = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    return json.dumps(seen)


def quantised_path(folder: Path, identity: str, *facts: str) -> Path:
    """Names the file of what is made of these sources in such a way."""
    return folder / f"{hashlib.sha256(repr((_FORM, identity, facts)).encode()).hexdigest()[:32]}.safetensors"


def remove_unused(folder: Path) -> int:
    """Removes files whose sources have changed or gone, which are damaged, or which nobody read for a month."""
    removed = 0
    for path in folder.glob("*"):
        try:
            age = time.time() - path.stat().st_mtime
            unfinished = path.suffix == ".new"
            if age > (_UNFINISHED_SECONDS if unfinished else _UNUSED_SECONDS) or (not unfinished and _is_stale(path)):
                path.unlink()
                removed += 1
        except OSError:  # somebody else removed it
            continue
    return removed


def _is_stale(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            said = json.loads(file.read(length))["__metadata__"]["sources"] if length < _LONGEST_HEADER else ""
        return bool(identity_of([Path(source) for source, _, _ in json.loads(said)]) != said)
    except (OSError, ValueError, KeyError, TypeError):
        return True
