"""A real `serve` with tiny jobs, whose processes can be found and killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.processes import ServeProcess, serve_in


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[ServeProcess]:
    async with serve_in(tmp_path) as running:
        yield running
