from __future__ import annotations

import pytest

from tintype.dataset.picture_count import check_count
from tintype.errors import InputError


@pytest.mark.parametrize("count", [10, 55, 100])
def test_as_many_as_are_asked_for_are_taken(count: int) -> None:
    check_count(count, 10, 100)


@pytest.mark.parametrize(
    ("count", "kind", "ctx"),
    [
        (0, "archive_file_count_below_minimum", {"min_count": 10, "provided_count": 0}),
        (9, "archive_file_count_below_minimum", {"min_count": 10, "provided_count": 9}),
        (101, "archive_file_count_exceeds_maximum", {"max_count": 100, "provided_count": 101}),
    ],
)
def test_fewer_and_more_are_refused_with_both_numbers(count: int, kind: str, ctx: dict[str, int]) -> None:
    with pytest.raises(InputError) as caught:
        check_count(count, 10, 100)
    (entry,) = caught.value.details
    assert (entry["loc"], entry["type"], entry["ctx"]) == (["body", "images_data_url"], kind, ctx)
