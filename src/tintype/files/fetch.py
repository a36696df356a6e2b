"""Fetches an input into a local file, from wherever its URL points, but never from where it must not.

Files of this server are read from storage, by references that were made when the request was sent (whoever calls this
has asked whether they may be read); data URIs are decoded; http(s) is streamed under a size cap and a total
deadline, with redirects followed by hand so that every hop is checked. Everything else is refused.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from tintype import __version__
from tintype.errors import FileDownloadError, FileTooLarge
from tintype.files.addresses import Address, Resolver, is_plainly_private, is_public, parsed_url, resolve
from tintype.files.data_uri import is_data_uri, open_data_uri
from tintype.files.disk import write_pieces
from tintype.files.formats import suffix_for
from tintype.files.objects import Objects
from tintype.files.safe_http import PrivateAddress, SafeClient
from tintype.files.urls import is_internal, own_reference
from tintype.settings import Settings

MOST_REDIRECTS = 5
HEAD_BYTES = 512  # enough to tell a format by
_TIMEOUTS = httpx.Timeout(60.0, connect=15.0)  # seconds without a byte, and for one connection
_PIECE = 1024 * 1024  # characters of a data URI decoded at a time
_HEADERS = {"user-agent": f"tintype/{__version__}", "accept": "*/*", "accept-encoding": "identity"}


def fetch_input(
    url: str,
    folder: Path,
    *,
    objects: Objects,
    settings: Settings,
    max_bytes: int | None = None,
    cancelled: Callable[[], None] = lambda: None,
    resolver: Resolver = resolve,
) -> Path:
    """Makes a local copy of an input in `folder`, with a suffix that tells its format; not inside an event loop.

    `cancelled` is called between chunks and may raise. Raises FileDownloadError or FileTooLarge.
    """
    limit = min(max_bytes or settings.max_input_bytes, settings.max_input_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / uuid.uuid4().hex
    try:
        suffix = _Fetch(target, objects, settings, limit, cancelled, resolver).run(url.strip())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target.rename(target.with_name(target.name + suffix))


def unknown_file(url: str) -> FileDownloadError:
    """Makes the error for a URL of this server whose file is unknown or has expired."""
    return FileDownloadError(
        "This server has no such file (any more).", remedy="Upload it again and send the new URL.", given=url
    )


def private_source(url: str, host: str) -> FileDownloadError:
    """Makes the error for a URL that leads to a private address."""
    return FileDownloadError(
        f"{host} is a private address, and inputs are not fetched from those.",
        remedy="Upload the file to this server and send the URL that returns, or start it with "
        "TINTYPE_ALLOW_PRIVATE_INPUTS=true.",
        given=url,
    )


@dataclass
class _Fetch:
    """One input on its way into `target`. What writes it returns the suffix for its name."""

    target: Path
    objects: Objects
    settings: Settings
    limit: int
    cancelled: Callable[[], None]
    resolver: Resolver
    size: int = 0
    head: bytes = b""

    def run(self, url: str) -> str:
        own = own_reference(url)
        if own is not None and (size := self.objects.size("/".join(own))) is not None:
            if size > self.limit:
                raise self._too_large(url)
            self.objects.copy_to("/".join(own), self.target)
            with self.target.open("rb") as file:
                return suffix_for("/" + own[1], head=file.read(HEAD_BYTES))
        if is_internal(url):
            raise unknown_file(url)
        return self._decode(url) if is_data_uri(url) else asyncio.run(self._download(url))

    def _decode(self, url: str) -> str:
        try:
            data = open_data_uri(url[at : at + _PIECE].encode("utf-8", "replace") for at in range(0, len(url), _PIECE))
            with self.target.open("wb") as file:
                for chunk in data.chunks:
                    self._write(file, chunk)
        except ValueError as problem:
            raise FileDownloadError(str(problem), remedy="Encode the file again, or upload it.") from None
        return suffix_for("/" + data.file_name, content_type=data.content_type, head=self.head)

    async def _download(self, url: str) -> str:
        try:
            async with asyncio.timeout(self.settings.fetch_timeout):
                return await self._follow(url)
        except PrivateAddress:
            raise private_source(url, "What this URL leads to") from None
        except (TimeoutError, httpx.TimeoutException):
            why = f"Fetching it took longer than {self.settings.fetch_timeout:g} seconds or stood still."
        except httpx.RequestError as problem:
            why = f"The connection failed: {str(problem) or type(problem).__name__}."
        except (httpx.InvalidURL, UnicodeError) as problem:  # idna's errors are UnicodeErrors
            why = f"It is not a valid URL: {problem}."
        raise _unfetched(url, why)

    async def _follow(self, url: str) -> str:
        client = SafeClient(self._allows, resolver=self.resolver)
        at = self._checked(url, url)
        for _hop in range(MOST_REDIRECTS + 1):
            async with client.stream("GET", at, headers=_HEADERS, timeouts=_TIMEOUTS) as answer:
                if answer.has_redirect_location:
                    at = self._checked(url, str(at.join(answer.headers["location"])))
                    continue
                if answer.status_code != 200:
                    raise _unfetched(url, f"The server that holds it answered {answer.status_code}.")
                return await self._save(str(at), answer)
        raise _unfetched(url, f"It redirects more than {MOST_REDIRECTS} times.")

    def _allows(self, address: Address) -> bool:
        return self.settings.allow_private_inputs or is_public(address)

    def _checked(self, start: str, url: str) -> httpx.URL:
        """Takes the URL of a hop apart, unless it can be told to be wrong without connecting."""
        parsed = parsed_url(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise FileDownloadError(
                "Inputs come over http(s), as data URIs or from uploads; this URL's scheme is "
                f"{parsed.scheme or '(none)'}.",
                remedy="Upload the file to this server and send the URL that returns.",
                given=start[:200],
            )
        if not self.settings.allow_private_inputs and is_plainly_private(parsed.host):
            raise private_source(start, parsed.host)
        return parsed

    async def _save(self, url: str, answer: httpx.Response) -> str:
        named = answer.headers
        announced = named.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.limit:
            raise self._too_large(url)
        with self.target.open("wb") as file:
            async for chunk in answer.aiter_bytes():
                self._write(file, chunk)
        kind, disposition = named.get("content-type", ""), named.get("content-disposition", "")
        return suffix_for(url, content_type=kind, disposition=disposition, head=self.head)

    def _write(self, file: BinaryIO, chunk: bytes) -> None:
        self.cancelled()
        self.size += len(chunk)
        if self.size > self.limit:
            raise self._too_large(None)
        if len(self.head) < HEAD_BYTES:
            self.head = (self.head + chunk)[:HEAD_BYTES]
        write_pieces(file, (chunk,), self.target.parent)

    def _too_large(self, url: str | None) -> FileTooLarge:
        return FileTooLarge(
            f"This file is larger than {self.limit // (1024 * 1024)} MiB, the most that is taken here.",
            remedy="Send fewer or smaller files, or raise TINTYPE_MAX_INPUT_BYTES on the server.",
            ctx={"max_size": self.limit},
            given=url,
        )


def _unfetched(url: str, why: str) -> FileDownloadError:
    return FileDownloadError(
        f"The file at {url[:200]} could not be fetched. {why}",
        remedy="Check that the URL opens without signing in, or upload the file to this server.",
        given=url[:200],
    )
