"""A real supervisor with real compute children on a database of its own; the jobs are tiny."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.processes import SupervisorProcess, supervision

from tintype.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        data_dir=tmp_path / "data", heartbeat_seconds=1.0, cancel_grace_seconds=1.0, lease_seconds=10.0
    )


@pytest.fixture
async def supervised(settings: Settings) -> AsyncIterator[SupervisorProcess]:
    async with supervision(settings) as running:
        yield running
