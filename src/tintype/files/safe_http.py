"""The one HTTP client for URLs that strangers send: inputs come by it, and webhooks go out by it.

Such a URL must not make this machine talk to itself, to its neighbours or to a cloud's metadata service. Looking at the
URL is not enough: a name may resolve to 127.0.0.1, or to something else the second time it is asked. So the check sits
where the connection is made: the name is resolved once, every answer is checked, and the connection goes to a checked
address, while Host and the certificate keep the name. A redirect could lead anywhere, so none is followed here: whoever
goes where it leads asks again, and is checked again.
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import anyio.to_thread
import httpx

from tintype.files.addresses import Address, Resolver, resolve

_LOOKUPS = 64  # names looked up at once; a name server that is silent holds a thread


class PrivateAddress(Exception):
    """A name that leads where the client does not go; its text says where: "name is at address"."""


class SafeClient:
    """Asks whoever is at an address that `allows` lets through, and nobody else."""

    def __init__(self, allows: Callable[[Address], bool], *, resolver: Resolver = resolve) -> None:
        self._allows = allows
        self._resolver = resolver
        self._lookups = anyio.CapacityLimiter(_LOOKUPS)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        timeouts: httpx.Timeout | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Opens a response whose body can be read while the block lasts; no timeout of its own unless one is given.

        Raises PrivateAddress, and httpx.HTTPError where there is no answer. Each call has a connection of its own: none
        may meet one whose certificate was checked for another name.
        """
        named = {**headers, "Host": url.netloc.decode("ascii"), "Connection": "close"}
        extensions = {"sni_hostname": url.raw_host.decode("ascii")}
        addresses = await self._addresses(url)
        async with httpx.AsyncClient(verify=_trust(), trust_env=False, timeout=timeouts) as client:
            problem: httpx.HTTPError = httpx.ConnectError(f"the name {url.host} has no address")
            for address in addresses:
                at = url.copy_with(host=address)
                request = client.build_request(method, at, headers=named, content=content, extensions=extensions)
                try:
                    answer = await client.send(request, stream=True)
                    break
                except (httpx.ConnectError, httpx.ConnectTimeout) as failed:
                    problem = failed
            else:
                raise problem
            try:
                yield answer
            finally:
                await answer.aclose()

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """Looks up every address of a URL's host; one that may not be asked refuses them all."""
        port = url.port or (443 if url.scheme == "https" else 80)
        look = functools.partial(self._resolver, url.raw_host.decode("ascii"), port)
        try:
            found = await anyio.to_thread.run_sync(look, limiter=self._lookups, abandon_on_cancel=True)
        except (OSError, UnicodeError) as problem:
            raise httpx.ConnectError(f"the name {url.host} could not be resolved") from problem
        for answer in found:
            if not self._allows(ipaddress.ip_address(answer.split("%", 1)[0])):
                raise PrivateAddress(f"{url.host} is at {answer}")
        return found


@functools.cache
def _trust() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
