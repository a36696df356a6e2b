"""Which requests are rehearsals."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds the mark; there were none before."""
    op.add_column("requests", sa.Column("is_rehearsal", sa.Boolean(), nullable=False, server_default=sa.false()))
