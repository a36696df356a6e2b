"""A URL that gives no archive is answered exactly, by a server that may fetch from this machine."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.refusals import assert_serves, refusal
from tests.support.server import Server, running

MIB = 1024 * 1024


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Another server, which answers as its paths say."""

    def do_GET(self) -> None:
        if self.path == "/404":
            self.send_error(404)
        elif self.path == "/page":
            self.answer(b"<!doctype html><title>Sign in</title>", "text/html")
        elif self.path == "/large":
            self.answer(b"\0" * (2 * MIB), "application/zip")
        elif self.path == "/unannounced":  # larger than is taken, and not said so before
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"\0" * (2 * MIB))
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        else:  # /slow: a byte now and then, for ever
            self.send_response(200)
            self.end_headers()
            self.trickle()

    def trickle(self) -> None:
        try:
            for _ in range(200):
                self.wfile.write(b"P")
                time.sleep(0.1)
        except OSError:
            return  # the other side has had enough, as it should

    def answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(content)
        except OSError:
            return  # refused by its announced size

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may fetch from this machine, little and not for long."""
    settings: dict[str, Any] = {"ALLOW_PRIVATE_INPUTS": "true", "MAX_INPUT_BYTES": str(MIB), "FETCH_TIMEOUT": "2"}
    with running(tmp_path_factory.mktemp("strict"), **settings) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("http://127.0.0.1:1/photos.zip", "file_download_error", "could not be fetched. The connection failed"),
        ("http://no-such-host.invalid/photos.zip", "file_download_error", "could not be fetched"),
        ("/404", "file_download_error", "The server that holds it answered 404"),
        ("/large", "file_too_large", "larger than 1 MiB"),
        ("/unannounced", "file_too_large", "larger than 1 MiB"),
        ("/page", "invalid_archive", "looks like a web page"),
        ("/slow", "file_download_error", "took longer than 2 seconds"),
        ("/loop", "file_download_error", "redirects more than"),
    ],
)
def test_a_url_that_gives_no_archive_is_answered_exactly(
    strict: Server, elsewhere: str, path: str, kind: str, says: str
) -> None:
    url = path if path.startswith("http") else elsewhere + path
    with strict.http() as http:
        entry, _ = refusal(http, {"images_data_url": url})
        assert entry["loc"] == ["body", "images_data_url"]
        assert entry["type"] == kind
        assert says in entry["msg"]
        assert "\n" not in entry["msg"]
        if kind == "file_too_large":
            assert entry["ctx"] == {"max_size": MIB}
        assert_serves(http)
