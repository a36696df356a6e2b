"""Which network addresses an input may be fetched from, and a connection that can go nowhere else.

A URL that a stranger sends must not make this machine talk to itself, to its neighbours or to a cloud's metadata
service. Looking at the URL is not enough: a name may resolve to 127.0.0.1, or to something else the second time it is
asked. So the check sits where the connection is made: the name is resolved once, every answer is checked, and the
socket is opened to the checked address, while Host and SNI keep the name.
"""

from __future__ import annotations

import ipaddress
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], list[str]]

# Not meant for the public, and not (in every Python) already told by the address's own properties.
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15",
        "168.63.129.16/32",  # Azure's metadata, on an address that looks public
        "64:ff9b:1::/48", "2001::/23", "fec0::/10", "5f00::/16",
    )
)  # fmt: skip
_LONGEST_LABEL = 63  # of DNS
_HOST = re.compile(r"[A-Za-z0-9._-]*")  # as DNS is asked for it
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "metadata.google.internal")


class PrivateAddress(httpcore.ConnectError):
    """A connection that was refused here; `fetch` turns it into the error a person sees."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, looking through IPv4 hidden in IPv6."""
    inner = _inside(address)
    if inner is not None:
        return is_public(inner)
    if any(address in network for network in _REFUSED if network.version == address.version):
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
        or address.is_link_local or address.is_private
    )  # fmt: skip


def is_loopback(address: Address) -> bool:
    """Whether an address is this machine's own, looking through IPv4 hidden in IPv6."""
    return (_inside(address) or address).is_loopback


def _inside(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, compatible, 6to4 or NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    number = int(address)
    if address in _NAT64 or (number >> 32 == 0 and number > 1):
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None


def literal(host: str) -> Address | None:
    """The address that `host` spells, in any notation a resolver takes (decimal, octal, hex, short); None for names."""
    plain = host.strip("[]").split("%", 1)[0].rstrip(".")
    try:
        return ipaddress.ip_address(plain)
    except ValueError:
        pass
    if plain and all(character in "0123456789abcdefABCDEFxX." for character in plain):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(plain))
        except (OSError, UnicodeError):
            return None
    return None


def parsed_url(text: str) -> httpx.URL:
    """A URL taken apart, its host readable and such as can be asked, for httpx and for urllib alike. Raises
    httpx.InvalidURL, and nothing else, for whatever is not one."""
    try:
        urlsplit(text)
        url = httpx.URL(text)
        host = url.host  # decodes punycode, which may be malformed
    except ValueError as problem:  # lone surrogates and host names beyond IDNA, which httpx lets through as they are
        raise httpx.InvalidURL(f"{problem}") from None
    if literal(host) is None and not _HOST.fullmatch(url.raw_host.decode("latin-1")):
        raise httpx.InvalidURL(f"{host[:100]!r} is no host name")
    if url.port is not None and not 0 < url.port < 65536:
        raise httpx.InvalidURL(f"there is no port {url.port}")
    if any(len(label) > _LONGEST_LABEL for label in url.raw_host.split(b".")) and literal(host) is None:
        raise httpx.InvalidURL(f"a part of its host name is longer than {_LONGEST_LABEL} characters")
    return url


def is_plainly_private(host: str) -> bool:
    """What can be told without asking DNS: private literals and local names."""
    address = literal(host)
    if address is not None:
        return not is_public(address)
    name = host.rstrip(".").lower()
    return name in _LOCAL_NAMES or name.endswith((".localhost", ".internal", ".local"))


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, in the system's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedBackend(httpcore.NetworkBackend):
    """Opens sockets only to addresses that passed the check; one refused answer refuses the name."""

    def __init__(self, *, allow_private: bool, deadline: float = math.inf, resolver: Resolver = resolve) -> None:
        self._allow_private = allow_private
        self._deadline = deadline
        self._resolver = resolver
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            answers = self._resolver(host, port)
        except (OSError, UnicodeError) as problem:
            raise httpcore.ConnectError(f"the name {host} could not be resolved") from problem
        if not self._allow_private:
            for answer in answers:
                if not is_public(ipaddress.ip_address(answer.split("%", 1)[0])):
                    raise PrivateAddress(f"{host} is at {answer}, which is not a public address.")
        ends = min(self._deadline, math.inf if timeout is None else time.monotonic() + timeout)
        last: Exception = httpcore.ConnectError(f"the name {host} has no address")
        for answer in answers:
            try:
                stream = self._sockets.connect_tcp(answer, port, remaining(ends), local_address, socket_options)
                return _PromptStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as problem:
                last = problem
        raise last

    def connect_unix_socket(self, *_args: Any, **_options: Any) -> httpcore.NetworkStream:
        raise PrivateAddress("Inputs are not fetched from sockets of this machine.")


def remaining(deadline: float, timeout: float | None = None) -> float | None:
    """Seconds left until a deadline (monotonic), at most `timeout`. Raises when there are none."""
    left = min(deadline - time.monotonic(), math.inf if timeout is None else timeout)
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return None if left == math.inf else left


class _PromptStream(httpcore.NetworkStream):
    """A stream whose every operation ends by the deadline: a server that drips bytes cannot hold a worker."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, remaining(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, remaining(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, remaining(self._deadline, timeout))
        return _PromptStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedTransport(httpx.BaseTransport):
    """httpx over CheckedBackend: no proxies, no retries, one connection at a time."""

    def __init__(self, *, allow_private: bool, deadline: float = math.inf, resolver: Resolver = resolve) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=1,
            network_backend=CheckedBackend(allow_private=allow_private, deadline=deadline, resolver=resolver),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """httpcore's stream under httpx's name."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Any:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()
