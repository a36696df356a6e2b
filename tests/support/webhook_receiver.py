"""A program that takes webhooks, on loopback, and answers as a test tells it to."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Hook:
    """A webhook as it came in."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """`answers` are the statuses of the next hooks, 200 when there are none left, each given after `delay` seconds;
    `location` goes with a 3xx."""

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        self.answers: list[int] = []
        self.location = ""
        self.delay = 0.0
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                named = {name.lower(): value for name, value in self.headers.items()}
                with receiver._news:
                    receiver.hooks.append(Hook(self.path, named, body))
                    status = receiver.answers.pop(0) if receiver.answers else 200
                    receiver._news.notify_all()
                time.sleep(receiver.delay)
                with contextlib.suppress(OSError):  # the sender may have gone
                    self._answer(status)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def wait(self, count: int, *, seconds: float = 60) -> list[Hook]:
        """The hooks once there are so many."""
        ends = time.monotonic() + seconds
        with self._news:
            assert self._news.wait_for(lambda: len(self.hooks) >= count, ends - time.monotonic()), self.hooks
            return list(self.hooks)


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join(60)


def is_genuine(headers: dict[str, str], body: bytes, keys: object) -> bool:
    """The word of a script that shares no code with what it checks."""
    given = json.dumps({"headers": headers, "body": base64.b64encode(body).decode(), "keys": keys})
    script = Path(__file__).with_name("check_signature.py")
    done = subprocess.run([sys.executable, str(script)], input=given, text=True, capture_output=True, check=False)
    assert done.stderr == ""
    return done.returncode == 0
