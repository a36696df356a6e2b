"""Whose a request is, and when it is its turn."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
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
    where: dict[str, Any] = {"sqlite_where": waiting, "postgresql_where": waiting}
    op.drop_index("requests_waiting", "requests")
    op.create_index("requests_waiting", "requests", ["kind", "priority", "turn", "place"], **where)
    op.create_index("requests_waiting_of", "requests", ["owner", "kind"], **where)
    op.create_index("requests_turns", "requests", ["owner", "kind", "priority", "turn"])
    op.create_index("files_of", "files", ["key_id", "size"])
