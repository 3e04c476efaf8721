"""What the replicas of a fleet share: evidence on pairs of questions, news of removals, accounts of risk."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates the tables."""
    texts = ("id", "tenant", "origin", "left", "right", "left_text", "right_text", "left_reading", "right_reading")
    op.create_table(
        "pair_evidence",
        sa.Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in (*texts, "source", "context")),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("log_odds", "time", "prior")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("same", "blocked")),
        sa.UniqueConstraint("id", name="pair_evidence_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("pair_evidence_by_pair", "pair_evidence", ["tenant", "left", "right"], unique=False)
    op.create_index("pair_evidence_by_origin", "pair_evidence", ["origin"], unique=False)
    op.create_table(
        "removals",
        sa.Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("removals_by_time", "removals", ["time"], unique=False)
    op.create_table(
        "risk_accounts",
        sa.Column("tenant", sa.Text(), primary_key=True),
        sa.Column("balance", sa.Double(), nullable=False),
    )


def downgrade() -> None:
    """Drops the tables."""
    op.drop_table("risk_accounts")
    op.drop_index("removals_by_time", table_name="removals")
    op.drop_table("removals")
    op.drop_index("pair_evidence_by_origin", table_name="pair_evidence")
    op.drop_index("pair_evidence_by_pair", table_name="pair_evidence")
    op.drop_table("pair_evidence")
