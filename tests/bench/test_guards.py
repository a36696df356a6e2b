"""The table of guards fits the source: each can be switched off, and the tests that hold it are there."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest
from bench.guards import ROOT, Guard, guards

GUARDS = guards()


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.without)
def test_a_guard_can_be_switched_off_and_has_tests(guard: Guard) -> None:
    ast.parse(guard.switched_off())
    for test in guard.tests:
        path, name = test.split("::")
        assert re.search(rf"def {name}\(", (ROOT / path).read_text()), test


def test_each_row_has_its_attack_and_at_least_three_siblings() -> None:
    assert min(Counter(guard.row for guard in GUARDS).values()) >= 4
    assert {guard.row for guard in GUARDS} == set(range(1, 12))
