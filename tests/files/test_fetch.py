from __future__ import annotations

import base64
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tintype.errors import Cancelled, FileDownloadError, FileTooLarge
from tintype.files import Objects, fetch_input, internal_url, new_file_id
from tintype.files.addresses import Address
from tintype.files.fetch import _Fetch
from tintype.settings import Settings


class Answers(BaseHTTPRequestHandler):
    """What a server on the internet may do to us."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.split("?")[0].strip("/")
        if name.startswith("redirect"):
            count = int(name.removeprefix("redirect"))
            self.reply(302, b"", location=f"/redirect{count - 1}" if count else "/photos.zip")
        elif name.startswith("to="):
            self.reply(307, b"", location=name.removeprefix("to=").replace("_", "/"))
        elif name == "missing":
            self.reply(404, b"no")
        elif name == "slow":
            time.sleep(1.5)
            self.reply(200, b"late")
        elif name == "endless":
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            try:
                for _ in range(10_000):
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        elif name == "bomb":
            self.reply(200, gzip.compress(b"0" * 10_000_000), **{"content-encoding": "gzip"})
        elif name == "cut":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        elif name == "get":
            self.reply(200, b"\xff\xd8\xff\xe0", **{"content-type": "image/jpeg"})
        else:
            self.reply(200, b"PK\x03\x04" + self.headers["host"].encode())

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def objects() -> Objects:
    return Objects.open("memory:")


@pytest.fixture
def fetch(tmp_path: Path, objects: Objects) -> Callable[..., Path]:
    names = ("max_bytes", "resolver", "cancelled")

    def call(url: str, **given: Any) -> Path:
        options = {name: given.pop(name) for name in names if name in given}
        settings = Settings(**{"allow_private_inputs": True} | given)
        return fetch_input(url, tmp_path / "in", objects=objects, settings=settings, **options)

    return call


def refused(fetch: Callable[..., Path], url: str, **options: Any) -> str:
    with pytest.raises(FileDownloadError) as caught:
        fetch(url, **options)
    assert caught.value.details[0]["loc"] == ["body"]  # whoever asked knows which input it was
    assert caught.value.details[0]["type"] == "file_download_error"
    return caught.value.message


def test_a_file_comes_over_http_with_its_suffix_and_leaves_no_other(
    fetch: Callable[..., Path], origin: str, tmp_path: Path
) -> None:
    path = fetch(origin + "/photos.zip")
    assert path.suffix == ".zip"
    assert path.read_bytes().startswith(b"PK\x03\x04")
    assert list((tmp_path / "in").iterdir()) == [path]
    assert fetch(origin + "/get").suffix == ".jpg"


def test_redirects_are_followed_but_not_for_ever(fetch: Callable[..., Path], origin: str) -> None:
    assert fetch(origin + "/redirect4").read_bytes().startswith(b"PK")
    assert "redirects more than 5" in refused(fetch, origin + "/redirect5")


@pytest.mark.parametrize("target", ["file:__etc_passwd", "gopher:__127.0.0.1_x", "ftp:__h_x"])
def test_a_redirect_to_anything_but_http_is_refused(fetch: Callable[..., Path], origin: str, target: str) -> None:
    assert "scheme" in refused(fetch, f"{origin}/to={target}")


def test_a_redirect_to_a_private_address_is_refused_before_it_is_followed(
    objects: Objects, origin: str, tmp_path: Path
) -> None:
    class Reaching(_Fetch):
        """May connect to anything, so that the server of this test can stand for one on the internet."""

        def _allows(self, _address: Address) -> bool:
            return True

    asked = []

    def resolver(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    fetching = Reaching(tmp_path / "x", objects, Settings(), 1000, lambda: None, resolver)
    with pytest.raises(FileDownloadError, match=r"169\.254\.169\.254 is a private address"):
        fetching.run(f"http://public.example:{origin.rsplit(':', 1)[1]}/to=http:__169.254.169.254_latest_meta-data")
    assert asked == ["public.example"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "10.1.2.3",
     "[64:ff9b::7f00:1]", "[fe80::1]"],
)  # fmt: skip
def test_private_addresses_are_refused_in_every_notation_and_the_message_says_how_to_allow_them(
    fetch: Callable[..., Path], host: str
) -> None:
    message = refused(fetch, f"http://{host}:9/x.zip", allow_private_inputs=False)
    assert "private address" in message
    assert "TINTYPE_ALLOW_PRIVATE_INPUTS" in message


def test_an_octal_address_is_not_even_a_url(fetch: Callable[..., Path]) -> None:
    assert "not a valid URL" in refused(fetch, "http://0177.0.0.1:9/x.zip", allow_private_inputs=False)


def test_a_public_name_that_leads_to_a_private_address_is_refused_when_it_connects(
    fetch: Callable[..., Path], origin: str
) -> None:
    port = origin.rsplit(":", 1)[1]
    message = refused(
        fetch, f"http://rebind.example:{port}/x", allow_private_inputs=False, resolver=lambda _h, _p: ["127.0.0.1"]
    )
    assert "private address" in message


def test_the_environments_proxy_is_not_asked(
    fetch: Callable[..., Path], origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert fetch(origin + "/photos.zip").exists()


def test_failures_are_told_in_words(fetch: Callable[..., Path], origin: str) -> None:
    assert "answered 404" in refused(fetch, origin + "/missing")
    assert "could not be resolved" in refused(fetch, "http://no-such-host.invalid/x", resolver=_no_such_name)
    assert "connection failed" in refused(fetch, "http://127.0.0.1:1/x")
    assert "connection failed" in refused(fetch, origin + "/cut")
    assert "longer than 0.5 seconds" in refused(fetch, origin + "/slow", fetch_timeout=0.5)
    assert "scheme is file" in refused(fetch, "file:///etc/passwd")
    assert "scheme" in refused(fetch, "/home/me/photos.zip")
    refused(fetch, "http://[broken")


def _no_such_name(_host: str, _port: int) -> list[str]:
    raise OSError("Name or service not known")


@pytest.mark.parametrize("name", ["endless", "bomb", "photos.zip"])
def test_a_file_over_the_limit_is_left_when_the_limit_is_reached(
    fetch: Callable[..., Path], origin: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(FileTooLarge) as caught:
        fetch(f"{origin}/{name}", max_bytes=10)
    assert caught.value.details[0]["ctx"] == {"max_size": 10}
    assert not list((tmp_path / "in").iterdir())


def test_cancelling_ends_a_download(fetch: Callable[..., Path], origin: str, tmp_path: Path) -> None:
    def cancelled() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        fetch(origin + "/endless", cancelled=cancelled)
    assert not list((tmp_path / "in").iterdir())


def test_files_of_this_server_come_from_storage_by_their_references(
    fetch: Callable[..., Path], objects: Objects
) -> None:
    file_id = new_file_id()
    objects.put_bytes(f"{file_id}/lora.safetensors", b"weights")
    reference = internal_url(file_id, "lora.safetensors")
    for url in (reference, reference + "?until=9"):
        path = fetch(url, allow_private_inputs=False)
        assert path.read_bytes() == b"weights"
        assert path.suffix == ".safetensors"
        with pytest.raises(FileTooLarge):
            fetch(url, max_bytes=3)


def test_a_file_that_is_gone_is_told_to_be_gone(fetch: Callable[..., Path]) -> None:
    assert "no such file" in refused(fetch, internal_url(new_file_id(), "a.zip"))
    assert "no such file" in refused(fetch, "tintype:files/nonsense")
    assert "no such file" in refused(fetch, "TinType:FILES/nonsense")


def test_data_uris_of_any_size_are_decoded(fetch: Callable[..., Path]) -> None:
    data = b"PK\x03\x04" + bytes(3_000_000)
    path = fetch("data:application/octet-stream;base64," + base64.b64encode(data).decode())
    assert path.read_bytes() == data
    assert path.suffix == ".zip"
    assert fetch("data:image/png,x").suffix == ".png"
    assert "base64" in refused(fetch, "data:;base64,$$$")
    with pytest.raises(FileTooLarge):
        fetch("data:,0123456789", max_bytes=5)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/files/ID/a.zip", "http://127.0.0.1:1/cdn/files/ID/a.zip", "http://localhost/files/ID/a.zip",
     "http://tintype@example.com/cdn/files/ID/a.zip", "https://v3.fal.media/files/ID/a.zip"],
)  # fmt: skip
def test_a_url_is_never_read_from_storage_whatever_its_path_looks_like(
    fetch: Callable[..., Path], objects: Objects, url: str
) -> None:
    file_id = new_file_id()
    objects.put_bytes(f"{file_id}/a.zip", b"somebody else's photos")
    with pytest.raises(FileDownloadError, match=r"could not be fetched|private address"):
        fetch(url.replace("ID", file_id), allow_private_inputs=False, resolver=lambda host, port: ["127.0.0.1"])
