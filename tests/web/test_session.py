"""A browser's session counts on this server's own pages, for what its key may do, as long as that key does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype.sign_in import sign_in_url
from tintype.store.records import Scope
from tintype.web.session import own_path

PAGE = {"Accept": "text/html"}
INPUT = {"prompt": "a portrait"}


@pytest.fixture
def browser(server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.origin, trust_env=False, timeout=60, headers=PAGE) as client:
        yield client


def sign_in(browser: httpx.Client, code: str, to: str = "/models") -> httpx.Response:
    return browser.post(
        "/sign-in", data={"code": code, "to": to}, headers={"Origin": str(browser.base_url).rstrip("/")}
    )


def own(server: WebServer) -> dict[str, str]:
    return {"Origin": server.origin}


def test_who_is_not_signed_in_is_sent_there_and_back(browser: httpx.Client, server: WebServer) -> None:
    sent = browser.get("/requests?state=done")
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?to=/requests%3Fstate%3Ddone")
    page = browser.get(sent.headers["location"])
    assert 'value="/requests?state=done"' in page.text
    assert sign_in(browser, server.key, "/requests?state=done").headers["location"] == "/requests?state=done"
    assert browser.get("/requests?state=done").status_code == 200


def test_a_link_signs_in_once(browser: httpx.Client, server: WebServer) -> None:
    link = sign_in_url(server.origin, server.settings.data_dir, server.key.partition(":")[0])
    code = link.partition("#")[2]
    assert sign_in(browser, code).status_code == 303
    assert browser.get("/models").status_code == 200
    browser.cookies.clear()
    again = sign_in(browser, code)
    assert again.status_code == 401
    assert "tintype open" in again.text
    assert "set-cookie" not in again.headers


def test_a_cookie_is_closed_to_scripts_and_to_other_sites(browser: httpx.Client, server: WebServer) -> None:
    (cookie,) = SimpleCookie(sign_in(browser, server.key).headers["set-cookie"]).values()
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert cookie.key.endswith(server.origin.rpartition(":")[2])
    assert server.key.partition(":")[2] not in cookie.value


def test_a_session_asks_the_api_from_its_own_page_only(browser: httpx.Client, server: WebServer) -> None:
    sign_in(browser, server.key)
    sent = browser.post("/queue/fal-ai/flux-lora", json=INPUT, headers=own(server))
    assert sent.status_code == 200, sent.text
    status = browser.get(f"/queue/fal-ai/flux-lora/requests/{sent.json()['request_id']}/status")
    assert status.status_code in (200, 202)
    foreign: list[dict[str, str]] = [
        {}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
    ]  # fmt: skip
    for headers in foreign:
        assert browser.post("/queue/fal-ai/flux-lora", json=INPUT, headers=headers).status_code == 403, headers
        assert browser.get("/run/fal-ai/flux-lora", params=INPUT, headers=headers).status_code == 403, headers
        assert browser.delete("/v1/custom-models/x", headers=headers).status_code == 403, headers
    assert browser.get("/run/fal-ai/flux-lora", params=INPUT, headers={"Sec-Fetch-Site": "same-origin"}).is_success


def test_a_key_in_the_header_counts_more_than_a_session(browser: httpx.Client, server: WebServer) -> None:
    sign_in(browser, server.key)
    answer = browser.post("/queue/fal-ai/flux-lora", json=INPUT, headers={"Authorization": "Key a:b"})
    assert answer.status_code == 401


def test_a_session_sees_what_its_key_sees(browser: httpx.Client, server: WebServer) -> None:
    sign_in(browser, server.create_key("ada"))
    mine = browser.post("/queue/fal-ai/flux-lora", json=INPUT, headers=own(server)).json()["request_id"]
    assert browser.get(f"/requests/{mine}").status_code == 200
    assert browser.get("/v1/keys").status_code == 403
    browser.cookies.clear()
    sign_in(browser, server.create_key("eve", Scope.ADMIN))
    assert browser.get("/v1/keys").status_code == 200
    other = browser.get(f"/requests/{mine}")
    assert (other.status_code, "Request not found" in other.text) == (404, True)
    assert mine not in browser.get("/requests").text


def test_a_session_ends_with_its_key_and_when_one_signs_out(browser: httpx.Client, server: WebServer) -> None:
    sign_in(browser, server.create_key("bob"))
    assert browser.get("/models").status_code == 200
    server.call(lambda store: store.keys.revoke("bob"))
    assert browser.get("/models").status_code == 303
    assert browser.get("/v1/models/usage").status_code == 401
    sign_in(browser, server.key)
    assert browser.post("/sign-out", headers=own(server)).status_code == 303
    assert browser.get("/models").status_code == 303


@pytest.mark.parametrize("value", ["", "x", "a.b", "é.é", "W10.00", "a" * 9000])
def test_a_forged_session_is_none(browser: httpx.Client, server: WebServer, value: str) -> None:
    name = f"tintype_session_{server.origin.rpartition(':')[2]}"
    headers = httpx.Headers([(b"accept", b"text/html"), (b"cookie", f"{name}={value}".encode())])
    assert browser.get("/models", headers=headers).status_code in (303, 400, 431)


def test_another_page_can_sign_nobody_in(browser: httpx.Client, server: WebServer) -> None:
    answer = browser.post("/sign-in", data={"code": server.key}, headers={"Origin": "https://elsewhere.example"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


@pytest.mark.parametrize("form", [b"", b"code", b"code=%ff%fe&to=%00", b"code=" + b"a" * 5000, b"\xff\xfe"])
def test_no_form_makes_an_error_of_ours(browser: httpx.Client, form: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.post("/sign-in", content=form, headers=headers).status_code in (400, 401)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/requests?a=b", "/requests?a=b"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("https://evil", "/"),
        ("", "/"), ("requests", "/"), ("/a\nSet-Cookie: b", "/"), ("javascript:alert(1)", "/"),
    ],
)  # fmt: skip
def test_one_is_sent_to_no_other_server(given: str, path: str) -> None:
    assert own_path(given) == path


def test_where_no_key_is_asked_for_nobody_signs_in(start: Callable[..., Any], tmp_path: Path) -> None:
    server = start(data_dir=tmp_path, auth="off")
    with httpx.Client(base_url=server.origin, trust_env=False, headers=PAGE) as browser:
        assert browser.get("/").status_code == 200
        assert browser.get("/models/fal-ai/flux-lora").status_code == 200
