"""Who may read a file, and the files of a result."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("requests", sa.Column("file_acl", sa.JSON(none_as_null=True)))
    op.add_column("files", sa.Column("acl", sa.JSON(none_as_null=True)))
