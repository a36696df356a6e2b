from __future__ import annotations

import pytest
from starlette.requests import Request

from tintype.errors import BadRequest
from tintype.web.lifecycle import LONGEST_LIFETIME, Lifecycle, lifecycle_of

PRIVATE = {"default": "forbid", "rules": [{"user": "ann", "decision": "allow"}]}


def http(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "query_string": b"", "headers": raw})


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [('{"expiration_duration_seconds": 60}', 60), ('{"expiration_duration_seconds": 0}', None),
     ('{"expiration_duration_seconds": null}', None), ("{}", None), ("", None),
     ('{"expiration_duration_seconds": 1e300}', LONGEST_LIFETIME)],
)  # fmt: skip
def test_a_lifetime_is_read_from_either_header_and_nothing_means_for_ever(text, lifetime):
    assert lifecycle_of(http(x_fal_object_lifecycle=text)).lifetime == lifetime
    assert lifecycle_of(http(x_fal_object_lifecycle_preference=text)).lifetime == lifetime
    assert lifecycle_of(http()) == Lifecycle()


def test_an_access_list_is_kept_in_full_and_one_that_keeps_nobody_out_is_none():
    assert lifecycle_of(http(x_fal_object_lifecycle='{"initial_acl": {"default": "hide"}}')).acl == {
        "default": "hide", "rules": []}  # fmt: skip
    listed = '{"initial_acl": {"default": "forbid", "rules": [{"user": "ann", "decision": "allow"}]}}'
    assert lifecycle_of(http(x_fal_object_lifecycle=listed)).acl == PRIVATE
    only_rules = '{"initial_acl": {"rules": [{"user": "ann", "decision": "hide"}]}}'
    assert lifecycle_of(http(x_fal_object_lifecycle=only_rules)).acl["default"] == "allow"
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
def test_what_makes_no_sense_is_refused_rather_than_dropped(text):
    with pytest.raises(BadRequest):
        lifecycle_of(http(x_fal_object_lifecycle=text))
