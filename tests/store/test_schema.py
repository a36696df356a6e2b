"""The tables as declared are the tables as migrated."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.previous_version import PREVIOUS_MIGRATIONS

from tintype.store import Store, schema
from tintype.store.database import MIGRATIONS, stored_version

pytestmark = pytest.mark.anyio


def _differences(connection: sa.Connection) -> list[Any]:
    with warnings.catch_warnings():  # SQLite's reflection cannot read the condition of a partial index
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.metadata))


async def test_a_new_database_has_the_declared_tables(store: Store) -> None:
    async with store._database._read() as connection:
        assert await connection.run_sync(_differences) == []


async def test_the_migrations_lead_to_the_declared_tables(shared_url: str) -> None:
    engine = create_async_engine(shared_url)
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    async with engine.begin() as connection:
        await connection.run_sync(_make_previous)
    await engine.dispose()
    migrated = await Store.open(shared_url)
    async with migrated._database._read() as connection:
        assert await connection.run_sync(stored_version) == schema.SCHEMA_VERSION
        assert await connection.run_sync(_differences) == []
    await migrated.close()


def _make_previous(connection: sa.Connection) -> None:
    """Makes the tables of the version before, by the migrations that led to them."""
    config = Config()
    config.set_main_option("script_location", str(PREVIOUS_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def test_the_version_that_is_compared_at_the_start_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.SCHEMA_VERSION
