from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from tintype.errors import BadRequest
from tintype.store.records import Priority
from tintype.web.options import LONGEST_LIFETIME, Lifecycle, Options, lifecycle_of, options_of


def http(query: str = "", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "query_string": query.encode(), "headers": raw})


def test_saying_nothing_gives_the_defaults() -> None:
    options = options_of(http())
    assert (options.priority, options.start_deadline, options.store_io) == (Priority.NORMAL, None, True)
    assert (options.idempotency_key, options.webhook_url, options.max_queue_length) == (None, None, None)


@pytest.mark.parametrize("nothing", ["", " ", "\t"])
def test_what_is_empty_says_nothing(nothing: str) -> None:
    names = ("x_fal_queue_priority", "x_fal_request_timeout", "idempotency_key", "x_fal_runner_hint", "x_fal_store_io",
             "x_fal_tags", "x_fal_no_retry", "x_fal_retry_config")  # fmt: skip
    query = urlencode({"fal_webhook": nothing, "fal_max_queue_length": nothing})
    assert options_of(http(query, **dict.fromkeys(names, nothing))) == Options()


def test_blanks_and_case_make_no_difference() -> None:
    given = options_of(
        http("fal_webhook=%20https://h/x%20&fal_max_queue_length=+3", x_fal_queue_priority=" Low", x_fal_store_io="No")
    )
    assert (given.webhook_url, given.max_queue_length, given.store_io) == ("https://h/x", 3, False)
    assert given.priority is Priority.LOW
    empty = '{"expiration_duration_seconds": "", "initial_acl": ""}'
    assert lifecycle_of(http(x_fal_object_lifecycle=empty)) == Lifecycle()


def test_what_is_said_is_understood() -> None:
    options = options_of(
        http(
            "fal_webhook=https%3A%2F%2Fh%2Fx&fal_max_queue_length=0",
            x_fal_queue_priority="low",
            x_fal_request_timeout="30.0",
            x_idempotency_key="abc",
            x_fal_store_io="0",
            x_fal_runner_hint="warm",
            x_fal_tags="team=red, run=7,BAD=1",
        )
    )
    assert options.priority is Priority.LOW
    assert options.start_deadline is not None
    assert 25 < options.start_deadline - time.time() < 31
    assert (options.idempotency_key, options.webhook_url, options.max_queue_length) == ("abc", "https://h/x", 0)
    assert (options.store_io, options.hint, options.tags) == (False, "warm", {"team": "red", "run": "7"})
    assert options_of(http(idempotency_key="x")).idempotency_key == "x"


def test_retries_are_bounded_by_either_header() -> None:
    assert options_of(http()).retries is None
    assert options_of(http(x_fal_no_retry="0")).retries is None
    for yes in ("1", "true", "yes"):
        given = options_of(http(x_fal_no_retry=yes, x_fal_retry_config='{"timeout": {"retries": 3}}'))
        assert given.retries == {"server_error": 0, "connection_error": 0, "timeout": 0}
    config = '{"server_error": {"retries": 2}, "connection_error": {"retries": 0}}'
    assert options_of(http(x_fal_retry_config=config)).retries == {"server_error": 2, "connection_error": 0}


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {"x_fal_request_timeout": "soon"}), ("", {"x_fal_request_timeout": "0"}),
        ("", {"x_fal_request_timeout": "nan"}), ("", {"x_fal_request_timeout": "inf"}),
        ("", {"x_fal_queue_priority": "high"}), ("", {"x_idempotency_key": "x" * 300}),
        ("", {"x_idempotency_key": "a\tb"}), ("fal_max_queue_length=-1", {}), ("fal_max_queue_length=x", {}),
        ("fal_webhook=ftp://h/x", {}), ("fal_webhook=http://h/%00", {}), ("fal_webhook=http://[::1", {}),
        ("fal_webhook=http://xn--a.com/", {}), ("fal_webhook=http://h:port/", {}), ("fal_webhook=http:///x", {}),
        ("fal_webhook=http://[bad", {}), ("fal_webhook=http://h:99999/", {}), ("fal_webhook=http://h:0/", {}),
        ("fal_webhook=http://a%20b/", {}), ("fal_webhook=http://%2500/", {}),
        ("", {"x_fal_no_retry": "maybe"}),
        ("", {"x_fal_store_io": "maybe"}), ("", {"x_fal_retry_config": "[]"}),
        ("", {"x_fal_retry_config": '{"server_error": 3}'}), ("", {"x_fal_retry_config": '{"eror": {"retries": 3}}'}),
        ("", {"x_fal_retry_config": '{"server_error": {"retries": -1}}'}),
        ("", {"x_fal_retry_config": '{"server_error": {"retries": 1e400}}'}),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_rather_than_dropped(query: str, headers: Any) -> None:
    with pytest.raises(BadRequest):
        options_of(http(query, **headers))


PRIVATE = {"default": "forbid", "rules": [{"user": "ann", "decision": "allow"}]}


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [('{"expiration_duration_seconds": 60}', 60), ('{"expiration_duration_seconds": 0}', None),
     ('{"expiration_duration_seconds": null}', None), ("{}", None),
     ('{"expiration_duration_seconds": 1e300}', LONGEST_LIFETIME)],
)  # fmt: skip
def test_a_lifetime_is_read_from_either_header(text: str, lifetime: Any) -> None:
    assert lifecycle_of(http(x_fal_object_lifecycle=text)).lifetime == lifetime
    assert lifecycle_of(http(x_fal_object_lifecycle_preference=text)).lifetime == lifetime
    assert lifecycle_of(http()) is lifecycle_of(http(x_fal_object_lifecycle="")) is None  # as the sender's settings say
    with pytest.raises(BadRequest):
        lifecycle_of(http(x_fal_object_lifecycle_preference="soon"))


def test_an_access_list_is_kept_in_full_and_one_that_keeps_nobody_out_is_none() -> None:
    assert lifecycle_of(http(x_fal_object_lifecycle='{"initial_acl": {"default": "hide"}}')).acl == {
        "default": "hide", "rules": []}  # fmt: skip
    listed = '{"initial_acl": {"default": "forbid", "rules": [{"user": "ann", "decision": "allow"}]}}'
    assert lifecycle_of(http(x_fal_object_lifecycle=listed)).acl == PRIVATE
    only_rules = '{"initial_acl": {"rules": [{"user": "ann", "decision": "hide"}]}}'
    assert lifecycle_of(http(x_fal_object_lifecycle=only_rules)).acl["default"] == "allow"  # type: ignore[index]
    for open_to_all in ('{"default": "allow"}', "null", "{}", '{"rules": [{"user": "a", "decision": "allow"}]}'):
        assert lifecycle_of(http(x_fal_object_lifecycle=f'{{"initial_acl": {open_to_all}}}')).acl is None


@pytest.mark.parametrize(
    "text",
    ["soon", "[]", "7", '{"expiration_duration_seconds": [1]}', '{"expiration_duration_seconds": -1}',
     '{"expiration_duration_seconds": NaN}', '{"expiration_duration_seconds": ' + "9" * 400 + "}",
     '{"initial_acl": "forbid"}', '{"initial_acl": {"default": "maybe"}}', '{"initial_acl": {"default": []}}',
     '{"initial_acl": {"rules": {}}}', '{"initial_acl": {"rules": [1]}}',
     '{"initial_acl": {"rules": [{"user": 3, "decision": "allow"}]}}',
     '{"initial_acl": {"rules": [{"user": "ann"}]}}'],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_rather_than_dropped(text: str) -> None:
    with pytest.raises(BadRequest):
        lifecycle_of(http(x_fal_object_lifecycle=text))


@pytest.mark.parametrize("kind", ["server_error", "connection_error", "timeout"])
@pytest.mark.parametrize("count", [11, 101, 2**63, -1, "10", 1.0, True, None])
def test_nobody_asks_for_more_than_ten_retries(kind: str, count: object) -> None:
    options_of(http(x_fal_retry_config=json.dumps({kind: {"retries": 10}})))
    with pytest.raises(BadRequest, match="at most 10 retries"):
        options_of(http(x_fal_retry_config=json.dumps({kind: {"retries": count}})))
