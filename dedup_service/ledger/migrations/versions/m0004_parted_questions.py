"""Questions that feedback parted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "parted_questions",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("left", sa.Text(), nullable=False),
        sa.Column("right", sa.Text(), nullable=False),
        sa.Column("spelling", sa.Boolean(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "left", "right"),
    )
    op.create_index("parted_questions_by_time", "parted_questions", ["time"], unique=False)


def downgrade() -> None:
    """Drops the table."""
    op.drop_index("parted_questions_by_time", table_name="parted_questions")
    op.drop_table("parted_questions")
