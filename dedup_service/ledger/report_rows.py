"""Reports for audits in the ledger's database: how far they are, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Table, delete, insert, select, text, update

from dedup_service.ledger.records import time_of
from dedup_service.ledger.tables import ReportRow

REPORTS: Table = ReportRow.__table__  # type: ignore[assignment]
STATE = ("id", "tenant", "stage", "share", "done", "cancelled", "reason", "message", "beat")
ALIVE = 30.0
"""Seconds without a word after which the replica that makes a report counts as dead."""
REMEMBERED = 100
"""Most reports whose making is told."""
START_LOCK = 4_771_202
"""PostgreSQL's advisory lock for starting a report."""


@dataclass(frozen=True, slots=True)
class ReportState:
    """How far a report is."""

    id: str
    tenant: str
    """The tenant, or "-"."""
    stage: str
    share: float
    done: bool
    cancelled: bool
    reason: str
    """Why it failed, UPPER_SNAKE; empty when it did not."""
    message: str


class ReportRows:
    """The table. Every method blocks, and raises SQLAlchemyError while the database is away."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def start(self, report: str, tenant: str, now: float) -> bool:
        """Takes a report up; False while another one is made at any replica."""
        with self.engine.execution_options(writes=True).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": START_LOCK})
            alive = (~REPORTS.c.done) & (REPORTS.c.beat > now - ALIVE)
            if connection.execute(select(REPORTS.c.id).where(alive).limit(1)).first() is not None:
                return False
            row = {"id": report, "tenant": tenant, "beat": now, "stage": "starting", "share": 0.0, "listed": True}
            row |= {"done": False, "unwanted": False, "cancelled": False, "reason": "", "message": ""}
            connection.execute(insert(REPORTS).values(row))
        return True

    def say(self, report: str, stage: str, share: float, now: float) -> bool:
        """Says how far a report is; False when somebody wants it stopped, or has deleted it."""
        with self.engine.execution_options(writes=True).begin() as connection:
            change(connection, report, stage=stage, share=share, beat=now)
            wanted = connection.execute(select(~REPORTS.c.unwanted).where(REPORTS.c.id == report)).scalar()
        return bool(wanted)

    def end(
        self,
        report: str,
        *,
        cancelled: bool = False,
        reason: str = "",
        message: str = "",
        page: bytes | None = None,
        figures: bytes | None = None,
    ) -> None:
        """Says what came of a report."""
        with self.engine.execution_options(writes=True).begin() as connection:
            ended = {"cancelled": cancelled, "reason": reason, "message": message, "page": page, "figures": figures}
            if figures is not None:
                ended |= {"stage": "done", "share": 1.0}
            change(connection, report, done=True, **ended)

    def stop(self, report: str) -> None:
        """Asks whoever makes a report to stop."""
        with self.engine.execution_options(writes=True).begin() as connection:
            change(connection, report, unwanted=True)

    def state(self, report: str, now: float) -> ReportState | None:
        """How far a report is, unless it was taken off the list."""
        with self.engine.connect() as connection:
            query = select(*(REPORTS.c[name] for name in STATE)).where(REPORTS.c.id == report, REPORTS.c.listed)
            row = connection.execute(query).first()
        return state_of(row, now) if row is not None else None

    def states(self, now: float) -> list[ReportState]:
        """How far the newest reports are, newest first."""
        with self.engine.connect() as connection:
            query = select(*(REPORTS.c[name] for name in STATE)).where(REPORTS.c.listed)
            rows = connection.execute(query.order_by(REPORTS.c.id.desc()).limit(REMEMBERED)).all()
        return [state_of(row, now) for row in rows]

    def under_way(self, owners: Sequence[str]) -> list[str]:
        """The ids of reports of these owners that are not done."""
        with self.engine.connect() as connection:
            query = select(REPORTS.c.id).where(REPORTS.c.tenant.in_(owners), ~REPORTS.c.done)
            return [str(row[0]) for row in connection.execute(query)]

    def unlist(self, report: str) -> None:
        """Takes what is told of a report's making off the list; the report stays."""
        with self.engine.execution_options(writes=True).begin() as connection:
            change(connection, report, listed=False)

    def figures(self, tenant: str, report: str) -> bytes | None:
        """A finished report's JSON."""
        return self.column("figures", tenant, report)

    def page(self, tenant: str, report: str) -> bytes | None:
        """A finished report's page."""
        return self.column("page", tenant, report)

    def column(self, name: str, tenant: str, report: str) -> bytes | None:
        """One column of a finished report."""
        with self.engine.connect() as connection:
            query = select(REPORTS.c[name]).where(REPORTS.c.id == report, REPORTS.c.tenant == tenant)
            found: bytes | None = connection.execute(query).scalar()
        return found

    def ids(self, tenant: str) -> list[str]:
        """Ids of a tenant's finished reports, newest first."""
        with self.engine.connect() as connection:
            query = select(REPORTS.c.id).where(REPORTS.c.tenant == tenant, REPORTS.c.figures.is_not(None))
            return [str(row[0]) for row in connection.execute(query.order_by(REPORTS.c.id.desc()))]

    def delete(self, tenant: str, report: str) -> bool:
        """Deletes a report; one that is being made is stopped by that. False when there was none."""
        with self.engine.execution_options(writes=True).begin() as connection:
            gone = delete(REPORTS).where(REPORTS.c.id == report, REPORTS.c.tenant == tenant)
            return connection.execute(gone).rowcount > 0

    def delete_all(self, owners: Sequence[str]) -> int:
        """Deletes all reports of these owners. Returns how many were finished."""
        with self.engine.execution_options(writes=True).begin() as connection:
            mine = REPORTS.c.tenant.in_(owners)
            query = select(REPORTS.c.id).where(mine, REPORTS.c.figures.is_not(None))
            finished = len(connection.execute(query).all())
            connection.execute(delete(REPORTS).where(mine))
        return finished

    def sweep(self, before: float) -> int:
        """Deletes reports made before a time. Returns how many."""
        with self.engine.execution_options(writes=True).begin() as connection:
            due = f"{int(before * 1e6):014x}"
            return connection.execute(delete(REPORTS).where(REPORTS.c.id < due)).rowcount

    def take(self, tenant: str, report: str, page: bytes, figures: bytes) -> None:
        """Takes a report over that an earlier version kept as files."""
        now = time_of(report)
        with self.engine.execution_options(writes=True).begin() as connection:
            if connection.execute(select(REPORTS.c.id).where(REPORTS.c.id == report)).first() is None:
                row = {"id": report, "tenant": tenant, "beat": now, "stage": "done", "share": 1.0, "listed": False}
                row |= {"done": True, "unwanted": False, "cancelled": False, "reason": "", "message": ""}
                connection.execute(insert(REPORTS).values(**row, page=page, figures=figures))


def change(connection: Connection, report: str, **values: object) -> None:
    """Sets columns of a report."""
    connection.execute(update(REPORTS).where(REPORTS.c.id == report).values(**values))


def state_of(row: Sequence[object], now: float) -> ReportState:
    """The state in a row. A report that is not done and of which nothing was heard for long has failed."""
    *fields, beat = row
    state = ReportState(*fields)  # type: ignore[arg-type]
    if state.done or (isinstance(beat, float) and beat > now - ALIVE):
        return state
    message = "The replica that made the report ended before it was done."
    return ReportState(
        state.id, state.tenant, state.stage, state.share, True, False, reason="AUDIT_FAILED", message=message
    )
