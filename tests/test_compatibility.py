"""The page of compatibility is what its table says, and every test that it names is there."""

from __future__ import annotations

import re

import pytest

from tests.support.compatibility import PAGE, ROOT, cases, page


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.support.compatibility"


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["what"][:40])
def test_a_case_is_held_by_tests(case: dict[str, list[str]]) -> None:
    assert case["tests"]
    for test in case["tests"]:
        path, _, name = test.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), test
