"""The mission, literally: the programs on fal's own pages run under `tintype run`, and their keys stay as printed.

Only placeholders are filled in: ids, URLs, the dataset, and, where a page trains for thousands of steps, how many.
What a program keeps to itself is printed at its end, to be looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.support.pages import PAGES, folder, node, paste_as_printed
from tests.support.server import Server

ANY_ID = "764cabcf-b745-4b3e-ae38-1200304cf45b"
ANY_WEBHOOK = "https://optional.webhook.url/for/results"


@dataclass(frozen=True)
class Trainer:
    """A page that trains, and the fewest steps that its endpoint takes."""

    page: str
    endpoint: str
    least_steps: int

    def block(self, name: str) -> str:
        return (PAGES / self.page / f"{name}.mjs").read_text()

    def with_dataset(self, name: str, url: str, *, steps: int | None = None) -> str:
        given = f'images_data_url: "{url}"' + (f", steps: {steps}" if steps else "")
        text = re.sub(r'input: \{\s*(?:images_data_url: ""\s*)?\}', f"input: {{ {given} }}", self.block(name))
        assert given in text
        return text


PORTRAIT = Trainer("flux-lora-portrait-trainer", "fal-ai/flux-lora-portrait-trainer", 2)
IDEOGRAM = Trainer("ideogram-v4-trainer", "ideogram/v4/trainer", 100)
TRAINERS = [pytest.param(each, id=each.page) for each in (PORTRAIT, IDEOGRAM)]

Paste = Callable[[list[str], str], str]


@pytest.fixture
def paste(server: Server, photos: Path, tmp_path: Path) -> Paste:
    place = folder(server, photos, tmp_path)
    return lambda command, program: paste_as_printed(program, command, place, server)


@pytest.fixture(scope="module")
def dataset(server: Server, photos: Path) -> str:
    return server.upload(photos.read_bytes())


def fetched(printed: str, name: str) -> bytes:
    """The file that a program's output names."""
    url = re.search(rf"http://[^'\"\s]+/{name}", printed)
    assert url is not None, printed
    return httpx.get(url[0], trust_env=False).raise_for_status().content


@pytest.mark.parametrize(
    "trainer",
    [
        pytest.param(PORTRAIT, id=PORTRAIT.page),
        pytest.param(IDEOGRAM, id=IDEOGRAM.page, marks=pytest.mark.long),  # a hundred steps, as other tests take
    ],
)
def test_a_trainers_page_trains(trainer: Trainer, paste: Paste, dataset: str) -> None:
    printed = paste(node(), trainer.with_dataset("subscribe", dataset, steps=trainer.least_steps))
    assert "diffusers_lora_file" in printed
    assert "config_file" in printed
    assert len(fetched(printed, r"[\w.-]+\.safetensors")) > 10_000
    request_id = printed.split()[-1]
    known = trainer.block("result").replace(ANY_ID, request_id)
    assert paste(node(), known).split()[-1] == request_id
    known = trainer.block("status").replace(ANY_ID, request_id) + "console.log(status.status, status.logs.length > 0);"
    assert paste(node(), known) == "COMPLETED true\n"


@pytest.mark.long
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainers_page_trains_as_long_as_it_says(trainer: Trainer, paste: Paste, dataset: str) -> None:
    printed = paste(node(), trainer.with_dataset("subscribe", dataset))
    assert len(fetched(printed, r"[\w.-]+\.safetensors")) > 10_000


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainers_page_submits_and_its_webhook_is_called(
    trainer: Trainer, paste: Paste, dataset: str, server: Server
) -> None:
    with receiving() as (url, received):
        text = trainer.with_dataset("submit", dataset).replace(ANY_WEBHOOK, url)
        request_id = paste(node(), text + "console.log(request_id);").strip()
        with server.http() as http:
            assert http.put(f"/queue/{trainer.endpoint}/requests/{request_id}/cancel").status_code == 202
        told = received.get(timeout=120)
    assert (told["request_id"], told["status"]) == (request_id, "ERROR")


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainers_page_uploads_with_the_credential_it_prints(trainer: Trainer, paste: Paste) -> None:
    configured = trainer.block("credentials")
    assert 'credentials: "YOUR_FAL_KEY"' in configured
    upload = trainer.block("upload") + "console.log(url);"
    for text in (upload, configured + upload.partition("\n")[2]):
        assert fetched(paste(node(), text), "hello.txt") == b"Hello, World!"


@contextmanager
def receiving() -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    """A program of the person's own that webhooks are sent to."""
    received: Queue[dict[str, Any]] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        thread = Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{receiver.server_port}/for/results", received
        receiver.shutdown()
        thread.join()
