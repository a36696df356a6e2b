"""Files that an assistant names: kept by what answers uploads over HTTP, or looked at before a training.

An assistant has no file system in common with this server. It names a URL, which is fetched as an input's is, with the
same guard against private addresses; or it sends the bytes, in a data URI if they are many.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import anyio
from pydantic import BaseModel

from tintype.catalog import EndpointInput
from tintype.catalog.fields import FileUrl
from tintype.errors import Json
from tintype.files import render
from tintype.files.data_uri import is_data_uri
from tintype.files.urls import is_internal
from tintype.web import uploads
from tintype.web.dataset_report import training_options
from tintype.web.inputs import InputFiles, local_copy
from tintype.web.mcp_call import Sent, ToolCall

_PIECE = 1024 * 1024


class _Named(BaseModel):
    """Holds a URL as an input does, so that it is settled as one."""

    url: FileUrl


async def prepare(asked: ToolCall, name: str, size: int, content_type: str) -> Json:
    """Returns where a file of the assistant's may be PUT, and where it is then. Raises PayloadTooLarge."""
    asked.call.services.uploads.check_size(size)
    named = {"file_name": name, "content_type": content_type}
    return {**await asked.ask(uploads.initiate_upload, sent=named), "method": "PUT"}


async def keep_data(asked: ToolCall, data: str, name: str, content_type: str) -> Json:
    """Keeps bytes that came as base64 or as a data URI."""
    is_plain = data not in asked.spools and not is_data_uri(data)
    return await keep_from_url(asked, f"data:;base64,{data}" if is_plain else data, name, content_type)


async def keep_from_url(asked: ToolCall, url: str, name: str, content_type: str) -> Json:
    """Keeps what a URL leads to. A file of this server is kept already, and so is a long data URI once settled."""
    named, files = _Named(url=url), InputFiles(asked.call, asked.spools)
    await files.settle(named)
    if url in asked.spools:
        return {"cdn_url": render(named.url, asked.call.origin)}
    if is_internal(named.url):
        await files.forget()  # the snapshot of a dataset, which stands for itself
        return {"cdn_url": url}
    async with local_copy(asked.call, named.url) as path:
        last = "" if is_data_uri(named.url) else unquote(re.split("[?#]", named.url)[0].rsplit("/", 1)[-1])
        headers = {"x-fal-file-name": name or last or f"file{path.suffix}", "content-type": content_type}
        size = (await anyio.Path(path).stat()).st_size
        kept = await asked.ask(uploads.direct_upload, sent=Sent(_pieces(path), size, headers))
    return {"cdn_url": kept["access_url"]}


async def inspect_archive(asked: ToolCall, input: EndpointInput) -> Json:
    """Tells what a training with this input would make of its archive."""
    options = training_options(input)
    files = InputFiles(asked.call, asked.spools)
    try:
        await files.settle(input)
        async with local_copy(asked.call, getattr(input, "images_data_url", "")) as archive:
            given = {"archive": str(archive), "folder": str(archive.parent / "inspected"), "options": options}
            return await asked.call.services.photos.ask("inspect", **given)
    finally:
        await files.forget()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(_PIECE):
            yield piece
