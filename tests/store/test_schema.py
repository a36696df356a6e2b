"""The tables as declared are the tables as migrated."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tintype.store import Store, schema
from tintype.store.database import MIGRATIONS

pytestmark = pytest.mark.anyio


def _differences(connection: sa.Connection) -> list[Any]:
    with warnings.catch_warnings():  # SQLite's reflection cannot read the condition of a partial index
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.metadata))


async def test_the_migrations_lead_to_the_declared_tables(store: Store) -> None:
    async with store._database._read() as connection:
        assert await connection.run_sync(_differences) == []


def test_the_version_that_is_compared_at_the_start_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.SCHEMA_VERSION
