"""Which trainings were asked to stop and keep what they have."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Adds the mark; nobody could ask before."""
    op.add_column("requests", sa.Column("stop_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
