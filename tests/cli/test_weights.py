"""Both bases are listed with what is used and why; nothing is fetched before a licence was accepted."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from tintype.cli import app, weights
from tintype.models.ideogram4 import PROMPT_HEAD_REPOSITORY
from tintype.models.registry import family_spec, family_specs
from tintype.settings import GIB

runner = CliRunner()
FILES = {
    "a/flux": {
        "model_index.json": b'{"_class_name": "FluxPipeline"}',
        "transformer/diffusion_pytorch_model.safetensors": b"weights",
        "flux1-dev.safetensors": b"x" * 1000,
    },
    "a/other": {"model_index.json": b'{"_class_name": "Flux2Pipeline"}', "transformer/a.safetensors": b"weights"},
    "city96/FLUX.1-dev-gguf": {"flux1-dev-Q4_K_S.gguf": b"GGUF", "flux1-dev-Q8_0.gguf": b"GGUF8"},
    "black-forest-labs/FLUX.1-dev": {
        "model_index.json": b'{"_class_name": "FluxPipeline"}',
        "vae/a.safetensors": b"v", "transformer/a.safetensors": b"t",
    },
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as fetching asks; a repository that it has not is gated."""

    protocol_version = "HTTP/1.1"
    sent: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0]).removeprefix("/api/models/").strip("/")
        repository = "/".join(path.split("/")[:2])
        files = FILES.get(repository)
        if files is None:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        if self.path.startswith("/api/"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            tree = [{"type": "file", "path": name, "size": len(content), "oid": "a"} for name, content in files.items()]
            about = {"id": repository, "sha": "1" * 40, "siblings": siblings, "private": False, "gated": False}
            told = tree if "/tree/" in self.path else about
            return self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        content = files.get(path.split("/", 4)[4])
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.sent.append(path.split("/", 4)[4])
        tag = hashlib.sha256(content).hexdigest()
        return self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": "1" * 40})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    Hub.sent.clear()
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def pulled(*arguments: str) -> str:
    return " ".join(runner.invoke(app, ["weights", "pull", *arguments, "--yes"]).output.split())


@pytest.fixture(autouse=True)
def _empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TINTYPE_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "250")


def test_each_base_says_what_is_used_and_why() -> None:
    listed = runner.invoke(app, ["weights", "list"]).output
    for spec in family_specs():
        assert spec.repository in listed
    assert "FLUX base: the built-in miniature" in listed
    assert "Ideogram 4 base: the built-in miniature" in listed


@pytest.mark.parametrize("name", ["flux", "ideogram4"])
def test_the_licence_is_shown_and_declining_it_fetches_nothing(name: str, tmp_path: Path) -> None:
    answered = runner.invoke(app, ["weights", "pull", name], input="n\n")
    assert answered.exit_code == 1
    assert family_spec(name).licence.name in " ".join(answered.output.split())
    assert list(tmp_path.iterdir()) == []


def test_a_repository_of_it_is_fetched_in_its_folders_and_goes_on_where_it_stopped(hub: type[Hub]) -> None:
    said = pulled("flux", "--repository", "a/flux")
    assert "done" in said
    assert "TINTYPE_FLUX_BASE is a/flux" in said
    assert sorted(hub.sent) == ["model_index.json", "transformer/diffusion_pytorch_model.safetensors"]
    hub.sent.clear()
    assert "0.0 GiB to fetch" in pulled("flux", "--repository", "a/flux")
    assert hub.sent == []


def test_a_licence_is_asked_for_once(hub: type[Hub]) -> None:
    arguments = ["weights", "pull", "flux", "--repository", "a/flux"]
    assert "I have read the licence" in runner.invoke(app, arguments, input="y\n").output
    again = runner.invoke(app, arguments)
    assert again.exit_code == 0
    assert "I have read the licence" not in again.output
    assert "Accepted on 20" in again.output


def test_another_model_is_refused_before_its_weights_are_fetched(hub: type[Hub]) -> None:
    answered = runner.invoke(app, ["weights", "pull", "flux", "--repository", "a/other", "--yes"])
    assert "FLUX.2" in str(answered.exception or answered.output)
    assert hub.sent == ["model_index.json"]
    answered = runner.invoke(app, ["weights", "pull", "flux", "--repository", "black-forest-labs/FLUX.2-dev", "--yes"])
    assert "another model" in str(answered.exception or answered.output)


def test_a_form_is_fetched_with_the_parts_that_it_needs(hub: type[Hub]) -> None:
    said = pulled("flux", "--form", "gguf")
    assert sorted(hub.sent) == ["flux1-dev-Q4_K_S.gguf", "model_index.json", "vae/a.safetensors"]
    assert "flux1-dev-Q4_K_S.gguf." in said
    answered = runner.invoke(app, ["weights", "pull", "ideogram4", "--form", "gguf", "--yes"])
    assert "Its forms are: bf16, nf4" in str(answered.exception or answered.output)


def test_a_gated_repository_says_whose_licence_to_accept(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    answered = runner.invoke(app, ["weights", "pull", "flux", "--form", "nf4", "--yes"])
    said = str(answered.exception or answered.output)
    assert "diffusers/FLUX.1-dev-bnb-4bit is gated" in said
    assert "HF_TOKEN" in said
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    answered = runner.invoke(app, ["weights", "pull", "flux", "--form", "nf4", "--yes"])
    assert "could not be reached" in str(answered.exception or answered.output)


def test_the_form_follows_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory, form in ((8 * GIB, "nf4"), (24 * GIB, "bf16"), (141 * GIB, "bf16"), (None, "bf16")):
        monkeypatch.setattr(weights, "gpu_bytes", lambda setting, memory=memory: memory)
        answered = runner.invoke(app, ["weights", "pull", "flux"], input="n\n")
        assert f"({form})" in answered.output


def test_room_is_looked_for_where_the_cache_is(hub: type[Hub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/proc")
    asked: list[Path] = []
    monkeypatch.setattr(weights, "check_room", lambda folder, size: asked.append(folder))
    pulled("flux", "--repository", "a/flux")
    assert asked == [tmp_path]


def test_prompts_can_be_written_once_ideogram_was_fetched() -> None:
    assert family_spec("ideogram4").further_repositories == (PROMPT_HEAD_REPOSITORY,)
