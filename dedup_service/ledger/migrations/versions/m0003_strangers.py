"""Files that were found not to be an image."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "strangers",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "file", "image"),
    )
    op.create_index("strangers_by_time", "strangers", ["time"], unique=False)


def downgrade() -> None:
    """Drops the table."""
    op.drop_index("strangers_by_time", table_name="strangers")
    op.drop_table("strangers")
