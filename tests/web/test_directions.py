"""A URL that leads nowhere is answered with the one that was meant, and tells no stranger what there is."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

FLUX, CUSTOM = "fal-ai/flux-lora", "fal-ai/ideogram/custom-models"
GUESSES = [  # of a request of FLUX: method, path, and what is true
    ("GET", "/queue/requests/{id}/status", "GET", "/status"),
    ("GET", "/queue/requests/{id}", "GET", ""),
    ("GET", "/requests/{id}", "GET", ""),
    ("GET", "/requests/{id}/status/", "GET", "/status"),
    ("GET", "//queue//requests//{id}//status//", "GET", "/status"),
    ("GET", "/fal-ai/flux-lora/{id}/status", "GET", "/status"),
    ("GET", "/queue/fal-ai/flux-lora/{id}/status", "GET", "/status"),
    ("GET", "/queue/fal-ai/flux-lora/{id}", "GET", ""),
    ("GET", "/queue/fal-ai/flux-lora/status/{id}", "GET", "/status"),
    ("GET", "/queue/fal-ai/flux-lora/requests/{id}/result", "GET", ""),
    ("GET", "/queue/fal-ai/flux-lora/requests/{id}/logs", "GET", "/status?logs=1"),
    ("GET", "/queue/fal-ai/flux-lora/requests/{id}/stream", "GET", "/status/stream"),
    ("GET", "/queue/{id}/status", "GET", "/status"),
    ("GET", "/queue/status/{id}", "GET", "/status"),
    ("GET", "/api/v1/{id}/status", "GET", "/status"),
    ("GET", "/api/queue/request/{id}", "GET", ""),
    ("GET", "/run/fal-ai/flux-lora/requests/{id}/status", "GET", "/status"),
    ("GET", "/run/requests/{id}", "GET", ""),
    ("POST", "/queue/requests/{id}/cancel", "PUT", "/cancel"),
    ("PUT", "/queue/requests/{id}/cancel", "PUT", "/cancel"),
    ("PUT", "/fal-ai/flux-lora/{id}/cancel", "PUT", "/cancel"),
    ("DELETE", "/requests/{id}", "PUT", "/cancel"),
    ("POST", "/queue/fal-ai/flux-lora/requests/{id}/status", "GET", "/status"),
]


def urls_in(answer: httpx.Response) -> list[str]:
    """The URLs that an error's sentence names."""
    body = answer.json()
    assert body["detail"] == body["message"]
    return re.findall(r"https?://[^\s?]+(?:\?logs=1)?", body["message"])


@pytest.fixture
def request_id(client: httpx.Client, server: WebServer) -> str:
    answer = client.post(f"/queue/{FLUX}", json={"prompt": "x"})
    server.wait(answer.json()["request_id"], "COMPLETED")
    return str(answer.json()["request_id"])


@pytest.mark.parametrize(("method", "path", "right", "suffix"), GUESSES)
def test_a_guessed_url_of_a_request_is_answered_with_the_true_one_which_works(
    client: httpx.Client, server: WebServer, request_id: str, method: str, path: str, right: str, suffix: str
) -> None:
    answer = client.request(method, path.format(id=request_id))
    assert answer.status_code in (404, 405), answer.text
    assert urls_in(answer) == [f"{server.origin}/queue/{FLUX}/requests/{request_id}{suffix}"]
    assert f"Did you mean {right} http" in answer.json()["message"]
    assert client.request(right, urls_in(answer)[0]).status_code == (400 if suffix == "/cancel" else 200)


def test_a_request_is_named_by_its_own_endpoint_though_the_guess_names_another(client: httpx.Client) -> None:
    sent = client.post(f"/queue/{FLUX}", json={"prompt": "x"}).json()
    answer = client.get(f"/ideogram/v4/{sent['request_id']}/status")
    assert urls_in(answer) == [sent["status_url"]]


@pytest.mark.parametrize(("method", "path", "right", "suffix"), GUESSES)
def test_a_stranger_is_told_the_same_whether_there_is_such_a_request_or_not(
    client: httpx.Client, server: WebServer, request_id: str, method: str, path: str, right: str, suffix: str
) -> None:
    other = {"Authorization": f"Key {server.create_key('eve')}"}
    with httpx.Client(base_url=server.origin, trust_env=False) as stranger:
        for headers in ({}, {"Authorization": "Key a:b"}, other):
            told = []
            for one in (request_id, str(uuid.uuid4())):
                answer = stranger.request(method, path.format(id=one), headers=headers)
                assert answer.status_code in (401, 404, 405)
                told.append((answer.status_code, answer.text.replace(one, "")))
            assert told[0] == told[1]
    assert f"Did you mean {right} {server.origin}/queue/" in answer.json()["message"]  # the other person's
    assert f"{suffix}?" in answer.json()["message"]


def test_an_id_of_any_form_is_read_after_its_word(client: httpx.Client, server: WebServer) -> None:
    answer = client.get("/queue/requests/nope-1/status")
    assert answer.status_code == 404
    said = f"Did you mean GET {server.origin}/queue/{{owner}}/{{alias}}/requests/nope-1/status?"
    assert said in answer.json()["message"]
    assert "first two parts of its endpoint's id" in answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/queue/queue/fal-ai/flux-lora", f"/queue/{FLUX}"),
        ("POST", "/v1/fal-ai/flux-lora", f"/queue/{FLUX}"),
        ("POST", "/queue/submit/fal-ai/flux-lora", f"/queue/{FLUX}"),
        ("POST", "/queue/fal-ai/flux-lora/submit", f"/queue/{FLUX}"),
        ("POST", "/flux-lora", f"/queue/{FLUX}"),
        ("POST", "/queue/flux-lora", f"/queue/{FLUX}"),
        ("GET", "/api/fal-ai/ideogram/custom-models", f"/queue/{CUSTOM}"),
        ("POST", "/run/run/fal-ai/flux-lora", f"/run/{FLUX}"),
        ("POST", "/run/flux-lora", f"/run/{FLUX}"),
        ("POST", "/api/ideogram/v4/trainer", "/queue/ideogram/v4/trainer"),
    ],
)
def test_a_guessed_url_of_an_endpoint_is_answered_with_the_true_one_which_works(
    client: httpx.Client, server: WebServer, method: str, path: str, meant: str
) -> None:
    answer = client.request(method, path, json={})
    assert answer.status_code == 404, answer.text
    assert urls_in(answer) == [f"{server.origin}{meant}."]
    assert client.post(meant, json={}).status_code == 422  # which says what it lacks


DOORS = [
    ("POST", "/queue/{id}", {}),
    ("POST", "/{id}", {}),
    ("POST", "/run/{id}", {}),
    ("GET", "/run/{id}", {}),
    ("POST", "/run/{id}/stream", {}),
    ("GET", "/models/{id}/llms.txt", {}),
    ("GET", "/api/openapi/queue/openapi.json?endpoint_id={id}", {}),
    ("GET", "/v1/models?endpoint_id={id}", {}),
    ("GET", "/v1/models/pricing?endpoint_id={id}", {}),
    ("POST", "/v1/models/pricing/estimate",
     {"estimate_type": "unit_price", "endpoints": {"{id}": {"unit_quantity": 1}}}),
    ("POST", "/mcp", {"name": "get_model_schema", "arguments": {"endpoint_id": "{id}"}}),
    ("POST", "/mcp", {"name": "submit_job", "arguments": {"endpoint_id": "{id}", "input": {}}}),
    ("POST", "/mcp", {"name": "inspect_dataset", "arguments": {"endpoint_id": "{id}", "images_data_url": "data:,"}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint_id", "told"),
    [
        (
            "fal-ai/flux-lora/inpainting",
            "way that nothing here does. The nearest here are fal-ai/flux-lora and fal-ai/flux-lora/image",
        ),
        (
            "fal-ai/flux-krea-trainer",
            "The nearest here are fal-ai/flux-lora-portrait-trainer and fal-ai/flux-lora-fast",
        ),
        ("fal-ai/kling-video/v2/master", "not found. Only images are made here."),
        ("fal-ai/flux-loras", "Did you mean fal-ai/flux-lora?"),
        ("who/knows", "There are: fal-ai/flux-lora-portrait-trainer, "),
    ],
)
@pytest.mark.parametrize(("method", "path", "body"), DOORS)
def test_every_door_says_why_there_is_no_such_endpoint_and_what_is_nearest(
    client: httpx.Client, method: str, path: str, body: dict[str, Any], endpoint_id: str, told: str
) -> None:
    sent = json.loads(json.dumps(body).replace("{id}", endpoint_id))
    if path == "/mcp":
        sent = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": sent}
    answer = client.request(method, path.format(id=endpoint_id), json=sent if method == "POST" else None)
    said = answer.json()
    if path == "/mcp":
        assert said["result"]["isError"]
        said = said["result"]["structuredContent"]
    else:
        assert answer.status_code == 404
    if path.startswith("/v1/"):
        assert said["error"]["type"] == "not_found"
        assert told in said["error"]["message"]
    else:
        assert (said["status"], said["error_type"], said["detail"]) == ("NOT_FOUND", "not_found", said["message"])
        assert told in said["message"]


@pytest.mark.parametrize("path", ["/nothing", "/cdn/files/x", "/rest/nothing", "/v1", "/queue", "/queue/one"])
def test_what_resembles_nothing_is_told_where_all_there_is_is_listed(client: httpx.Client, path: str) -> None:
    answer = client.post(path)
    assert answer.status_code == 404
    assert answer.json()["message"] == "There is nothing at this URL. The page at / lists what there is."


def test_a_true_url_with_another_method_says_which_it_takes(client: httpx.Client, request_id: str) -> None:
    base = f"/queue/{FLUX}/requests/{request_id}"
    for method, path, taken in (("DELETE", base, "GET, HEAD"), ("GET", f"{base}/cancel", "POST, PUT")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, taken)
        assert urls_in(answer)[0].endswith(f"{base}/cancel")


def test_every_true_form_is_served_with_slashes_too_many(client: httpx.Client, request_id: str) -> None:
    for path in (
        f"/queue/{FLUX}/requests/{request_id}",
        f"//{FLUX}//requests/{request_id}/",
        f"/x/requests/{request_id}",
    ):
        for suffix in ("", "/status", "/status/", "/response", "//response//"):
            assert client.get(path + suffix).status_code == 200


def test_where_no_key_is_asked_for_everybody_is_told_the_true_url(
    start: Callable[..., WebServer], tmp_path: Path
) -> None:
    server: Any = start(data_dir=tmp_path, auth="off")
    with httpx.Client(base_url=server.origin, trust_env=False) as anybody:
        sent = anybody.post(f"/queue/{FLUX}", json={"prompt": "x"}).json()
        answer = anybody.get(f"/queue/requests/{sent['request_id']}/status")
        assert urls_in(answer) == [sent["status_url"]]
