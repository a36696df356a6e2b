"""What pages for assistants say is what the published pages say, and what is declared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype import catalog

OUT = "output "
PORTRAIT, TRAINER = "fal-ai/flux-lora-portrait-trainer", "ideogram/v4/trainer"
GENERATE = "fal-ai/ideogram/custom-models/generate"
RATIOS = ("1:3", "3:1", "1:2", "2:1", "9:16", "16:9", "10:16", "16:10", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "1:1")

# Facts of fal's three pages: a field, its type there, whether it is required, and what else is said of it. Outputs are
# named after `OUT`, for some are called as an input is.
FACTS: list[tuple[str, str, str, bool, dict[str, str]]] = [
    (GENERATE, "model_id", "string", True, {}),
    (GENERATE, "prompt", "string", True, {"Examples": '"A photo in my custom style"'}),
    (GENERATE, "aspect_ratio", "AspectRatioEnum", False,
     {"Default": '`"1:1"`', "Options": ", ".join(f'`"{ratio}"`' for ratio in RATIOS)}),
    (GENERATE, "rendering_speed", "RenderingSpeedEnum", False,
     {"Default": '`"BALANCED"`', "Options": '`"TURBO"`, `"BALANCED"`, `"QUALITY"`'}),
    (GENERATE, "num_images", "integer", False, {"Default": "`1`", "Range": "`1` to `8`"}),
    (GENERATE, "negative_prompt", "string", False, {"Default": '`""`'}),
    (GENERATE, "expand_prompt", "boolean", False, {"Default": "`true`"}),
    (GENERATE, "seed", "integer", False, {}),
    (GENERATE, "sync_mode", "boolean", False, {"Default": "`false`"}),
    (GENERATE, f"{OUT}seed", "integer", True, {"Examples": "123456"}),
    (GENERATE, f"{OUT}images", "list<File>", True,
     {"Examples": '[{"url": "https://v3.fal.media/files/penguin/lHdRabS80guysb8Zw1kul_image.png"}]'}),
    (PORTRAIT, "images_data_url", "string", True, {}),
    (PORTRAIT, "trigger_phrase", "string", False, {}),
    (PORTRAIT, "learning_rate", "float", False, {"Default": "`0.00009`"}),
    (PORTRAIT, "steps", "integer", False, {"Default": "`2500`"}),
    (PORTRAIT, "multiresolution_training", "boolean", False, {"Default": "`true`"}),
    (PORTRAIT, "subject_crop", "boolean", False, {"Default": "`true`"}),
    (PORTRAIT, "data_archive_format", "DataArchiveFormatEnum", False, {}),
    (PORTRAIT, "resume_from_checkpoint", "string", False, {"Default": '`""`'}),
    (PORTRAIT, f"{OUT}diffusers_lora_file", "File", True, {}),
    (PORTRAIT, f"{OUT}config_file", "File", True, {}),
    (TRAINER, "images_data_url", "string", True, {}),
    (TRAINER, "steps", "integer", False, {"Default": "`1000`"}),
    (TRAINER, "default_caption", "string", False, {}),
    (TRAINER, "force_default_caption", "boolean", False, {}),
    (TRAINER, "learning_rate", "float", False, {"Default": "`0.0001`"}),
    (TRAINER, "resolution", "string", False, {"Default": '`"auto"`'}),
    (TRAINER, "output_lora_format", "OutputLoraFormatEnum", False, {"Default": '`"fal"`'}),
    (TRAINER, f"{OUT}diffusers_lora_file", "File", True, {}),
    (TRAINER, f"{OUT}config_file", "File", True, {}),
]  # fmt: skip


@pytest.fixture
def stranger(server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.origin, trust_env=False) as client:
        yield client


def text(client: httpx.Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/markdown")
    return answer.text


def field(page: str, name: str) -> str:
    """What a page says of an input, or of an output that is named so."""
    inputs, outputs = page.split("### Output Schema")
    page, name = (outputs, name.removeprefix(OUT)) if name.startswith(OUT) else (inputs, name)
    found = re.search(rf"^- \*\*`{name}`\*\*.*?(?=^- \*\*`|^\*\*|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[0]


@pytest.mark.parametrize(("endpoint_id", "name", "type_", "required", "facts"), FACTS)
def test_a_field_is_told_as_on_fals_page(
    stranger: httpx.Client, endpoint_id: str, name: str, type_: str, required: bool, facts: dict[str, str]
) -> None:
    said = field(text(stranger, f"/models/{endpoint_id}/llms.txt"), name)
    assert f"(`{type_}`, _{'required' if required else 'optional'}_)" in said
    for label, value in facts.items():
        assert f"  - {label}: {value}\n" in said


# The JSON of fal's pages: the least input, the whole one, the answer. One page leaves out what it requires elsewhere.
JSON = {
    GENERATE: (
        {"model_id": "", "prompt": "A photo in my custom style"},
        {"model_id": "", "prompt": "A photo in my custom style", "aspect_ratio": "1:1", "rendering_speed": "BALANCED",
         "num_images": 1, "expand_prompt": True},
        {"images": [{"url": "https://v3.fal.media/files/penguin/lHdRabS80guysb8Zw1kul_image.png"}], "seed": 123456},
    ),
    PORTRAIT: (
        {"images_data_url": ""},
        {"images_data_url": "", "learning_rate": 0.00009, "steps": 2500, "multiresolution_training": True,
         "subject_crop": True},
        {"diffusers_lora_file": {"url": ANY}, "config_file": {"url": ANY}},
    ),
    TRAINER: (
        {"images_data_url": ""},
        {"images_data_url": "", "steps": 1000, "resolution": "auto", "learning_rate": 0.0001},
        {"diffusers_lora_file": {"url": ANY}, "config_file": {"url": ANY}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("endpoint_id", JSON)
def test_the_examples_are_those_of_fals_page(stranger: httpx.Client, endpoint_id: str) -> None:
    page = text(stranger, f"/models/{endpoint_id}/llms.txt")
    shown = re.findall(r"^\*\*([^*\n]*)\*\*:\n\n```json\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    assert [title for title, _ in shown] == ["Required Parameters Example", "Full Example", "Example Response"]
    assert tuple(json.loads(example) for _, example in shown) == JSON[endpoint_id]


# What the pages of the trainers call other types, with their fields. A result has no file_data, which is an input's.
TYPES: list[tuple[str, str, str, Any]] = [
    ("File", "url", "string", None), ("File", "content_type", "string", None), ("File", "file_name", "string", None),
    ("File", "file_size", "integer", None), ("Image", "url", "string", None), ("Image", "content_type", "string", ANY),
    ("Image", "file_name", "string", None), ("Image", "file_size", "integer", None),
    ("Image", "width", "integer", None), ("Image", "height", "integer", None), ("ImageSize", "width", "integer", 512),
    ("ImageSize", "height", "integer", 512),
]  # fmt: skip


@pytest.mark.parametrize(("of", "name", "type_", "default"), TYPES)
def test_other_types_have_the_fields_of_fals_pages(
    stranger: httpx.Client, of: str, name: str, type_: str, default: Any
) -> None:
    schema = stranger.get("/openapi.json").json()["components"]["schemas"][of]
    declared = schema["properties"][name]
    assert (declared["type"], declared.get("default")) == (type_, default)
    assert (name in schema.get("required", ())) is (name == "url")


RESOLUTIONS = {
    "square": "1024x1024", "landscape": "1536x1024", "portrait": "1024x1536", "widescreen": "1920x1088",
    "ultrawide": "2048x768", "phone_wallpaper": "1024x1792", "social_banner": "1584x400",
}  # fmt: skip


def test_every_resolution_of_fals_page_is_told_and_taken(stranger: httpx.Client) -> None:
    said, endpoint = field(text(stranger, f"/models/{TRAINER}/llms.txt"), "resolution"), catalog.get(TRAINER)
    for name, size in RESOLUTIONS.items():
        assert f"{name} {size}" in said
        for value in (name, size):
            assert endpoint.parse({"images_data_url": "https://h/a.zip", "resolution": value})
    assert "custom WIDTHxHEIGHT string" in said


def test_every_declared_field_is_on_its_page_and_every_page_on_that_of_the_site(stranger: httpx.Client) -> None:
    site = text(stranger, "/llms.txt")
    for endpoint in catalog.ENDPOINTS:
        assert f"/models/{endpoint.id}/llms.txt" in site
        for name in (endpoint.id, *endpoint.aliases):
            page = text(stranger, f"/models/{name}/llms.txt")
            for declared in (*endpoint.input.model_fields, *(OUT + name for name in endpoint.output.model_fields)):
                assert field(page, declared)
            assert f"- **Model ID**: `{name}`" in page
            assert "{{" not in page


def test_a_page_of_nothing_names_the_nearest(stranger: httpx.Client) -> None:
    answer = stranger.get("/models/fal-ai/flux-loras/llms.txt")
    assert answer.status_code == 404
    assert "fal-ai/flux-lora" in answer.text


def test_a_page_has_its_markdown_at_its_own_address_and_beside_it(stranger: httpx.Client) -> None:
    pages = {
        f"/models/{name}": f"/models/{name}/llms.txt" for one in catalog.ENDPOINTS for name in (one.id, *one.aliases)
    }
    for page, twin in {**pages, "/models": "/llms.txt"}.items():
        assert (
            text(stranger, f"{page}.md") == text(stranger, page) == text(stranger, f"{page}/") == text(stranger, twin)
        )
    for page, twin in {"/": "/llms.txt", "/docs/errors": "/docs/errors.md"}.items():
        asked = stranger.get(page, headers={"Accept": "text/markdown, text/plain;q=0.8"})
        assert (asked.text, asked.headers["content-type"]) == (text(stranger, twin), "text/markdown; charset=utf-8")
        browser = stranger.get(page, headers={"Accept": "text/html,*/*;q=0.8"}, follow_redirects=True)
        assert browser.text.startswith("<!doctype html>")
    shown = stranger.get(f"/models/{PORTRAIT}.md", headers={"Accept": "text/html,*/*;q=0.8"})
    assert shown.headers["content-type"] == "text/plain; charset=utf-8", "a browser saves what it cannot show"


def test_the_errors_page_says_the_same_in_markdown(stranger: httpx.Client) -> None:
    told = text(stranger, "/docs/errors.md")
    explained = re.findall(r"^- \*\*`(\w+)`\*\*: \S", told, re.MULTILINE)
    assert explained == re.findall(r"<dt id='(\w+)'>", stranger.get("/docs/errors").text)
    assert "<" not in told


def test_a_page_of_no_endpoint_is_told_which_is_nearest(stranger: httpx.Client) -> None:
    for address in ("/models/fal-ai/flux-krea-lora", "/models/fal-ai/flux-krea-lora.md"):
        answer = stranger.get(address)
        assert answer.status_code == 404
        assert "The nearest here is fal-ai/flux-lora." in answer.json()["message"]


def items(client: httpx.Client, **given: Any) -> list[str]:
    answer = client.get("/api/models", params=given).json()
    assert set(answer) == {"items", "total", "page", "size", "pages"}
    return [item["id"] for item in answer["items"]]


def test_the_gallery_is_searched_and_paged(stranger: httpx.Client) -> None:
    every = [endpoint.id for endpoint in catalog.ENDPOINTS]
    assert items(stranger) == items(stranger, total=100) == every
    assert [item for page in range(1, 9) for item in items(stranger, page=page, size=2)] == every
    assert items(stranger, page=99) == []
    assert items(stranger, categories="training") == [one.id for one in catalog.ENDPOINTS if one.category == "training"]
    assert items(stranger, keywords="custom model GENERATES") == [GENERATE]
    assert items(stranger, keywords="nothing-like-it") == []
    trainers = items(stranger, categories="training")
    for word in ("train", "Training", "trainer", "fine-tune", "finetuning"):
        assert set(trainers) <= set(items(stranger, keywords=word))
    for odd in ("0", "-1", "x", "1e9", "9" * 30):
        assert stranger.get("/api/models", params={"page": odd, "size": odd}).status_code == 200
