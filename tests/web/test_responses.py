from __future__ import annotations

import json

from tintype.errors import FileTooLarge, NotFound
from tintype.web.responses import failure_response, json_response, to_json


def test_json_is_ascii_and_valid_whatever_the_numbers() -> None:
    text = to_json({"ü": [float("nan"), float("inf"), 1.5, {"x": -float("inf")}], "lone": "\ud800"})
    assert text.isascii()
    assert json.loads(text, parse_constant=lambda _: 1 / 0) == {"ü": [None, None, 1.5, {"x": None}], "lone": "\ud800"}


def test_an_error_has_fals_shape_headers_and_a_link_that_opens() -> None:
    problem = FileTooLarge("Too large.", loc=("body", "x"), ctx={"max_size": 1})
    response = failure_response(problem.failure(), "http://h")
    assert response.status_code == 422
    assert response.headers["x-fal-retryable"] == "false"
    assert response.headers["x-fal-needs-retry"] == "0"
    assert response.headers["x-fal-billable-units"] == "0"
    body = json.loads(bytes(response.body))
    assert body["message"] == "Too large."
    assert body["detail"][0]["url"] == "http://h/docs/errors#file_too_large"


def test_a_flat_error_stays_flat() -> None:
    body = json.loads(bytes(failure_response(NotFound("Gone.").failure(), "http://h").body))
    assert body == {"status": "NOT_FOUND", "detail": "Gone.", "message": "Gone.", "error_type": "not_found"}
    assert json_response({}).headers["content-type"] == "application/json"
