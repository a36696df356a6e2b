"""The pages as a browser gets them: of every endpoint, closed to foreign script, with what people wrote as text."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, Field
from tests.support.web_server import WebServer

from tintype import catalog
from tintype.catalog import Endpoint, EndpointInput, EndpointOutput
from tintype.catalog.fields import FileUrl
from tintype.store.records import Scope
from tintype.web.studio.form import FormField, form_of_input

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> ' \" }} {{ 7*7 }} </textarea>"
PAGES = ["/", "/models", "/datasets", "/requests", "/loras", "/custom-models", "/files", "/keys", "/usage", "/doctor"]


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def inputs(self) -> list[str]:
        return [str(given["data-path"]) for _, given in self.found if "data-path" in given]


@contextlib.contextmanager
def signed_in(server: WebServer, key: str) -> Iterator[httpx.Client]:
    headers = {"Accept": "text/html"}
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=120, headers=headers) as client:
        client.post("/sign-in", data={"code": key}, headers={"Origin": server.origin})
        yield client


@pytest.fixture
def browser(server: WebServer) -> Iterator[httpx.Client]:
    with signed_in(server, server.create_key("person", Scope.ADMIN)) as client:
        yield client


def wait_for(server: WebServer, request_id: str) -> None:
    ends = time.monotonic() + 60
    while server.request(request_id).status != "COMPLETED":
        assert time.monotonic() < ends
        time.sleep(0.02)


def check_page(answer: httpx.Response) -> Elements:
    """Checks what holds for every page."""
    assert answer.status_code == 200, answer.text[:500]
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    page = Elements(answer.text)
    for tag, given in page.found:
        assert not any(name.startswith("on") or name == "style" for name in given), (tag, given)
        assert tag != "style"
        assert tag != "script" or str(given.get("src", "")).startswith("/static/")
        for name in ("src", "action", *(["href"] if tag == "link" else [])):  # what a browser fetches by itself
            assert not re.match(r"(?:https?:)?//", given.get(name) or ""), (tag, given)
    ids = [given["id"] for _, given in page.found if "id" in given]
    assert len(ids) == len(set(ids))
    assert len(answer.content) < 100_000
    return page


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_closed_to_foreign_script(browser: httpx.Client, path: str) -> None:
    check_page(browser.get(path))


@pytest.mark.parametrize("endpoint", catalog.ENDPOINTS, ids=lambda endpoint: endpoint.id)
def test_each_endpoint_has_a_form_of_all_its_inputs_and_an_api_page(browser: httpx.Client, endpoint: Endpoint) -> None:
    for path in (f"/models/{endpoint.id}", f"/models/{endpoint.id}/playground"):
        page = check_page(browser.get(path))
        assert {path.split(".")[0] for path in page.inputs()} == set(endpoint.input.model_fields)
    manual = check_page(browser.get(f"/models/{endpoint.id}/api"))
    for section in ("Overview", "Input Schema", "Output Schema", "Python", "JavaScript", "cURL"):
        assert section in manual.text
    assert all(name in manual.text for name in endpoint.input.model_fields)


class Part(BaseModel):
    mask_url: str = Field(max_length=100)
    times: int = Field(1, ge=1, le=9)


class HouseInput(EndpointInput):
    parts: list[Part] = Field(min_length=1)
    more: list[FileUrl] = Field(default_factory=list)
    negative_prompt: str = "a"
    loud: bool = True
    bound: float | None = Field(None, gt=0, le=1)
    free: int = Field(3, ge=0)
    secret: str = Field("", json_schema_extra={"ui": {"hidden": True}})
    picture: str = Field("", json_schema_extra={"ui": {"field": "image", "important": True}})
    any: dict[str, float] = Field(default_factory=dict)


class HouseOutput(EndpointOutput):
    text: str


HOUSE = Endpoint(
    id="house/join", title=HOSTILE, category="test", kind="inference", description=HOSTILE, input=HouseInput,
    output=HouseOutput, job="nowhere:run", base="none",
)  # fmt: skip


def kinds(fields: Any) -> dict[str, str]:
    return {one.path: one.kind for one in fields} | {
        path: kind for one in fields for path, kind in kinds(one.fields).items()
    }


def test_a_form_follows_from_the_schema() -> None:
    fields = {one.name: one for one in form_of_input(HouseInput)}
    assert kinds(fields.values()) == {
        "parts": "rows", "parts.__.mask_url": "file", "parts.__.times": "slider", "more": "rows", "more.__": "file",
        "negative_prompt": "long_text", "loud": "switch", "bound": "slider", "free": "number", "picture": "file",
        "any": "json",
    }  # fmt: skip
    assert [name for name, one in fields.items() if one.is_important] == ["parts", "negative_prompt", "picture"]
    assert (fields["bound"].minimum, fields["bound"].maximum, fields["free"].maximum) == (0.0, 1.0, None)
    flux = {one.name: one for one in form_of_input(catalog.get("fal-ai/flux-lora").input)}
    assert (flux["seed"].kind, flux["prompt"].kind, flux["prompt"].is_required) == ("seed", "long_text", True)
    assert flux["image_size"].kind == "choice_or_object"
    assert [one.path for one in flux["image_size"].fields] == ["image_size.width", "image_size.height"]
    assert kinds(flux["loras"].fields) == {"loras.__.path": "file", "loras.__.scale": "slider"}
    trainer: FormField = form_of_input(catalog.get("fal-ai/flux-lora-portrait-trainer").input)[0]
    assert (trainer.kind, trainer.label) == ("archive", "Images")


def test_an_endpoint_that_is_declared_here_has_its_pages_and_its_words_are_text(
    monkeypatch: pytest.MonkeyPatch, browser: httpx.Client
) -> None:
    monkeypatch.setattr(catalog, "ENDPOINTS", (*catalog.ENDPOINTS, HOUSE))
    for path in ("/models", "/models/house/join"):
        page = check_page(browser.get(path))
        assert HOSTILE in page.text
    assert page.inputs() == [
        "parts.__.mask_url", "parts.__.times", "negative_prompt", "picture", "more.__", "loud", "bound", "free", "any",
    ]  # fmt: skip
    check_page(browser.get("/models/house/join/api"))


def test_what_people_wrote_is_text(server: WebServer) -> None:
    key = server.create_key(HOSTILE)
    with signed_in(server, key) as browser:
        headers = {"Origin": server.origin, "X-Fal-Tags": "a=<b>x</b>"}
        trained = {"images_data_url": "data:application/zip;base64,AAAA", "trigger_phrase": HOSTILE}
        wait_for(
            server,
            browser.post("/queue/fal-ai/flux-lora-portrait-trainer", json=trained, headers=headers).json()[
                "request_id"
            ],
        )
        sent = browser.post("/queue/fal-ai/flux-lora", json={"prompt": HOSTILE}, headers=headers).json()
        assert "request_id" in sent
        for path in ("/requests", f"/requests/{sent['request_id']}", "/", "/loras", "/files", "/keys"):
            page = check_page(browser.get(path))
            assert not any(tag in ("img", "b") for tag, _ in page.found)
            assert HOSTILE in page.text.replace("\n", " ") or "<script>alert(1)" in page.text


def test_the_requests_of_a_state_are_found(server: WebServer, browser: httpx.Client) -> None:
    headers = {"Origin": server.origin}
    good, bad = (
        browser.post("/queue/fal-ai/flux-lora", json={"prompt": text}, headers=headers).json()["request_id"]
        for text in ("good one", "fail 422")
    )
    for request_id in (good, bad):
        wait_for(server, request_id)
    assert good in browser.get("/requests?state=done").text
    assert good not in browser.get("/requests?state=failed").text
    assert bad in browser.get("/requests?state=failed&endpoint_id=fal-ai/flux-lora").text
    assert bad not in browser.get("/requests?endpoint_id=ideogram/v4").text
    assert good not in browser.get("/requests?before=1").text
    assert browser.get("/requests?before=x").status_code == 400


def test_static_files_are_kept_for_good_and_are_all_there(browser: httpx.Client) -> None:
    page = browser.get("/models/fal-ai/flux-lora").text
    todo, seen = re.findall(r'"(/static/[^"]+)"', page), set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = browser.get(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
        base = path.rpartition("/")[0]
        todo += [f"{base}/{name}" for name in re.findall(r'from "\./([\w.]+)"', answer.text)]
    sizes = sum(len(browser.get(path).content) for path in seen)
    assert sizes + len(page.encode()) < 300_000
    assert browser.get("/static/x/studio.css").headers["cache-control"] == "no-store"
    assert browser.get("/static/x/nothing.js", headers={"Accept": "*/*"}).status_code == 404


def test_a_page_of_nothing_says_so(browser: httpx.Client) -> None:
    for path in ("/requests/nothing", "/models/nobody/nothing"):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_the_first_visit_is_three_boxes(start: Callable[..., WebServer], tmp_path: Path) -> None:
    server = start(data_dir=tmp_path)
    with signed_in(server, server.key) as browser:
        page = check_page(browser.get("/"))
        assert [word for word in ("Photos", "A word", "Go") if word in page.text] == ["Photos", "A word", "Go"]


def test_a_program_is_told_where_it_should_ask(server: WebServer) -> None:
    for path in ("/requests", "/keys", "/doctor"):
        answer = httpx.get(server.origin + path, trust_env=False)
        assert (answer.status_code, "page for browsers" in answer.json()["message"]) == (404, True)
