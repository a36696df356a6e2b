"""What a sender may say about retries, repetition and what is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("requests", sa.Column("digest", sa.Text()))
    op.add_column("requests", sa.Column("retries", sa.JSON(none_as_null=True)))
    op.create_index(
        "requests_unstored",
        "requests",
        ["ended_at"],
        sqlite_where=sa.text("store_io = 0"),
        postgresql_where=sa.text("NOT store_io"),
    )
