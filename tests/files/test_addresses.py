from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tintype.files.addresses import is_plainly_private, is_public, literal, plain_address

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "168.63.129.16",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::a00:1",
    "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "172.32.0.1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_the_publics_is_refused(address: Any) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not_refused(address: Any) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4).filter(lambda address: not is_public(address)))
def test_a_private_address_hidden_in_ipv6_is_still_private(address: Any) -> None:
    number = int(address)
    for hidden in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert not is_public(ipaddress.IPv6Address(hidden))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "0", "127.0.0.1.",
        "[::1]", "::1", "::ffff:127.0.0.1", "[::ffff:7f00:1]", "fe80::1%eth0", "0xA9FEA9FE", "localhost", "LOCALHOST.",
        "a.localhost", "metadata.google.internal", "printer.local",
    ],
)  # fmt: skip
def test_every_spelling_of_a_private_host_is_seen_without_dns(host: str) -> None:
    assert is_plainly_private(host)


@pytest.mark.parametrize("host", ["example.com", "1.1.1.1", "localhost.example.com", "cafe", "dead.beef", "0x.example"])
def test_public_hosts_and_names_are_left_to_the_connection(host: str) -> None:
    assert not is_plainly_private(host)


def test_names_are_not_literals() -> None:
    assert literal("example.com") is None
    assert literal("") is None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "localhost.localdomain", "a.localhost", "127.0.0.1"])
def test_names_of_this_machine_need_no_dns(host: str) -> None:
    assert plain_address(host) == ipaddress.IPv4Address("127.0.0.1")


def test_other_names_do() -> None:
    assert plain_address("example.com") is plain_address("printer.local") is None
