from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given, settings, strategies as st
from starlette.routing import Host, Match, Mount

from tintype.web.auth import Credential
from tintype.web.middleware import plain_path
from tintype.web.routes import ROUTES, RUN, UNPREFIXED, Resource, is_file


class Found:
    """What a path means: the resource, the name of the handler of the method, and what was taken out of the path."""

    def __init__(self, resource: Resource, method: str, params: dict[str, str]) -> None:
        self.resource = resource
        self.action = resource.handlers["GET" if method == "HEAD" else method].__name__
        self.params = params


class Refused(Exception):
    """Another method is meant."""


def find(method: str, path: str, host: str = "127.0.0.1") -> Found | None:
    """Follows the routes as Starlette does; None where there is nothing."""
    headers = [(b"host", host.encode())]
    scope = {"type": "http", "method": method, "path": plain_path(path), "headers": headers}
    routes, refused = ROUTES, False
    while routes:
        for route in routes:
            match, inner = route.matches(scope)
            if match is Match.FULL:
                break
            refused = refused or match is Match.PARTIAL
        else:
            break
        if isinstance(route, Resource):
            return Found(route, method, inner["path_params"])
        assert isinstance(route, Mount | Host)
        scope, routes = {**scope, **inner}, route.routes
    if refused:
        raise Refused
    return None


RID = "5b1c0000-0000-4000-8000-000000000001"
FILE = "A" * 32


@pytest.mark.parametrize(
    "base",
    [
        "/queue/ideogram/v4", "/queue/ideogram/v4/trainer", "/queue/fal-ai/flux-lora-portrait-trainer",
        "/queue/workflows/o/a", "/ideogram/v4", "/fal-ai/ideogram/custom-models/generate",
    ],
)  # fmt: skip
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_request_is_found_under_any_path_and_with_or_without_a_slash(base: str, slash: str) -> None:
    request = f"{base}/requests/{RID}"
    for method, path, action in (
        ("GET", request, "result"),
        ("GET", request + "/response", "result"),
        ("GET", request + "/status", "status"),
        ("GET", request + "/status/stream", "status_stream"),
        ("PUT", request + "/cancel", "cancel"),
    ):
        route = find(method, path + slash)
        assert (route.action, route.params["id"]) == (action, RID)


@pytest.mark.parametrize("path", ["/run/fal-ai/flux-lora", "/run/fal-ai/flux-lora/stream"])
def test_a_look_at_the_head_of_a_run_makes_no_work(path: str) -> None:
    assert find("GET", path).resource.asks is Credential.KEY_OR_APP_TOKEN
    with pytest.raises(Refused):
        find("HEAD", path)


def test_a_slash_too_many_between_base_and_path_is_none() -> None:
    assert find("POST", "/queue//fal-ai/flux-lora").params == {"endpoint": "fal-ai/flux-lora"}
    assert find("GET", f"//queue//ideogram//v4/requests/{RID}//status").action == "status"
    assert is_file(plain_path(f"/cdn//files/{FILE}/a.zip"))


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("POST", "/queue/fal-ai/flux-lora", "submit"),
        ("GET", "/v1/custom-models", "list_models"),
        ("GET", "/v1/custom-models/abc/", "show_model"),
        ("PATCH", "/v1/custom-models/abc", "rename_model"),
        ("DELETE", "/v1/custom-models/abc", "delete_model"),
        ("POST", "/v1/custom-models/abc/archive", "archive_model"),
        ("POST", "/queue/fal-ai/ideogram/custom-models/generate", "submit"),
        ("POST", "/fal-ai/flux-lora", "submit"),
        ("POST", "/fal-ai/flux-lora/", "submit"),
        ("POST", "/run/fal-ai/flux-lora", "run"),
        ("GET", "/run/fal-ai/flux-lora", "run"),
        ("POST", "/run/fal-ai/flux-lora/stream", "run_stream"),
        ("POST", "/fal-ai/flux-lora/stream", "run_stream"),
        ("GET", "/run/fal-ai/flux-lora/stream", "run_stream"),
        ("GET", "/run/fal-ai/flux-lora/realtime", "refuse_over_http"),
        ("GET", "/fal-ai/flux-lora/realtime", "refuse_over_http"),
        ("GET", "/.well-known/jwks.json", "webhook_keys"),
        ("POST", "/rest/storage/upload/initiate", "initiate_upload"),
        ("POST", "/storage/upload/initiate", "initiate_upload"),
        ("POST", "/rest/storage/upload/initiate-multipart", "initiate_parts"),
        ("PUT", f"/rest/storage/upload/files/{FILE}/a.zip", "signed_upload"),
        ("PUT", f"/rest/storage/upload/parts/{FILE}/3", "upload_part"),
        ("POST", f"/rest/storage/upload/parts/{FILE}/complete", "complete_parts"),
        ("POST", "/rest/storage/auth/token", "upload_token"),
        ("POST", "/rest/tokens/", "issue_token"),
        ("POST", "/cdn/files/upload", "direct_upload"),
        ("POST", "/files/upload", "direct_upload"),
        ("POST", "/cdn/files/upload/multipart", "begin_parts"),
        ("PUT", f"/cdn/files/{FILE}/a.zip/multipart/{FILE}/12", "upload_part"),
        ("POST", f"/cdn/files/{FILE}/a.zip/multipart/{FILE}/complete", "complete_parts"),
        ("GET", f"/cdn/files/{FILE}/a.zip", "download"),
        ("HEAD", f"/files/{FILE}/a.zip", "download"),
        ("GET", "/", "front"),
        ("GET", "/health", "health"),
        ("HEAD", "/ready", "ready"),
        ("GET", "/docs/errors", "error_page"),
    ],
)
def test_each_url_means_one_thing(method: str, path: str, action: str) -> None:
    assert find(method, path).action == action


@pytest.mark.parametrize(
    ("host", "method", "path", "action"),
    [
        ("queue.fal.run", "POST", "/fal-ai/flux-lora", "submit"),
        ("queue.falrun.com", "POST", "/fal-ai/flux-lora/", "submit"),
        ("queue.fal.run", "POST", "/queue/fal-ai/flux-lora", "submit"),
        ("queue.fal.run", "GET", f"/cdn/files/{FILE}/a.zip", "download"),
        ("queue.tintype.lan", "POST", "/fal-ai/flux-lora", "submit"),
        ("fal.run", "POST", "/fal-ai/flux-lora", "run"),
        ("fal.run", "POST", "/fal-ai/flux-lora/stream", "run_stream"),
        ("rest.fal.ai", "POST", "/storage/upload/initiate", "initiate_upload"),
        ("rest.alpha.fal.ai", "POST", "/tokens/", "issue_token"),
        ("v3.fal.media", "POST", "/files/upload", "direct_upload"),
        ("v3b.fal.media", "GET", f"/files/{FILE}/a.zip", "download"),
        ("fal.run", "GET", "/health", "health"),
        ("127.0.0.1", "POST", "/fal-ai/flux-lora", "submit"),
    ],
)
def test_a_host_name_tells_what_a_path_without_a_prefix_means(host: str, method: str, path: str, action: str) -> None:
    assert find(method, path, host).action == action


@pytest.mark.parametrize("host", ["evilfal.run", "fal.run.evil.example", "fal.ai.example.", "rest.evilfal.ai", ""])
def test_what_only_looks_like_a_name_of_fals_stands_for_no_part_of_its_api(host: str) -> None:
    assert find("POST", "/fal-ai/flux-lora", host).action == "submit"
    assert find("POST", "/storage/upload/initiate", host).action == "initiate_upload"


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/health"), ("GET", "/queue/fal-ai/flux-lora")])
def test_a_known_url_refuses_other_methods_and_says_which_it_takes(
    client: httpx.Client, method: str, path: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    taken = answer.headers["allow"]
    assert f"It takes {taken}." in answer.json()["message"]
    for allowed in taken.split(", "):
        assert client.request(allowed, path).status_code != 405


@pytest.mark.parametrize("path", ["/models/zzz", "/models/zzz.md", "/models/a/b", "/queue/a/b", "/a/b"])
def test_what_would_be_an_endpoints_is_not_found_whatever_the_method(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "There are: fal-ai/flux-lora-portrait-trainer, " in answer.json()["message"]


@pytest.mark.parametrize("path", ["/queue", "/nothing", "/cdn/files/x", "/rest/nothing", "/queue/one"])
def test_an_unknown_url_is_not_found(path: str) -> None:
    assert find("POST", path) is None


EVERY = (*UNPREFIXED, *RUN)


def test_only_what_carries_its_own_permission_is_open() -> None:
    assert {
        handler.__name__
        for resource in EVERY
        if resource.asks is Credential.NONE
        for handler in resource.handlers.values()
    } == {
        "health", "ready", "error_page", "describe_server", "endpoint_document",
        "download", "signed_upload", "upload_part", "part_url",
        "complete_parts", "webhook_keys", "refuse_over_http", "site_text", "model_text", "gallery",
        "list_models", "meta", "errors_text", "answer_reader", "sign_in", "sign_in_page", "sign_out",
        "static_file",
    }  # fmt: skip
    part = find("PUT", f"/cdn/files/{FILE}/a.zip/multipart/{FILE}/1")
    assert part.resource.asks is Credential.KEY_OR_UPLOAD_TOKEN


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "X"]), st.text())
@settings(deadline=None)
def test_no_path_is_too_odd_to_be_told_what_it_is(method: Any, path: Any) -> None:
    try:
        found = find(method, path)
    except Refused:
        return
    assert found is None or method in (found.resource.methods or ())
