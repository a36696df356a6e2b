"""Which network addresses belong to the public internet, however they are spelled, and which to this machine."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

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
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def is_public(address: Address) -> bool:
    """Tells whether an address belongs to the public internet, looking through IPv4 hidden in IPv6."""
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
    """Tells whether an address is this machine's own, looking through IPv4 hidden in IPv6."""
    return (_inside(address) or address).is_loopback


def _inside(address: Address) -> ipaddress.IPv4Address | None:
    """Finds the IPv4 address that an IPv6 address stands for: mapped, compatible, 6to4 or NAT64."""
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
    """Reads the address that `host` spells in any notation a resolver takes (octal, hex, short); None for names."""
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
    """Takes a URL apart, its host such as can be asked, for httpx and for urllib alike. Raises
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


def plain_address(host: str) -> Address | None:
    """Tells the address of a host that needs no DNS: a literal, or a name of this machine; None for other names."""
    name = host.rstrip(".").lower()
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    return literal(host)


def is_plainly_private(host: str) -> bool:
    """Tells without DNS whether a host is private: a literal, or a name of this machine or of a local network."""
    address = plain_address(host)
    if address is not None:
        return not is_public(address)
    return host.rstrip(".").lower().endswith((".internal", ".local"))


def resolve(host: str, port: int) -> list[str]:
    """Looks up every address of a name, in the system's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
