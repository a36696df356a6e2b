"""A real supervisor with real compute children on a database of its own; the jobs are tiny."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.processes import SupervisorProcess, settings_in, supervision

from tintype.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
async def supervised(settings: Settings) -> AsyncIterator[SupervisorProcess]:
    async with supervision(settings) as running:
        yield running
