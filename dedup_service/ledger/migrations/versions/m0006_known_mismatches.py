"""The table of files that are not an image gets the name that the code gives them."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Renames the table and its index."""
    _rename("strangers", "known_mismatches")


def downgrade() -> None:
    """Gives the old names back."""
    _rename("known_mismatches", "strangers")


def _rename(old: str, new: str) -> None:
    op.drop_index(f"{old}_by_time", table_name=old)
    op.rename_table(old, new)
    op.create_index(f"{new}_by_time", new, ["time"], unique=False)
