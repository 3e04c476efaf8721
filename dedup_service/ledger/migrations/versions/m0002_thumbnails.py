"""Thumbnails become one of the ledger's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table, unless an earlier version has made it beside the migrations."""
    if sa.inspect(op.get_bind()).has_table("thumbnails"):
        return
    op.create_table(
        "thumbnails",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("webp", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "image"),
    )
    op.create_index("thumbnails_by_time", "thumbnails", ["time"], unique=False)


def downgrade() -> None:
    """Drops the table."""
    op.drop_index("thumbnails_by_time", table_name="thumbnails")
    op.drop_table("thumbnails")
