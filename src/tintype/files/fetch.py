"""Fetches an input into a local file, from wherever its URL points, but never from where it must not.

Files of this server are read from storage; data URIs are decoded; http(s) is streamed under a size cap and a total
deadline, with redirects followed by hand so that every hop is checked. Everything else is refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import httpcore
import httpx

from tintype import __version__
from tintype.catalog import INTERNAL_SCHEME
from tintype.errors import FileDownloadError, FileTooLarge
from tintype.files.addresses import CheckedTransport, PrivateAddress, Resolver, is_plainly_private, parsed_url, resolve
from tintype.files.data_uri import is_data_uri, open_data_uri
from tintype.files.formats import suffix_for
from tintype.files.objects import Objects
from tintype.files.urls import own_file
from tintype.settings import Settings

Loc = Sequence[str | int]

MOST_REDIRECTS = 5
_CONNECT_TIMEOUT = 15.0  # seconds for one connection
_IDLE_TIMEOUT = 60.0  # seconds without a byte
_PIECE = 1024 * 1024  # characters of a data URI decoded at a time
_REDIRECTS = (301, 302, 303, 307, 308)
PRIVATE_REMEDY = (
    "Upload the file to this server and send the URL that returns, or start it with TINTYPE_ALLOW_PRIVATE_INPUTS=true."
)


def fetch_input(
    url: str,
    folder: Path,
    *,
    objects: Objects,
    settings: Settings,
    loc: Loc = ("body",),
    max_bytes: int | None = None,
    cancelled: Callable[[], None] = lambda: None,
    resolver: Resolver = resolve,
) -> Path:
    """A local copy of an input in `folder`, with a suffix that tells its format.

    `cancelled` is called between chunks and may raise. Raises FileDownloadError or FileTooLarge at `loc`.
    """
    limit = min(max_bytes or settings.max_input_bytes, settings.max_input_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / uuid.uuid4().hex
    try:
        suffix = _fetch(url.strip(), target, objects, settings, loc, limit, cancelled, resolver)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target.rename(target.with_name(target.name + suffix))


def _fetch(
    url: str,
    target: Path,
    objects: Objects,
    settings: Settings,
    loc: Loc,
    limit: int,
    cancelled: Callable[[], None],
    resolver: Resolver,
) -> str:
    """Writes the input to `target`; returns its suffix."""
    own = own_file(url)
    if own is not None:
        stored = _from_storage(url, own, target, objects, loc, limit)
        if stored is not None:
            return stored
        if url.startswith(INTERNAL_SCHEME) or is_plainly_private(_host_of(url)):
            refuse_unknown_file(url, loc)
    if url.startswith(INTERNAL_SCHEME):
        refuse_unknown_file(url, loc)
    if is_data_uri(url):
        return _from_data_uri(url, target, loc, limit, cancelled)
    return _Download(target, settings, loc, limit, cancelled, resolver).run(url)


def _host_of(url: str) -> str:
    try:
        return parsed_url(url).host
    except httpx.InvalidURL:
        return ""  # the download that follows says what is wrong with it


def refuse_unknown_file(url: str, loc: Loc) -> NoReturn:
    """The error for a URL of this server whose file is unknown or has expired."""
    raise FileDownloadError(
        "This server has no such file (any more).", remedy="Upload it again and send the new URL.", loc=loc, given=url
    )


def refuse_private(url: str, host: str, loc: Loc) -> NoReturn:
    """The error for a URL that leads to a private address."""
    raise FileDownloadError(
        f"{host} is a private address, and inputs are not fetched from those.",
        remedy=PRIVATE_REMEDY,
        loc=loc,
        given=url,
    )


def _from_storage(url: str, own: tuple[str, str], target: Path, objects: Objects, loc: Loc, limit: int) -> str | None:
    key = f"{own[0]}/{own[1]}"
    size = objects.size(key)
    if size is None:
        return None
    if size > limit:
        _too_large(limit, loc, url)
    objects.copy_to(key, target)
    return suffix_for("/" + own[1], head=_head_of(target))


def _from_data_uri(url: str, target: Path, loc: Loc, limit: int, cancelled: Callable[[], None]) -> str:
    pieces = (url[at : at + _PIECE].encode("utf-8", "replace") for at in range(0, len(url), _PIECE))
    try:
        data = open_data_uri(pieces)
        head = _write(data.chunks, target, loc, limit, cancelled)
    except ValueError as problem:
        raise FileDownloadError(str(problem), remedy="Encode the file again, or upload it.", loc=loc) from None
    return suffix_for("/" + data.file_name, content_type=data.content_type, head=head)


def _write(chunks: Iterable[bytes], target: Path, loc: Loc, limit: int, cancelled: Callable[[], None]) -> bytes:
    """Streams into `target`; returns the first 512 bytes."""
    size, head = 0, b""
    with target.open("wb") as file:
        for chunk in chunks:
            cancelled()
            size += len(chunk)
            if size > limit:
                _too_large(limit, loc, None)
            if len(head) < 512:
                head = (head + chunk)[:512]
            file.write(chunk)
    return head


def _too_large(limit: int, loc: Loc, url: str | None) -> NoReturn:
    raise FileTooLarge(
        f"This file is larger than {limit // (1024 * 1024)} MiB, the most that is taken here.",
        remedy="Send fewer or smaller files, or raise TINTYPE_MAX_INPUT_BYTES on the server.",
        loc=loc,
        ctx={"max_size": limit},
        given=url,
    )


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


class _Download:
    """One download over http(s), redirects included, within one deadline."""

    def __init__(
        self,
        target: Path,
        settings: Settings,
        loc: Loc,
        limit: int,
        cancelled: Callable[[], None],
        resolver: Resolver,
    ) -> None:
        self._target = target
        self._settings = settings
        self._loc = loc
        self._limit = limit
        self._cancelled = cancelled
        self._resolver = resolver
        self._deadline = time.monotonic() + settings.fetch_timeout

    def run(self, url: str) -> str:
        """Writes the file; returns its suffix. Raises FileDownloadError or FileTooLarge."""
        transport = CheckedTransport(
            allow_private=self._settings.allow_private_inputs, deadline=self._deadline, resolver=self._resolver
        )
        headers = {"user-agent": f"tintype/{__version__}", "accept": "*/*", "accept-encoding": "identity"}
        try:
            with httpx.Client(transport=transport, trust_env=False, headers=headers, follow_redirects=False) as client:
                return self._follow(client, self._checked(url, url))
        except PrivateAddress:
            refuse_private(url, "What this URL leads to", self._loc)
        except (httpcore.TimeoutException, httpx.TimeoutException):
            self._refuse(url, f"Fetching it took longer than {self._settings.fetch_timeout:g} seconds or stood still.")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpx.RequestError) as problem:
            self._refuse(url, f"The connection failed: {str(problem) or type(problem).__name__}.")
        except (httpx.InvalidURL, UnicodeError) as problem:  # idna's errors are UnicodeErrors
            self._refuse(url, f"It is not a valid URL: {problem}.")

    def _follow(self, client: httpx.Client, at: httpx.URL) -> str:
        start = str(at)
        for _hop in range(MOST_REDIRECTS + 1):
            remaining = self._remaining()
            timeout = httpx.Timeout(min(_IDLE_TIMEOUT, remaining), connect=min(_CONNECT_TIMEOUT, remaining))
            with client.stream("GET", at, timeout=timeout) as answer:
                if answer.status_code in _REDIRECTS and "location" in answer.headers:
                    at = self._checked(start, str(at.join(answer.headers["location"])))
                    continue
                if answer.status_code != 200:
                    self._refuse(start, f"The server that holds it answered {answer.status_code}.")
                return self._save(str(at), answer)
        self._refuse(start, f"It redirects more than {MOST_REDIRECTS} times.")

    def _save(self, url: str, answer: httpx.Response) -> str:
        announced = answer.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit:
            _too_large(self._limit, self._loc, url)
        head = _write(self._within_deadline(answer.iter_bytes()), self._target, self._loc, self._limit,
                      self._cancelled)  # fmt: skip
        return suffix_for(
            url,
            content_type=answer.headers.get("content-type", ""),
            disposition=answer.headers.get("content-disposition", ""),
            head=head,
        )

    def _within_deadline(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._remaining()
            yield chunk

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise httpcore.ReadTimeout("deadline")
        return remaining

    def _checked(self, start: str, url: str) -> httpx.URL:
        """The URL of a hop, unless it can be told to be wrong without connecting."""
        parsed = parsed_url(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            scheme = parsed.scheme or "(none)"
            raise FileDownloadError(
                f"Inputs come over http(s), as data URIs or from uploads; this URL's scheme is {scheme}.",
                remedy="Upload the file to this server and send the URL that returns.",
                loc=self._loc,
                given=start[:200],
            )
        if not self._settings.allow_private_inputs and is_plainly_private(parsed.host):
            refuse_private(start, parsed.host, self._loc)
        return parsed

    def _refuse(self, url: str, why: str) -> NoReturn:
        raise FileDownloadError(
            f"The file at {url[:200]} could not be fetched. {why}",
            remedy="Check that the URL opens without signing in, or upload the file to this server.",
            loc=self._loc,
            given=url[:200],
        )
