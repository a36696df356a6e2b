from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from tests.support.webhook_receiver import receiving

from tintype.files.addresses import Resolver, is_public, resolve
from tintype.files.safe_http import PrivateAddress, SafeClient

pytestmark = pytest.mark.anyio


async def ask(url: str, *, allow_private: bool = True, resolver: Resolver = resolve, seconds: float = 30) -> str:
    client = SafeClient(lambda address: allow_private or is_public(address), resolver=resolver)
    async with asyncio.timeout(seconds), client.stream("GET", httpx.URL(url), headers={}) as answer:
        await answer.aread()
    return answer.text


@contextlib.contextmanager
def answering(*pieces: bytes, pause: float = 0.0) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one connection: its port, and what it received. Says the last piece again and again if it pauses."""
    received: list[bytes] = []
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            received.append(connection.recv(65536))
            for piece in pieces:
                connection.sendall(piece)
            while pause and not stop.wait(pause):
                connection.sendall(pieces[-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], received
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("private", ["127.0.0.1", "10.0.0.1"])
async def test_one_private_answer_refuses_the_whole_name_before_any_connection(private: str) -> None:
    with pytest.raises(PrivateAddress, match=rf"two-faced.example is at {private}"):
        await ask("http://two-faced.example/", allow_private=False, resolver=lambda *_: ["93.184.216.34", private])


async def test_the_name_is_asked_once_and_the_connection_goes_to_the_answer() -> None:
    """A name that answers otherwise the second time (DNS rebinding) is never asked a second time."""
    asked = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (port, received):
        assert await ask(f"http://rebinding.example:{port}/x", resolver=resolver) == "ok"
    assert asked == [("rebinding.example", port)]
    assert f"Host: rebinding.example:{port}\r\n".encode() in received[0]
    assert b"GET /x HTTP/1.1\r\n" in received[0]


async def test_the_next_address_is_asked_where_nobody_listens_and_what_is_sent_arrives_whole() -> None:
    with receiving() as receiver:
        port = receiver.server.server_port
        url = httpx.URL(f"http://user:word@hooks.example:{port}/a?b=1")
        client = SafeClient(lambda _: True, resolver=lambda *_: ["127.0.0.2", "127.0.0.1"])  # nobody on the first
        async with client.stream("POST", url, headers={"X-A": "b"}, content=b"{}") as answer:
            assert answer.status_code == 200
    [hook] = receiver.hooks
    assert (hook.path, hook.headers["host"], hook.headers["x-a"]) == ("/a?b=1", f"hooks.example:{port}", "b")
    assert hook.headers["authorization"].startswith("Basic ")
    assert hook.body == b"{}"


async def test_a_server_that_drips_bytes_is_left_at_the_deadline() -> None:
    with answering(b"H", pause=0.05) as (port, _), pytest.raises(TimeoutError):
        await ask(f"http://drip.example:{port}/", resolver=lambda *_: ["127.0.0.1"], seconds=0.5)


async def test_a_server_that_says_nothing_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        await ask(f"http://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.3)


async def test_a_name_server_that_says_nothing_is_left_in_time() -> None:
    looked = threading.Event()
    with pytest.raises(TimeoutError):
        await ask("http://slow.example/", resolver=lambda *_: [str(looked.wait(20))], seconds=0.3)
    looked.set()


async def test_a_connection_that_cannot_be_made_is_told() -> None:
    with pytest.raises(httpx.ConnectError):
        await ask("http://127.0.0.1:1/")
    with pytest.raises(httpx.ConnectError, match=r"hooks.example has no address"):
        await ask("http://hooks.example/", resolver=lambda *_: [])


async def test_a_redirect_is_not_followed() -> None:
    with answering(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 2\r\n\r\nno") as (port, _):
        assert await ask(f"http://127.0.0.1:{port}/x") == "no"
