from __future__ import annotations

import socket

import httpx
import pytest
from tests.support.webhook_receiver import receiving

from tintype.errors import BadRequest
from tintype.files.addresses import PrivateAddress
from tintype.settings import Settings
from tintype.web.receivers import Receivers, check_receiver

LOOPBACK = ("http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/", "http://0x7f.1/", "http://a.localhost/")
PRIVATE = ("http://10.0.0.1/", "http://192.168.1.2/", "http://169.254.169.254/", "http://0.0.0.0/",
           "http://metadata.google.internal/", "http://printer.local/", "http://[fd00::1]/")  # fmt: skip


def refused(url: str, **settings: object) -> bool:
    try:
        check_receiver(Settings(**settings), url)
    except BadRequest:
        return True
    return False


@pytest.mark.parametrize("url", LOOPBACK)
def test_a_server_of_this_machine_only_may_call_programs_of_this_machine(url):
    assert not refused(url)
    assert refused(url, host="0.0.0.0")
    assert refused(url, public_url="https://pictures.example")
    assert refused(url, webhook_targets="public")
    assert not refused(url, host="0.0.0.0", webhook_targets="loopback")


@pytest.mark.parametrize("url", PRIVATE)
def test_private_networks_are_called_by_setting_only(url):
    assert refused(url)
    assert refused(url, webhook_targets="loopback")
    assert not refused(url, webhook_targets="private")


def test_public_receivers_are_always_allowed():
    for targets in ("auto", "public", "loopback", "private"):
        assert not refused("https://hooks.example/x", webhook_targets=targets)


@pytest.mark.anyio
async def test_a_name_that_leads_to_a_private_address_is_not_called():
    def resolver(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "10.0.0.1"]

    with pytest.raises(PrivateAddress, match=r"10\.0\.0\.1"):
        await Receivers(Settings(), resolver=resolver).post("http://hooks.example/", b"{}", {}, seconds=30)


@pytest.mark.anyio
async def test_the_connection_goes_to_the_checked_address_and_keeps_the_name():
    asked = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first

    with receiving() as receiver:
        port = receiver.server.server_port
        url = f"http://user:word@hooks.example:{port}/a?b=1"
        assert await Receivers(Settings(), resolver=resolver).post(url, b"{}", {"X-A": "b"}, seconds=60) == 200
    [hook] = receiver.hooks
    assert asked == [("hooks.example", port)]
    assert (hook.path, hook.headers["host"], hook.headers["x-a"]) == ("/a?b=1", f"hooks.example:{port}", "b")
    assert hook.headers["authorization"].startswith("Basic ")


@pytest.mark.anyio
async def test_a_receiver_that_says_nothing_is_left_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(TimeoutError):
            await Receivers(Settings()).post(f"http://127.0.0.1:{silent.getsockname()[1]}/", b"{}", {}, seconds=0.3)
        with pytest.raises(httpx.ConnectError):
            await Receivers(Settings()).post("http://127.0.0.1:1/", b"{}", {}, seconds=30)
