"""A full disk is known for what it is, whoever says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError

from tintype.files.disk import is_full


@pytest.mark.parametrize(
    "problem",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail] write failed: No space left on device"),
    ],
)
def test_a_full_disk_is_known_in_every_wording_and_behind_another_error(problem: Exception) -> None:
    assert is_full(problem)
    outer = ValueError("could not be written")
    outer.__cause__ = problem
    assert is_full(outer)


@pytest.mark.parametrize("problem", [OSError(2, "No such file"), RuntimeError("space"), None])
def test_anything_else_is_not(problem: Exception | None) -> None:
    assert not is_full(problem)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_systems_own_full_device_is_one() -> None:
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as full:  # noqa: PT011
        full.write(b"x")
    assert is_full(caught.value)
