"""What the load says is what happened: counted, timed, and not confused by answers that come in pieces."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from bench.load import Load

pytestmark = pytest.mark.anyio


async def test_every_body_is_sent_once_and_every_answer_counted_though_it_comes_in_pieces() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                heard.append(await reader.readexactly(size))
                for piece in (b"HTTP/1.1 20", b"2 Accepted\r\nContent-Le", b"ngth: 4\r\n\r\nab", b"cd"):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        order = {"port": server.sockets[0].getsockname()[1], "request": "POST / HTTP/1.1", "connections": 3,
                 "duration": 20, "bodies": [f"body {number} ü" for number in range(20)]}  # fmt: skip
        figures = await Load(order).run()
        await asyncio.sleep(0.05)  # for the server's ends of the connections to be closed too
    assert sorted(heard) == sorted(body.encode() for body in order["bodies"])
    assert (figures["codes"], figures["lost"]) == ({"202": 20}, 0)
    assert figures["seconds"] < 20
    assert 4 <= figures["p50_ms"] <= figures["p99_ms"]


async def test_a_connection_that_breaks_is_told() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        order = {"port": port, "request": "GET / HTTP/1.1", "connections": 2, "duration": 0.5}
        assert (await Load(order).run())["lost"] == 2
