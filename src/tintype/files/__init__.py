"""The files room: objects on disk or in a bucket, their URLs, uploads, and fetching inputs without being tricked.

Both halves use it: the compute half synchronously (`Objects`, `fetch_input`), the web half asynchronously. Nothing in
here knows of requests or SQL; which files exist for whom is the store's record.
"""

from __future__ import annotations

from tintype.files.fetch import fetch_input as fetch_input
from tintype.files.objects import Objects as Objects
from tintype.files.urls import (
    internal_url as internal_url,
    new_file_id as new_file_id,
    own_file as own_file,
    own_reference as own_reference,
    public_url as public_url,
    render as render,
    safe_file_name as safe_file_name,
)
