"""The first tables: decisions, labels, feedback, policy revisions and thresholds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "decisions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("hit", sa.Boolean(), nullable=False),
        sa.Column("would_hit", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("image_tier", sa.Text(), nullable=False),
        sa.Column("image_verdict", sa.Text(), nullable=False),
        sa.Column("image_score", sa.Double(), nullable=True),
        sa.Column("image_reason", sa.Text(), nullable=False),
        sa.Column("image_box", sa.Text(), nullable=True),
        sa.Column("question_tier", sa.Text(), nullable=False),
        sa.Column("question_verdict", sa.Text(), nullable=False),
        sa.Column("question_score", sa.Double(), nullable=True),
        sa.Column("question_reason", sa.Text(), nullable=False),
        sa.Column("vetoes", sa.Text(), nullable=True),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.Column("risk", sa.Double(), nullable=True),
        sa.Column("max_risk", sa.Double(), nullable=True),
        sa.Column("image_threshold", sa.Double(), nullable=True),
        sa.Column("question_threshold", sa.Double(), nullable=True),
        sa.Column("policy_revision", sa.BigInteger(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("nearest_image", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("nearest_entry", sa.Text(), nullable=False),
        sa.Column("question_text", sa.Text(), nullable=True),
        sa.Column("question_digest", sa.Text(), nullable=False),
        sa.Column("nearest_question_text", sa.Text(), nullable=True),
        sa.Column("nearest_question_digest", sa.Text(), nullable=False),
        sa.Column("nearest_answer_text", sa.Text(), nullable=True),
        sa.Column("nearest_answer_digest", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("cross_language", sa.Boolean(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("timings", sa.Text(), nullable=True),
        sa.Column("explored", sa.Boolean(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("saved_seconds", sa.Double(), nullable=False),
        sa.Column("pair", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("decisions_by_tenant", "decisions", ["tenant", "time"], unique=False)
    op.create_index("decisions_by_time", "decisions", ["time"], unique=False)
    op.create_table(
        "feedback",
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("right", sa.Boolean(), nullable=False),
        sa.Column("correct_text", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("decision", "client"),
    )
    op.create_index("feedback_by_tenant", "feedback", ["tenant", "time"], unique=False)
    op.create_table(
        "labels",
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("same", sa.Boolean(), nullable=True),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("answer_text", sa.Text(), nullable=True),
        sa.Column("answer_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("decision", "source"),
    )
    op.create_index("labels_by_tenant", "labels", ["tenant", "time"], unique=False)
    op.create_index("labels_by_time", "labels", ["time"], unique=False)
    op.create_table(
        "policy_revisions",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("restored", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("tenant", "revision", name="policy_revisions_once"),
    )
    op.create_table(
        "thresholds",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("format", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "version"),
    )


def downgrade() -> None:
    """Drops every table."""
    op.drop_table("thresholds")
    op.drop_table("policy_revisions")
    op.drop_index("labels_by_time", table_name="labels")
    op.drop_index("labels_by_tenant", table_name="labels")
    op.drop_table("labels")
    op.drop_index("feedback_by_tenant", table_name="feedback")
    op.drop_table("feedback")
    op.drop_index("decisions_by_time", table_name="decisions")
    op.drop_index("decisions_by_tenant", table_name="decisions")
    op.drop_table("decisions")
