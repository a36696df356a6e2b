"""Where webhooks may go, and the one connection that takes them there.

Who may send a request must not be able to make this machine talk to its neighbours. As with inputs (files/addresses.py)
the check sits where the connection is made: the name is resolved once, every answer is checked, and the connection goes
to a checked address, while Host and the certificate keep the name. A redirect could lead anywhere, so none is followed.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import ssl

import anyio.to_thread
import httpx

from tintype.errors import BadRequest
from tintype.files.addresses import (
    Address,
    PrivateAddress,
    Resolver,
    is_loopback,
    is_plainly_private,
    is_public,
    literal,
    parsed_url,
    resolve,
)
from tintype.settings import Settings

_LOOKUPS = 64  # names looked up at once; a name server that is silent holds a thread
_REMEDY = "Send it elsewhere, or start the server with TINTYPE_WEBHOOK_TARGETS=private (loopback: this machine only)."
_LOCAL = ("localhost", "ip6-localhost", "ip6-loopback")


class Receivers:
    """Sends webhooks to whoever may receive them."""

    def __init__(self, settings: Settings, *, resolver: Resolver = resolve) -> None:
        self._settings = settings
        self._resolver = resolver
        self._lookups = anyio.CapacityLimiter(_LOOKUPS)

    async def post(self, url: str, body: bytes, headers: dict[str, str], *, seconds: float) -> int:
        """The status that the receiver answered; what it says beside that is not read.

        Raises PrivateAddress and httpx.InvalidURL where it may not be asked; TimeoutError, OSError, UnicodeError and
        httpx.HTTPError where there was no answer within `seconds`.
        """
        parsed = parsed_url(url)
        problem: Exception = OSError(f"the name {parsed.host} has no address")
        async with asyncio.timeout(seconds):
            for address in await self._addresses(parsed):
                try:
                    return await _post(parsed, address, body, headers)
                except (httpx.ConnectError, httpx.ConnectTimeout) as failed:
                    problem = failed
        raise problem

    async def _addresses(self, url: httpx.URL) -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        look = functools.partial(self._resolver, url.raw_host.decode("ascii"), port)
        found = await anyio.to_thread.run_sync(look, limiter=self._lookups, abandon_on_cancel=True)
        for answer in found:
            if not _is_allowed(self._settings, ipaddress.ip_address(answer.split("%", 1)[0])):
                raise PrivateAddress(f"{url.host} is at {answer}, where webhooks are not sent. {_REMEDY}")
        return found


def check_receiver(settings: Settings, url: str) -> None:
    """What can be told about a webhook's URL when it is asked for. Raises BadRequest."""
    host = parsed_url(url).host
    address = literal(host)
    local = host.rstrip(".").lower() in _LOCAL or host.lower().endswith(".localhost")
    if address is None and local:
        address = ipaddress.IPv4Address("127.0.0.1")
    allowed = _is_allowed(settings, address) if address is not None else not is_plainly_private(host)
    if not allowed and settings.webhook_targets != "private":
        raise BadRequest(f"{host[:200]} is a private address, and webhooks are not sent there.", remedy=_REMEDY)


def _is_allowed(settings: Settings, address: Address) -> bool:
    targets = settings.webhook_targets
    if targets == "auto":
        targets = "loopback" if _serves_only_itself(settings) else "public"
    if targets == "private" or is_public(address):
        return True
    return targets == "loopback" and is_loopback(address)


def _serves_only_itself(settings: Settings) -> bool:
    """Tells whether only programs on this machine can reach the server: they need no server to reach each other."""
    host = literal(settings.host)
    on_loopback = is_loopback(host) if host is not None else settings.host.lower() in _LOCAL
    return on_loopback and settings.public_url is None


@functools.cache
def _trust() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


async def _post(url: httpx.URL, address: str, body: bytes, headers: dict[str, str]) -> int:
    """One connection, used once: a receiver must not meet a connection whose certificate was checked for another."""
    to = url.copy_with(host=address)
    extensions = {"sni_hostname": url.raw_host.decode("ascii")}
    named = {**headers, "Host": url.netloc.decode("ascii"), "Connection": "close"}
    async with (
        httpx.AsyncClient(verify=_trust(), trust_env=False, follow_redirects=False, timeout=None) as client,
        client.stream("POST", to, content=body, headers=named, extensions=extensions) as answer,
    ):
        return answer.status_code
