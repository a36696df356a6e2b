"""The files room: objects on disk or in a bucket, their URLs, uploads, and fetching inputs without being tricked.

Both halves use it: the compute half synchronously (`Objects`, `fetch_input`), the web half asynchronously. Nothing in
here knows of requests or SQL; which files exist for whom is the store's record.
"""

from __future__ import annotations

from tintype.files.fetch import fetch_input
from tintype.files.objects import Objects
from tintype.files.urls import internal_url, new_file_id, own_file, own_reference, public_url, render, safe_file_name

__all__ = [
    "Objects",
    "fetch_input",
    "internal_url",
    "new_file_id",
    "own_file",
    "own_reference",
    "public_url",
    "render",
    "safe_file_name",
]
