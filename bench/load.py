"""Sends one request again and again over many connections, and says how long the answers took: what wrk does.

Its own process, so that its work is not the server's: `python bench/load.py '{"port": 8787, "request": "GET / …"}'`
prints one JSON object. Raw sockets and no more parsing than it takes to see where an answer ends. `bodies` is a list of
bodies to be sent one each (POST); `pause` is seconds between an answer and the next request of a connection; with
`stream` each connection is opened once and only listened to.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import uvloop


class Connection(asyncio.Protocol):
    """One connection: sends, waits for the whole answer, notes how long it took, sends again."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: Any = None
        self._held = b""
        self._left = -1  # bytes of this answer that have not come; -1: its headers have not
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.send()

    def send(self) -> None:
        request = next(self._load.requests, None)
        if request is None or self._load.over:
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._load.bytes += len(data)
        if self._load.stream:
            self._load.events += data.count(b"data: ")
            return
        if self._left < 0:
            self._held += data
            head, blank, data = self._held.partition(b"\r\n\r\n")
            if not blank:
                return
            self._held = b""
            self._left = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            self._load.codes[head[9:12].decode()] = self._load.codes.get(head[9:12].decode(), 0) + 1
        self._left -= len(data)
        if self._left == 0:
            self._left = -1
            self._load.seconds.append(time.perf_counter() - self._sent)
            if self._load.pause:
                asyncio.get_running_loop().call_later(self._load.pause, self.send)
            else:
                self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost += not self._load.over


class Load:
    """What is to be sent, and what came back."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.pause: float = given.get("pause", 0.0)
        self.stream: bool = given.get("stream", False)
        self.requests = requests(given)
        self.over = False
        self.seconds: list[float] = []
        self.codes: dict[str, int] = {}
        self.bytes = self.events = self.lost = 0
        self._given = given

    async def run(self) -> dict[str, Any]:
        """Loads for `duration` seconds, then stops listening."""
        loop = asyncio.get_running_loop()
        opened = []
        for _ in range(self._given["connections"]):
            opened.append(await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._given["port"]))
            if self.pause:  # not all at once, for ever
                await asyncio.sleep(self.pause / self._given["connections"])
        self.seconds.clear()
        began = time.perf_counter()
        while time.perf_counter() - began < self._given["duration"]:
            await asyncio.sleep(0.05)
            if not self.stream and self._given.get("bodies") and len(self.seconds) == len(self._given["bodies"]):
                break
        took = time.perf_counter() - began
        self.over = True
        for transport, _ in opened:
            transport.close()
        return self._told(took)

    def _told(self, took: float) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        figures: dict[str, Any] = {"codes": self.codes, "lost": self.lost, "events": self.events, "seconds": took}
        if ordered:
            figures |= {
                "a_second": len(ordered) / took,
                "p50_ms": ordered[len(ordered) // 2] * 1000,
                "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
                "bytes": self.bytes / len(ordered),
            }
        return figures


def requests(given: dict[str, Any]) -> Iterator[bytes]:
    """The bytes of one request after the other."""
    head = given["request"].rstrip()
    if "bodies" not in given:
        while True:
            yield f"{head}\r\n\r\n".encode()
    for body in given["bodies"]:
        yield f"{head}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


if __name__ == "__main__":
    print(json.dumps(uvloop.run(Load(json.loads(sys.stdin.read() if sys.argv[1:] == ["-"] else sys.argv[1])).run())))
