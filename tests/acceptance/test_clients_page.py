"""The recipes of docs/clients.md, as a stranger would paste them before a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import PYTHON, Page, folder, node, paste
from tests.support.server import Server

MANUAL = Page("docs/clients.md")
PYTHON_PROGRAM = """
import fal_client
print(fal_client.run("fal-ai/flux-lora", {"prompt": "a portrait", "num_inference_steps": 1, "seed": 1})["seed"])
print(fal_client.upload(b"x", "text/plain"))
"""
JAVASCRIPT_PROGRAM = """
const input = { prompt: "a portrait", num_inference_steps: 1, seed: 1 };
console.log((await fal.subscribe("fal-ai/flux-lora", { input })).data.seed);
console.log(await fal.storage.upload(new Blob(["x"], { type: "text/plain" })));
"""


@pytest.fixture
def place(server: Server, photos: Path, tmp_path: Path) -> Path:
    return folder(server, photos, tmp_path)


def test_no_recipe_is_left_out() -> None:
    assert [language for language, _ in MANUAL.blocks] == ["sh", "python", "js", "js", "js"]


def test_the_five_names_of_python(server: Server, place: Path) -> None:
    program = MANUAL.block("python") + PYTHON_PROGRAM
    seed, url = paste(program, PYTHON, place, server, FAL_KEY=server.key).split()
    assert seed == "1"
    assert url.startswith(f"{server.origin}/cdn/files/")


@pytest.mark.parametrize("recipe", ["fetch: ", "requestMiddleware: ", "proxyUrl: "])
def test_each_way_of_javascript(server: Server, place: Path, recipe: str) -> None:
    program = MANUAL.block("js", recipe) + JAVASCRIPT_PROGRAM
    seed, url = paste(program, node(), place, server, FAL_KEY=server.key).split()
    assert seed == "1"
    assert url.startswith(f"{server.origin}/cdn/files/")
