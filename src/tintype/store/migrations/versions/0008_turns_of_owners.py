"""Whose a request is, and when it is its turn."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds owners and their turns."""
    op.add_column("requests", sa.Column("owner", sa.Text(), nullable=False, server_default=""))
    op.add_column("requests", sa.Column("turn", sa.BigInteger(), nullable=False, server_default="0"))
    owner = "(SELECT name FROM api_keys WHERE api_keys.id = requests.key_id AND name != '')"
    op.execute(f"UPDATE requests SET owner = coalesce({owner}, key_id)")
    # What waits is put into turns as if they had been taken from the start.
    op.execute(
        "UPDATE requests SET turn = line.turn FROM (SELECT place, row_number()"
        " OVER (PARTITION BY owner, kind, priority ORDER BY place) - 1 AS turn"
        " FROM requests WHERE status != 'COMPLETED') AS line WHERE line.place = requests.place"
    )
    waiting = sa.text("status = 'IN_QUEUE'")
    op.drop_index("requests_waiting", "requests")
    line = ["kind", "priority", "turn", "place"]
    op.create_index("requests_waiting", "requests", line, sqlite_where=waiting, postgresql_where=waiting)
    unfinished = sa.text("status != 'COMPLETED'")
    op.create_index(
        "requests_unfinished",
        "requests",
        ["status", "owner", "kind"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    taken = sa.text("status != 'COMPLETED' OR started_at IS NOT NULL")
    turns = ["owner", "kind", "priority", "turn"]
    op.create_index("requests_turns", "requests", turns, sqlite_where=taken, postgresql_where=taken)
    op.create_index("files_of", "files", ["key_id", "size"])
