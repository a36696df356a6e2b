from __future__ import annotations

import inspect

import pytest

from tintype import errors
from tintype.errors import Failure, InputError, TintypeError, TooFewFiles, where


def every_error() -> list[type[TintypeError]]:
    found = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, TintypeError)]
    return sorted(found, key=lambda c: c.__name__)


@pytest.mark.parametrize("error", every_error())
def test_every_error_is_drawn_in_the_tree_and_answers_with_a_message(error: type[TintypeError]) -> None:
    assert error.__name__ in (errors.__doc__ or "")
    failure = error("Something happened.", remedy="Do this.").failure()
    assert failure.body["message"] == "Something happened. Do this."
    assert "detail" in failure.body
    assert 400 <= failure.status < 600


@pytest.mark.parametrize("error", every_error())
def test_no_final_answer_uses_a_status_that_clients_repeat(error: type[TintypeError]) -> None:
    # 429 and 504 are answers where a retry, or the caller's own deadline, is meant (WIRE rule 10); buckets come back.
    assert error.status not in {408, 409, 502, 503} - ({503} if error is errors.StorageUnavailable else set())


def test_every_error_says_in_both_of_fals_words_whether_to_send_it_again() -> None:
    advice = {c.__name__: c("").failure().headers for c in every_error() if c.__name__ != "Cancelled"}
    assert {headers["X-Fal-Retryable"] == "true" for headers in advice.values()} == {True, False}
    for headers in advice.values():
        assert (headers["X-Fal-Retryable"], headers["X-Fal-Needs-Retry"]) in {("true", "1"), ("false", "0")}
    again = {name for name, headers in advice.items() if headers["X-Fal-Needs-Retry"] == "1"}
    assert again == {"QueueFull", "LimitReached", "StorageUnavailable", "StartDeadlinePassed"}


def test_an_input_error_has_fals_detail() -> None:
    error = TooFewFiles("Two pictures.", loc=("body", "images_data_url"), ctx={"min_count": 4}, remedy="Add some.")
    (entry,) = error.failure().body["detail"]
    assert entry == {
        "loc": ["body", "images_data_url"],
        "msg": "Two pictures. Add some.",
        "type": "archive_file_count_below_minimum",
        "url": "/docs/errors#archive_file_count_below_minimum",
        "ctx": {"min_count": 4},
    }


def test_a_failure_survives_storage() -> None:
    failure = InputError("No.", loc=("body", "steps"), given=0).failure()
    assert Failure.from_json(failure.to_json()) == failure


def test_a_place_reads_as_a_person_would_write_it() -> None:
    assert where(["body", "loras", 0, "path"]) == "loras[0].path"
    assert where(["body"]) == "body"
