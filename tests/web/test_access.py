from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from tintype.errors import Forbidden
from tintype.settings import Settings
from tintype.web.access import check_host, check_origin, cors_headers, host_name, is_own_host, preflight_headers

LOCAL = Settings()
OPEN = Settings(
    host="0.0.0.0",
    public_url="https://tintype.example",
    allowed_hosts=("box.lan", "*.team.example"),
    allowed_origins=("https://app.example",),
)


@pytest.mark.parametrize("host", ["127.0.0.1:8787", "localhost", "LOCALHOST:1", "a.localhost:8787", "[::1]:8787"])
def test_loopback_names_are_always_ours(host: str) -> None:
    check_host(LOCAL, Headers({"host": host}))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8787", "", "192.168.1.5:8787", "127.0.0.1.ev.il"])
def test_other_names_are_refused_and_the_setting_is_named(host: str) -> None:
    with pytest.raises(Forbidden, match="TINTYPE_ALLOWED_HOSTS"):
        check_host(LOCAL, Headers({"host": host}))


@pytest.mark.parametrize("host", ["tintype.example", "box.lan", "a.team.example", "192.168.1.5", "2001:db8::1"])
def test_the_names_of_the_settings_are_ours_and_on_a_wildcard_every_address(host: str) -> None:
    assert is_own_host(OPEN, host)


@pytest.mark.parametrize("host", ["team.example", "evil.example", "xbox.lan", ""])
def test_a_wildcard_listens_on_addresses_not_on_names(host: str) -> None:
    assert not is_own_host(OPEN, host)


@pytest.mark.parametrize(
    ("netloc", "name"),
    [("Host:80", "host"), ("[::1]:80", "::1"), ("[::1", "::1"), ("", ""), ("a@b:1", "b"), ("host.", "host")],
)
def test_a_host_is_read_without_its_port(netloc: str, name: str) -> None:
    assert host_name(netloc) == name


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"])
def test_pages_of_this_machine_may_change_things_and_read_answers(origin: str) -> None:
    headers = Headers({"host": "127.0.0.1:8787", "origin": origin})
    check_origin(LOCAL, "POST", headers)
    assert cors_headers(LOCAL, headers, open_to_all=False)["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[broken"])
def test_other_pages_may_not(origin: str) -> None:
    headers = Headers({"host": "127.0.0.1:8787", "origin": origin})
    with pytest.raises(Forbidden, match="TINTYPE_ALLOWED_ORIGINS"):
        check_origin(LOCAL, "PUT", headers)
    check_origin(LOCAL, "GET", headers)
    assert "Access-Control-Allow-Origin" not in cors_headers(LOCAL, headers, open_to_all=False)
    with pytest.raises(Forbidden):
        preflight_headers(LOCAL, headers, open_to_all=False)


@pytest.mark.parametrize("origin", ["https://app.example", "https://tintype.example", "http://box.lan"])
def test_pages_of_the_settings_and_the_servers_own_may(origin: str) -> None:
    check_origin(OPEN, "POST", Headers({"host": "box.lan", "origin": origin}))


def test_a_request_that_no_page_made_has_no_origin_and_is_let_through() -> None:
    check_origin(LOCAL, "POST", Headers({"host": "127.0.0.1"}))


def test_a_preflight_allows_what_the_clients_send_and_private_networks() -> None:
    headers = Headers(
        {
            "host": "127.0.0.1:8787",
            "origin": "http://localhost:3000",
            "access-control-request-method": "POST",
            "access-control-request-private-network": "true",
        }
    )
    answer = preflight_headers(LOCAL, headers, open_to_all=False)
    assert answer["Access-Control-Allow-Private-Network"] == "true"
    allowed = {name.strip() for name in answer["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "content-type", "x-fal-queue-priority", "x-fal-object-lifecycle-preference"} <= allowed
    assert {"GET", "POST", "PUT"} <= {name.strip() for name in answer["Access-Control-Allow-Methods"].split(",")}
    assert "x-fal-request-id" in answer["Access-Control-Expose-Headers"]


def test_files_may_be_read_by_any_page() -> None:
    headers = Headers({"host": "127.0.0.1", "origin": "https://any.example"})
    assert cors_headers(LOCAL, headers, open_to_all=True)["Access-Control-Allow-Origin"] == "*"
    assert preflight_headers(LOCAL, headers, open_to_all=True)["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "host", ["[::1", "[::1]x", "127.0.0.1:port", "a@127.0.0.1", "127.0.0.1/x", "localhost:1:2", "[::1]:"]
)
def test_a_host_that_is_not_whole_is_refused(host: str) -> None:
    with pytest.raises(Forbidden):
        check_host(LOCAL, Headers({"host": host}))


def test_two_hosts_are_refused() -> None:
    with pytest.raises(Forbidden):
        check_host(LOCAL, Headers(raw=[(b"host", b"127.0.0.1"), (b"host", b"127.0.0.1")]))


def test_what_a_foreign_page_embeds_changes_nothing() -> None:
    with pytest.raises(Forbidden):
        check_origin(LOCAL, "POST", Headers({"sec-fetch-site": "cross-site"}))
    check_origin(LOCAL, "POST", Headers({"sec-fetch-site": "same-site"}))
    check_origin(LOCAL, "GET", Headers({"sec-fetch-site": "cross-site"}))
