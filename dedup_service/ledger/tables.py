"""The ledger's tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Double, Index, Integer, LargeBinary, SmallInteger, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself only on a column of type INTEGER."""


class Base(DeclarativeBase):
    """The ledger's metadata."""

    type_annotation_map = {str: Text, float: Double, bool: Boolean, int: BigInteger, bytes: LargeBinary}  # noqa: RUF012


class DecisionRow(Base):
    """One decision; see `records.Decision`. Ids sort by time."""

    __tablename__ = "decisions"
    __table_args__ = (Index("decisions_by_tenant", "tenant", "time"), Index("decisions_by_time", "time"))

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    time: Mapped[float]
    request_id: Mapped[str]
    hit: Mapped[bool]
    would_hit: Mapped[bool]
    reason: Mapped[str]
    image_tier: Mapped[str]
    image_verdict: Mapped[str]
    image_score: Mapped[float | None]
    image_reason: Mapped[str]
    image_box: Mapped[str | None]
    question_tier: Mapped[str]
    question_verdict: Mapped[str]
    question_score: Mapped[float | None]
    question_reason: Mapped[str]
    vetoes: Mapped[str | None]
    stratum: Mapped[str]
    risk: Mapped[float | None]
    max_risk: Mapped[float | None]
    image_threshold: Mapped[float | None]
    question_threshold: Mapped[float | None]
    policy_revision: Mapped[int]
    image: Mapped[str]
    nearest_image: Mapped[str]
    entry: Mapped[str]
    nearest_entry: Mapped[str]
    question_text: Mapped[str | None]
    question_digest: Mapped[str]
    nearest_question_text: Mapped[str | None]
    nearest_question_digest: Mapped[str]
    nearest_answer_text: Mapped[str | None]
    nearest_answer_digest: Mapped[str]
    language: Mapped[str]
    cross_language: Mapped[bool]
    model: Mapped[str]
    timings: Mapped[str | None]
    explored: Mapped[bool]
    propensity: Mapped[float]
    saved_seconds: Mapped[float]
    pair: Mapped[int]


class LabelRow(Base):
    """One label; see `records.Label`."""

    __tablename__ = "labels"
    __table_args__ = (Index("labels_by_tenant", "tenant", "time"), Index("labels_by_time", "time"))

    decision: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    time: Mapped[float]
    same: Mapped[bool | None]
    weight: Mapped[float]
    note: Mapped[str]
    answer_text: Mapped[str | None]
    answer_digest: Mapped[str]


class FeedbackRow(Base):
    """One verdict of a client; see `records.Feedback`."""

    __tablename__ = "feedback"
    __table_args__ = (Index("feedback_by_tenant", "tenant", "time"),)

    decision: Mapped[str] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    time: Mapped[float]
    right: Mapped[bool]
    correct_text: Mapped[str | None]
    comment: Mapped[str | None]
    entry: Mapped[str]


class PolicyRow(Base):
    """One revision of a tenant's policy. The pair of tenant and revision is unique: of two writers one loses."""

    __tablename__ = "policy_revisions"
    __table_args__ = (UniqueConstraint("tenant", "revision", name="policy_revisions_once"),)

    sequence: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    tenant: Mapped[str]
    revision: Mapped[int]
    policy: Mapped[str]
    time: Mapped[float]
    author: Mapped[str]
    note: Mapped[str]
    restored: Mapped[int | None]


class ThresholdRow(Base):
    """The thresholds learnt for one tenant; the greatest version applies."""

    __tablename__ = "thresholds"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    time: Mapped[float]
    body: Mapped[str]
    format: Mapped[int] = mapped_column(SmallInteger)


class ThumbnailRow(Base):
    """One small picture for audit reports; see `audit.thumbnails`."""

    __tablename__ = "thumbnails"
    __table_args__ = (Index("thumbnails_by_time", "time"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    image: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float]
    size: Mapped[int]
    webp: Mapped[bytes]


class PartedRow(Base):
    """Two questions that never share an entry again; see `records.PartedPair`."""

    __tablename__ = "parted_questions"
    __table_args__ = (Index("parted_questions_by_time", "time"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[str] = mapped_column(primary_key=True)
    right: Mapped[str] = mapped_column(primary_key=True)
    spelling: Mapped[bool]
    time: Mapped[float]


class KnownMismatchRow(Base):
    """A file that is not an image; see `records.KnownMismatch`."""

    __tablename__ = "known_mismatches"
    __table_args__ = (Index("known_mismatches_by_time", "time"),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    file: Mapped[str] = mapped_column(primary_key=True)
    image: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float]


class PairRow(Base):
    """One piece of evidence on two questions; see `pair_store.PairRecord`. Replicas read on from the greatest sequence
    number that they know."""

    __tablename__ = "pair_evidence"
    __table_args__ = (
        UniqueConstraint("id", name="pair_evidence_once"),
        Index("pair_evidence_by_pair", "tenant", "left", "right"),
        Index("pair_evidence_by_origin", "origin"),
        {"sqlite_autoincrement": True},
    )

    sequence: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    id: Mapped[str]
    tenant: Mapped[str]
    origin: Mapped[str]
    left: Mapped[str]
    right: Mapped[str]
    left_text: Mapped[str]
    right_text: Mapped[str]
    left_reading: Mapped[str]
    right_reading: Mapped[str]
    source: Mapped[str]
    log_odds: Mapped[float]
    same: Mapped[bool]
    time: Mapped[float]
    context: Mapped[str]
    prior: Mapped[float]
    blocked: Mapped[bool]


class RemovalRow(Base):
    """News of something removed at one replica, which the others must let go of too."""

    __tablename__ = "removals"
    __table_args__ = (Index("removals_by_time", "time"), {"sqlite_autoincrement": True})

    sequence: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    tenant: Mapped[str]
    kind: Mapped[str]
    body: Mapped[str]
    time: Mapped[float]


class AccountRow(Base):
    """What a tenant's hits may still cost, less what replicas have drawn; see `policy.account`."""

    __tablename__ = "risk_accounts"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[float]


class ReportRow(Base):
    """A report for an audit: how far it is, and once it is done its page and its figures. Any replica reads it."""

    __tablename__ = "reports"
    __table_args__ = (Index("reports_by_tenant", "tenant", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    beat: Mapped[float]
    stage: Mapped[str]
    share: Mapped[float]
    done: Mapped[bool]
    unwanted: Mapped[bool]
    cancelled: Mapped[bool]
    listed: Mapped[bool]
    reason: Mapped[str]
    message: Mapped[str]
    page: Mapped[bytes | None]
    figures: Mapped[bytes | None]
