"""The first shape of the record of truth."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

JSON = sa.JSON(none_as_null=True)
WAITING = sa.text("status = 'IN_QUEUE'")
RUNNING = sa.text("status = 'IN_PROGRESS'")
UNFINISHED = sa.text("status != 'COMPLETED'")
HAS_START_DEADLINE = sa.text("status = 'IN_QUEUE' AND start_deadline IS NOT NULL AND started_at IS NULL")


def upgrade() -> None:
    # One list of tables; taking it apart would only hide the order in which they refer to each other.
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "requests",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("input", JSON, nullable=False),
        sa.Column("output", JSON),
        sa.Column("failure", JSON),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("affinity", sa.Text(), nullable=False),
        sa.Column("sync", sa.Boolean(), nullable=False),
        sa.Column("store_io", sa.Boolean(), nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("webhook_url", sa.Text()),
        sa.Column("coalesce_key", sa.Text()),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("start_deadline", sa.Double()),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("total_steps", sa.Integer(), nullable=False),
        sa.Column("progress", JSON, nullable=False),
        sa.Column("checkpoint_step", sa.Integer()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("log_count", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text()),
        sa.Column("lease_until", sa.Double()),
        sa.Column("overtaken", sa.Integer(), nullable=False),
        sa.Column("overtaken_since", sa.Double()),
        sa.PrimaryKeyConstraint("place"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("key_id", "idempotency_key", name="requests_idempotency"),
    )
    op.create_index(
        "requests_coalescing", "requests", ["coalesce_key"], sqlite_where=UNFINISHED, postgresql_where=UNFINISHED
    )
    op.create_index("requests_created", "requests", ["created_at"])
    op.create_index(
        "requests_deadline",
        "requests",
        ["start_deadline"],
        sqlite_where=HAS_START_DEADLINE,
        postgresql_where=HAS_START_DEADLINE,
    )
    op.create_index("requests_running", "requests", ["lease_until"], sqlite_where=RUNNING, postgresql_where=RUNNING)
    op.create_index(
        "requests_waiting", "requests", ["kind", "priority", "place"], sqlite_where=WAITING, postgresql_where=WAITING
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("resident", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "attempts",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("ending", sa.Text()),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("last_step", sa.Integer(), nullable=False),
        sa.Column("checkpoint_step", sa.Integer()),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"]),
        sa.PrimaryKeyConstraint("request_id", "number"),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("request_id", sa.Text()),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_index("ix_files_request_id", "files", ["request_id"])
    op.create_table(
        "logs",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"]),
        sa.PrimaryKeyConstraint("request_id", "number"),
    )
