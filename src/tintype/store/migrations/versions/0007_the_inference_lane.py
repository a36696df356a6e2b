"""The lane and the kind of request that were called drawing are called inference, as fal calls them."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Names the lanes as the glossary does."""
    op.execute("UPDATE requests SET kind = 'inference' WHERE kind = 'drawing'")
    op.execute("UPDATE workers SET lane = 'inference' WHERE lane = 'drawing'")
