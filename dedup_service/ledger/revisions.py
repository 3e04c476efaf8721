"""Policy revisions and learnt thresholds in the ledger's database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Engine, Table, func, insert, select
from sqlalchemy.exc import IntegrityError

from dedup_service.ledger.tables import PolicyRow, ThresholdRow
from dedup_service.policy import policy as policies
from dedup_service.policy import thresholds as learnt
from dedup_service.policy.policy import PolicyInvalidError
from dedup_service.policy.revisions import PolicyStaleError, Revision
from dedup_service.policy.thresholds import Thresholds

log = structlog.get_logger("ledger")

POLICIES: Table = PolicyRow.__table__  # type: ignore[assignment]
THRESHOLDS: Table = ThresholdRow.__table__  # type: ignore[assignment]
FORMAT = 1
"""The form of stored thresholds; others are ignored, and learnt anew."""
KEPT = 20
"""Versions of a tenant's thresholds that are kept for audits."""


class RevisionRows:
    """The store of revisions that `PolicyBook` asks for, on SQLite or PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def add(self, revision: Revision) -> None:
        """Stores a revision. Raises PolicyStaleError when the tenant already has one of that number."""
        values = {
            "tenant": revision.tenant,
            "revision": revision.revision,
            "policy": policies.to_json(revision.policy),
            "time": revision.time,
            "author": revision.author,
            "note": revision.note,
            "restored": revision.restored,
        }
        try:
            with self.engine.execution_options(writes=True).begin() as connection:
                connection.execute(insert(POLICIES).values(**values))
        except IntegrityError as error:
            raise PolicyStaleError(f"revision {revision.revision} was made by somebody else") from error

    def latest(self, tenant: str) -> Revision | None:
        """The tenant's newest revision."""
        found = self.page(tenant, None, 1)
        return found[0] if found else None

    def get(self, tenant: str, revision: int) -> Revision | None:
        """One revision."""
        query = select(POLICIES).where(POLICIES.c.tenant == tenant, POLICIES.c.revision == revision)
        with self.engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else revision_of(row)

    def page(self, tenant: str, below: int | None, size: int) -> Sequence[Revision]:
        """Up to `size` revisions, newest first, with numbers below `below`."""
        query = select(POLICIES).where(POLICIES.c.tenant == tenant).order_by(POLICIES.c.revision.desc()).limit(size)
        if below is not None:
            query = query.where(POLICIES.c.revision < below)
        with self.engine.connect() as connection:
            return [revision_of(row) for row in connection.execute(query).mappings()]

    def since(self, sequence: int) -> tuple[int, Sequence[Revision]]:
        """Revisions stored after `sequence`, oldest first, and the sequence number reached."""
        query = select(POLICIES).where(POLICIES.c.sequence > sequence).order_by(POLICIES.c.sequence)
        with self.engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        found = []
        for row in rows:
            try:
                found.append(revision_of(row))
            except PolicyInvalidError as error:
                # Written by a newer replica with other rules: this one keeps the policy it has, and says so.
                log.error("policy_unreadable", tenant=row["tenant"], revision=row["revision"], error=str(error))
        return (rows[-1]["sequence"] if rows else sequence), found

    def add_thresholds(self, tenant: str, thresholds: Thresholds) -> None:
        """Stores thresholds and drops the oldest; those of a version that is there already are left as they are."""
        values = {
            "tenant": tenant,
            "version": thresholds.version,
            "time": thresholds.time,
            "body": learnt.to_json(thresholds),
            "format": FORMAT,
        }
        try:
            with self.engine.execution_options(writes=True).begin() as connection:
                connection.execute(insert(THRESHOLDS).values(**values))
                old = (THRESHOLDS.c.tenant == tenant) & (THRESHOLDS.c.version <= thresholds.version - KEPT)
                connection.execute(THRESHOLDS.delete().where(old))
        except IntegrityError:
            return  # another replica learnt this version from the same ledger

    def thresholds(self, newer_than: Mapping[str, int]) -> Mapping[str, Thresholds]:
        """The newest thresholds of every tenant whose version exceeds the one given (0 when not given)."""
        newest = select(THRESHOLDS.c.tenant, func.max(THRESHOLDS.c.version)).group_by(THRESHOLDS.c.tenant)
        found = {}
        with self.engine.connect() as connection:
            for tenant, version in connection.execute(newest).all():
                if version > newer_than.get(tenant, 0):
                    query = select(THRESHOLDS.c.body).where(
                        THRESHOLDS.c.tenant == tenant, THRESHOLDS.c.version == version, THRESHOLDS.c.format == FORMAT
                    )
                    body = connection.execute(query).scalar()
                    if body is not None:
                        found[tenant] = learnt.from_json(body)
        return found


def revision_of(row: Any) -> Revision:
    """The revision that a row holds."""
    return Revision(
        row["tenant"],
        row["revision"],
        policies.from_json(row["policy"]),
        row["time"],
        row["author"],
        row["note"],
        row["restored"],
    )
