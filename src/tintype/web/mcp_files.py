"""Files that an assistant names: kept by what answers uploads over HTTP, or looked at before a training.

An assistant has no file system in common with this server. It names a URL, which is fetched as an input's is, with the
same guard against private addresses; or it sends the bytes, in a data URI if they are many.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.to_thread
from pydantic import BaseModel

from tintype.catalog import EndpointInput
from tintype.catalog.custom_models import MakesModel
from tintype.catalog.fields import FileUrl
from tintype.catalog.ideogram_custom_models import LEAST_IMAGES, MOST_IMAGES
from tintype.errors import BadRequest, Failure, Json
from tintype.files import fetch_input, render
from tintype.files.data_uri import is_data_uri
from tintype.files.urls import is_internal
from tintype.web import uploads
from tintype.web.inputs import InputFiles
from tintype.web.mcp_call import Refusal, Sent, ToolCall
from tintype.web.responses import failure_body

_INSPECTING_SECONDS = 120.0
_PIECE = 1024 * 1024
#: What an input says about its dataset, and how a dataset calls it.
_OPTIONS = {
    "trigger_phrase": "trigger",
    "default_caption": "default_caption",
    "force_default_caption": "force_default_caption",
    "subject_crop": "subject_crop",
}


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
    named = _Named(url=url)
    await InputFiles(asked.call, asked.spools).settle(named)
    if is_internal(named.url):
        return {"cdn_url": render(named.url, asked.call.origin) if url in asked.spools else url}
    async with _local_copy(asked, named.url) as path:
        last = "" if is_data_uri(named.url) else unquote(re.split("[?#]", named.url)[0].rsplit("/", 1)[-1])
        headers = {"x-fal-file-name": name or last or f"file{path.suffix}", "content-type": content_type}
        size = (await anyio.Path(path).stat()).st_size
        kept = await asked.ask(uploads.direct_upload, sent=Sent(_pieces(path), size, headers))
    return {"cdn_url": kept["access_url"]}


async def inspect_archive(asked: ToolCall, input: EndpointInput) -> Json:
    """Tells what a training with this input would make of its archive."""
    options = {ours: getattr(input, name) for name, ours in _OPTIONS.items() if hasattr(input, name)}
    if isinstance(input, MakesModel):
        options["count"] = (LEAST_IMAGES, MOST_IMAGES)
    files = InputFiles(asked.call, asked.spools)
    try:
        await files.settle(input)
        one_at_a_time = asked.call.services.turn("inspection")  # each takes the memory of some large photos
        async with _local_copy(asked, getattr(input, "images_data_url", "")) as archive, one_at_a_time:
            told = await _inspected(archive, options)
    finally:
        await files.forget()
    if "failure" in told:
        raise Refusal(failure_body(Failure.from_json(told["failure"]), asked.call.origin))
    report: Json = told["report"]
    return report


@asynccontextmanager
async def _local_copy(asked: ToolCall, url: str) -> AsyncIterator[Path]:
    """Fetches what a settled URL leads to; one at a time for each person, for it holds a thread meanwhile."""
    services, owner = asked.call.services, asked.call.owner
    incoming = services.uploads.spool_folder
    incoming.mkdir(parents=True, exist_ok=True)
    with services.limits.open_stream(owner), tempfile.TemporaryDirectory(dir=incoming) as folder:
        async with services.turn(f"fetching for {owner}"):
            path = await anyio.to_thread.run_sync(
                lambda: fetch_input(url, Path(folder), objects=services.objects, settings=services.settings)
            )
        yield path


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(_PIECE):
            yield piece


async def _inspected(archive: Path, options: dict[str, Any]) -> Json:
    """Lets a process of its own look at an archive; it ends with this one, or when it takes too long."""
    pipe, command = asyncio.subprocess.PIPE, (sys.executable, "-m", "tintype.dataset")
    given = (str(archive), str(archive.parent / "inspected"), json.dumps(options))
    process = await asyncio.create_subprocess_exec(
        *command, *given, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_INSPECTING_SECONDS):
            told = await process.stdout.read()  # its stdin stays open as long as this process lives
            await process.wait()
    except TimeoutError:
        told = b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if not told:
        raise BadRequest("This archive could not be inspected.", remedy="Send fewer photos, or train with it: that "
                         "takes its time, and says what it leaves out.")  # fmt: skip
    answer: Json = json.loads(told)
    return answer
