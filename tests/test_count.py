from __future__ import annotations

import pytest

from tintype.count import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 photos"), (1, "1 photo"), (2, "2 photos")])
def test_one_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "photo") == text
