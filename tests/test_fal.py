"""Which host names are fal's."""

from __future__ import annotations

import pytest

from tintype.fal import is_fal_host


@pytest.mark.parametrize("host", ["FAL.run", "fal.ai.", "Queue.Fal.Run."])
def test_a_name_of_fals_is_one_however_it_is_written(host: str) -> None:
    assert is_fal_host(host)


@pytest.mark.parametrize("host", ["evilfal.run", "fal.run.evil.example", "fal.ai.example.", ""])
def test_what_only_looks_like_a_name_of_fals_is_none(host: str) -> None:
    assert not is_fal_host(host)
