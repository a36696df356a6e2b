"""How long the files of a request's result are kept, as its sender asked."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("requests", sa.Column("file_lifetime", sa.Double()))
