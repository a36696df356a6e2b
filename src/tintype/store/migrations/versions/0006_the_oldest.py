"""The oldest schema that is still brought up to date; a new database is made as `schema.py` declares it."""

revision = "0006"
down_revision = None


def upgrade() -> None:
    """Does nothing: a database that is here has this schema already."""
