"""The tables and their indexes, in one place, because every guarantee of the store rests on a column or an index here.

A new database is made so, and `migrations/` brings an older one to this shape; a test checks that the two agree. Times
are unix seconds, JSON keeps its key order (results are answered byte for byte as they were made), and text is only ever
compared for equality.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tintype.processes import printable

# The newest migration. Opening a database that already carries it does not import Alembic.
SCHEMA_VERSION = "0012"

metadata = sa.MetaData()


def cleaned(text: str) -> str:
    """Makes any text storable (Postgres refuses NUL, UTF-8 lone surrogates), and such as a terminal may be shown."""
    return printable(text.encode("utf-8", "replace").decode())


class _Id(sa.TypeDecorator[str]):
    """An id, which may come from outside as any text: one that cannot be stored names nothing."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else cleaned(value)


_Place = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows by itself only for INTEGER
_Json = sa.JSON(none_as_null=True)

requests = sa.Table(
    "requests",
    metadata,
    # Turn and place in the queue: kept for good, so that a request comes back where it stood (see requests.py).
    sa.Column("place", _Place, primary_key=True, autoincrement=True),
    sa.Column("id", _Id, nullable=False, unique=True),
    sa.Column("endpoint_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("priority", sa.SmallInteger, nullable=False),  # index in requests.PRIORITIES: the smaller runs first
    sa.Column("input", _Json, nullable=False),
    sa.Column("output", _Json),
    sa.Column("failure", _Json),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("affinity", sa.Text, nullable=False),
    sa.Column("sync", sa.Boolean, nullable=False),
    sa.Column("store_io", sa.Boolean, nullable=False),
    sa.Column("file_lifetime", sa.Double),  # seconds that files of the result are kept; NULL for ever
    sa.Column("file_acl", _Json),  # who may read them; NULL: whoever knows their URLs
    sa.Column("tags", _Json, nullable=False),
    sa.Column("webhook_url", sa.Text),
    sa.Column("coalesce_key", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("digest", sa.Text),
    sa.Column("retries", _Json),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("start_deadline", sa.Double),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    # To end at the next step, well, with what there is by then.
    sa.Column("stop_requested", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("total_steps", sa.Integer, nullable=False, default=0),
    sa.Column("progress", _Json, nullable=False, default=dict),
    sa.Column("checkpoint_step", sa.Integer),  # of the newest checkpoint of any attempt
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("strikes", sa.Integer, nullable=False, default=0),
    sa.Column("version", sa.Integer, nullable=False, default=1),
    sa.Column("log_count", sa.Integer, nullable=False, default=0),
    # The lease: only the holder of the current token may write while status is IN_PROGRESS.
    sa.Column("token", sa.Integer, nullable=False, default=0),
    sa.Column("worker_id", sa.Text),
    sa.Column("lease_until", sa.Double),
    # How often, and since when, others with a resident affinity went before this one.
    sa.Column("overtaken", sa.Integer, nullable=False, default=0),
    sa.Column("overtaken_since", sa.Double),
    sa.Column("model_id", sa.Text),  # the custom model it makes, if it trains, or uses
    sa.Column("owner", sa.Text, nullable=False, default="", server_default=""),
    sa.Column("turn", sa.BigInteger, nullable=False, default=0, server_default="0"),
    # What it takes, told from its input; what it took, over all attempts; and how it was answered.
    sa.Column("units", sa.Double, nullable=False, default=0.0, server_default="0"),
    sa.Column("operations", sa.Double, nullable=False, default=0.0, server_default="0"),
    sa.Column("device_seconds", sa.Double, nullable=False, default=0.0, server_default="0"),
    sa.Column("watt_hours", sa.Double),  # NULL where the device does not tell
    sa.Column("status_code", sa.Integer),
    sa.Column("receipt", _Json),  # of what was deleted when its owner had its payloads forgotten
    sa.Column("is_rehearsal", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.UniqueConstraint("key_id", "idempotency_key", name="requests_idempotency"),
)

# Conditions are literals, not parameters: a planner uses a partial index only where it can see that it applies.
WAITING = requests.c.status == sa.literal_column("'IN_QUEUE'")
RUNNING = requests.c.status == sa.literal_column("'IN_PROGRESS'")
UNFINISHED = requests.c.status != sa.literal_column("'COMPLETED'")
ANSWERED = requests.c.status_code.is_not(None)  # as are all that have ended
TOOK_ITS_TURN = sa.or_(UNFINISHED, requests.c.started_at.is_not(None))  # not if cancelled before it began
UNSTORED = ~requests.c.store_io
HAS_START_DEADLINE = sa.and_(WAITING, requests.c.start_deadline.is_not(None), requests.c.started_at.is_(None))


def _partial(name: str, condition: sa.ColumnElement[bool], *columns: sa.Column[object]) -> sa.Index:
    """Makes an index that only some requests enter: mostly its cost follows the work at hand, not the history."""
    return sa.Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


IN_LINE = (requests.c.priority, requests.c.turn, requests.c.place)  # the order of a lane
_partial("requests_waiting", WAITING, requests.c.kind, *IN_LINE)
_partial("requests_turns", TOOK_ITS_TURN, requests.c.owner, requests.c.kind, requests.c.priority, requests.c.turn)
_partial("requests_unfinished", UNFINISHED, requests.c.status, requests.c.owner, requests.c.kind)
_partial("requests_running", RUNNING, requests.c.lease_until)
_partial("requests_deadline", HAS_START_DEADLINE, requests.c.start_deadline)
_partial("requests_coalescing", UNFINISHED, requests.c.coalesce_key)
_partial("requests_unstored", UNSTORED, requests.c.ended_at)
sa.Index("requests_created", requests.c.created_at)
# Holds all that sums over the history need: a row with its input and output would be read for each request else.
_USED = ("endpoint_id", "ended_at", "owner", "key_id", "status_code", "units", "operations", "device_seconds")
_partial("requests_used", ANSWERED, *(requests.c[name] for name in (*_USED, "watt_hours", "created_at", "started_at")))

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("request_id", sa.ForeignKey(requests.c.id), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("worker_id", sa.Text, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("ending", sa.Text),
    sa.Column("cause", sa.Text, nullable=False, default=""),
    sa.Column("last_step", sa.Integer, nullable=False, default=0),
    sa.Column("checkpoint_step", sa.Integer),  # only of a checkpoint beyond those of earlier attempts
)

logs = sa.Table(
    "logs",
    metadata,
    sa.Column("request_id", sa.ForeignKey(requests.c.id), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, index=True),
    sa.Column("request_id", sa.ForeignKey(requests.c.id), index=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("acl", _Json),
)
sa.Index("files_of", files.c.key_id, files.c.size)

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("request_id", sa.ForeignKey(requests.c.id), nullable=False, unique=True),  # its training
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("slug", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("files", _Json, nullable=False, default=dict),  # the files of its training's output, by field
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("deleted_at", sa.Double),
    sa.UniqueConstraint("slug", "version", name="models_uri"),
)
sa.Index("models_created", models.c.created_at)

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),  # grows with every change of what would be trained
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
)
sa.Index("datasets_changed", datasets.c.changed_at)

dataset_photos = sa.Table(
    "dataset_photos",
    metadata,
    sa.Column("place", _Place, primary_key=True, autoincrement=True),
    sa.Column("id", _Id, nullable=False, unique=True),
    sa.Column("dataset_id", sa.ForeignKey(datasets.c.id), nullable=False),
    sa.Column("file_id", sa.ForeignKey(files.c.id), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("caption", sa.Text),
    sa.Column("caption_by", sa.Text),
    sa.Column("captioner", sa.Text),  # the model that wrote the caption
    sa.Column("crop", _Json),
    sa.Column("measured", _Json, nullable=False),  # as dataset/measured.py writes it
    sa.Column("thumbnail", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.UniqueConstraint("dataset_id", "name", name="dataset_photos_name"),
    sa.UniqueConstraint("dataset_id", "sha256", name="dataset_photos_content"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("lane", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("boot_id", sa.Text, nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("resident", _Json, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("last_used_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Column("scope", sa.Text, nullable=False, default="API", server_default="API"),
)

storage_settings = sa.Table(
    "storage_settings",
    metadata,
    sa.Column("owner", _Id, primary_key=True),
    sa.Column("file_lifetime", sa.Double),  # seconds that files of this person's are kept; NULL for ever
    sa.Column("file_acl", _Json),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", _Place, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.ForeignKey(requests.c.id), nullable=False, index=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),  # host and port of the URL
    sa.Column("message", _Json),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("leased_until", sa.Double),  # while somebody tries
    sa.Column("ended_at", sa.Double),
    sa.Column("answer", sa.Text, nullable=False, default=""),
)
UNDELIVERED = deliveries.c.state == sa.literal_column("'waiting'")
_partial("deliveries_due", UNDELIVERED, deliveries.c.due_at)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("seed", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
