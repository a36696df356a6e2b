"""What a request takes and took, which keys administer, and how a person's files are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_USED = [
    "endpoint_id", "ended_at", "owner", "key_id", "status_code", "units", "operations", "device_seconds", "watt_hours",
    "created_at", "started_at",
]  # fmt: skip


def upgrade() -> None:
    """Adds what each request used, scopes of keys and settings of storage."""
    for name in ("units", "operations", "device_seconds"):
        op.add_column("requests", sa.Column(name, sa.Double(), nullable=False, server_default="0"))
    op.add_column("requests", sa.Column("watt_hours", sa.Double()))
    op.add_column("requests", sa.Column("status_code", sa.Integer()))
    op.add_column("requests", sa.Column("receipt", sa.JSON(none_as_null=True)))
    op.add_column("api_keys", sa.Column("scope", sa.Text(), nullable=False, server_default="API"))
    op.execute("UPDATE api_keys SET scope = 'ADMIN' WHERE name = 'first start'")  # of whoever has the data folder
    op.create_table(
        "storage_settings",
        sa.Column("owner", sa.Text(), primary_key=True),
        sa.Column("file_lifetime", sa.Double()),
        sa.Column("file_acl", sa.JSON(none_as_null=True)),
    )
    took = "SELECT sum(ended_at - started_at) FROM attempts WHERE request_id = requests.id AND ended_at IS NOT NULL"
    op.execute(f"UPDATE requests SET device_seconds = coalesce(({took}), 0)")
    sqlite = op.get_bind().dialect.name == "sqlite"
    failed = "json_extract(failure, '$.status')" if sqlite else "CAST(failure ->> 'status' AS INTEGER)"
    code = f"CASE outcome WHEN 'ok' THEN 200 WHEN 'cancelled' THEN 499 ELSE coalesce({failed}, 500) END"
    op.execute(f"UPDATE requests SET status_code = {code} WHERE status = 'COMPLETED'")
    answered = sa.text("status_code IS NOT NULL")
    op.create_index("requests_used", "requests", _USED, sqlite_where=answered, postgresql_where=answered)
