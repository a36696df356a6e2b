from __future__ import annotations

import ipaddress
import math
import socket
import threading
import time

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.files.addresses import (
    CheckedBackend,
    CheckedTransport,
    PrivateAddress,
    is_plainly_private,
    is_public,
    literal,
)

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
def test_an_address_that_is_not_the_publics_is_refused(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not_refused(address):
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4).filter(lambda address: not is_public(address)))
def test_a_private_address_hidden_in_ipv6_is_still_private(address):
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
def test_every_spelling_of_a_private_host_is_seen_without_dns(host):
    assert is_plainly_private(host)


@pytest.mark.parametrize("host", ["example.com", "1.1.1.1", "localhost.example.com", "cafe", "dead.beef", "0x.example"])
def test_public_hosts_and_names_are_left_to_the_connection(host):
    assert not is_plainly_private(host)


def test_names_are_not_literals():
    assert literal("example.com") is None
    assert literal("") is None


def test_one_private_answer_refuses_the_whole_name_before_any_connection():
    backend = CheckedBackend(allow_private=False, resolver=lambda _host, _port: ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(PrivateAddress, match=r"127\.0\.0\.1"):
        backend.connect_tcp("two-faced.example", 80)


def test_the_name_is_asked_once_and_the_connection_goes_to_the_answer():
    """A name that answers otherwise the second time (DNS rebinding) is never asked a second time."""
    asked = []

    def resolver(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        received = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        transport = CheckedTransport(allow_private=True, resolver=resolver)
        with httpx.Client(transport=transport, trust_env=False) as client:
            answer = client.get(f"http://rebinding.example:{listener.getsockname()[1]}/x")
        thread.join()
    assert answer.text == "ok"
    assert asked == ["rebinding.example"]
    assert b"Host: rebinding.example" in received[0]


def test_a_server_that_drips_bytes_is_left_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            transport = CheckedTransport(
                allow_private=True, deadline=time.monotonic() + 0.5, resolver=lambda _host, _port: ["127.0.0.1"]
            )
            with (
                httpx.Client(transport=transport, trust_env=False, timeout=30) as client,
                pytest.raises((httpcore.ReadTimeout, httpcore.RemoteProtocolError)),
            ):
                client.get(f"http://drip.example:{listener.getsockname()[1]}/")
        finally:
            stop.set()
            thread.join()


def test_sockets_of_this_machine_are_no_place_to_fetch_from():
    with pytest.raises(PrivateAddress):
        CheckedBackend(allow_private=False, deadline=math.inf).connect_unix_socket("/run/docker.sock")
