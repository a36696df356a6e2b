"""Every block of code on an endpoint's page for assistants, run as it stands."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.images import encoded
from tests.support.pages import PYTHON, SHELL, Page, folder, node, paste, paste_as_printed
from tests.support.server import Server
from tintype import catalog
from tintype.catalog import Endpoint
from tintype.catalog.custom_models import UsesModel

CUSTOM_TRAINER = "fal-ai/ideogram/custom-models"
# Trainers' programs train for thousands of steps, as they stand.
ENDPOINTS = [
    pytest.param(one, id=one.id, marks=[pytest.mark.long] if one.kind == "training" else [])
    for one in catalog.ENDPOINTS
    if not issubclass(one.input, UsesModel)
]
TRAINING_SECONDS = 3600  # generous: the machine may be busy


def page(server: Server, endpoint_id: str) -> Page:
    with server.http() as http:
        return Page(text=http.get(f"/models/{endpoint_id}/llms.txt").raise_for_status().text)


@pytest.fixture
def place(server: Server, photos: Path, tmp_path: Path) -> Path:
    shutil.copy(photos, tmp_path / "images.zip")
    (tmp_path / "image.png").write_bytes(encoded(Image.new("RGB", (640, 512), (200, 120, 60))))
    return folder(server, photos, tmp_path)


def check_programs(server: Server, place: Path, endpoint: Endpoint, **given: str) -> None:
    """Runs the three programs of a page; each prints the answer, with the URL of a file or the id of a model in it."""
    blocks, seconds = page(server, endpoint.id), TRAINING_SECONDS
    if shutil.which("curl"):
        told = paste(blocks.block("bash", "curl"), SHELL, place, server, seconds, FAL_KEY=server.key, **given)
        assert set(json.loads(told)) == set(endpoint.output.model_fields)
    for program, command in ((blocks.block("python"), PYTHON), (blocks.block("javascript"), node())):
        printed = paste_as_printed(program, command, place, server, seconds, **given)
        assert all(field in printed for field in endpoint.output.model_fields)
        made = r"/cdn/files/|model_id['\"]?: ['\"]\w"
        assert re.search(made, printed), printed


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_programs_of_a_page_run_as_they_stand(server: Server, place: Path, endpoint: Endpoint) -> None:
    check_programs(server, place, endpoint)


@pytest.mark.long
def test_the_programs_of_a_page_generate_with_a_custom_model(server: Server, photos: Path, place: Path) -> None:
    body = {"images_data_url": server.upload(photos.read_bytes()), "steps": 100}
    trained = server.result(server.submit(CUSTOM_TRAINER, body))
    endpoint = catalog.find(f"{CUSTOM_TRAINER}/generate")
    assert endpoint is not None
    check_programs(server, place, endpoint, MODEL_ID=trained["model_id"])


def test_examples_are_json_and_what_the_endpoint_takes(server: Server) -> None:
    for endpoint in catalog.ENDPOINTS:
        required, full, response = (
            json.loads(text) for language, text in page(server, endpoint.id).blocks if language == "json"
        )
        filled = {name: value or "https://example.com/a.zip" for name, value in full.items()}
        assert endpoint.parse(filled)
        assert required.items() <= full.items()
        assert set(response) == set(endpoint.output.model_fields)


@pytest.mark.long
def test_the_clients_are_installed_as_it_says(server: Server, tmp_path: Path) -> None:
    blocks = page(server, "fal-ai/flux-lora")
    tools = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    assert "fal" in paste(blocks.block("bash", "pip"), SHELL, tmp_path, server, PATH=tools)
    if shutil.which("npm"):
        paste(blocks.block("bash", "npm"), SHELL, tmp_path, server)
        assert (tmp_path / "node_modules/@fal-ai/client").is_dir()
