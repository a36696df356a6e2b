"""Datasets, and their photos."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_Place = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Adds both tables; there were no datasets before."""
    op.create_table(
        "datasets",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
    )
    op.create_index("datasets_changed", "datasets", ["changed_at"])
    op.create_table(
        "dataset_photos",
        sa.Column("place", _Place, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("dataset_id", sa.Text(), sa.ForeignKey("datasets.id"), nullable=False),
        sa.Column("file_id", sa.Text(), sa.ForeignKey("files.id"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("caption", sa.Text()),
        sa.Column("caption_by", sa.Text()),
        sa.Column("captioner", sa.Text()),
        sa.Column("crop", sa.JSON(none_as_null=True)),
        sa.Column("measured", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("thumbnail", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.UniqueConstraint("dataset_id", "name", name="dataset_photos_name"),
        sa.UniqueConstraint("dataset_id", "sha256", name="dataset_photos_content"),
    )
