"""The ledger's writer: takes records at once, writes them in batches from a thread of its own, and never makes a
request wait."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import prometheus_client
import structlog
from sqlalchemy import Connection, Engine, Insert, Table, delete, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from dedup_service.ledger.records import (
    Decision,
    Feedback,
    KnownMismatch,
    Label,
    PartedPair,
    Source,
    pair_key,
    sealed,
    sealed_label,
)
from dedup_service.ledger.tables import (
    DecisionRow,
    FeedbackRow,
    KnownMismatchRow,
    LabelRow,
    PairRow,
    PartedRow,
    RemovalRow,
    ThumbnailRow,
)
from dedup_service.question.pair_store import PairRecord

log = structlog.get_logger("ledger")

QUEUED = prometheus_client.Gauge("askonce_dedup_ledger_queue", "Records that wait to be written to the ledger.")
RECORDS = prometheus_client.Counter(
    "askonce_dedup_ledger_records_total",
    "Records by what became of them: written, dropped (the queue was full) or refused by the database.",
    ["outcome"],
)
RETRIES = prometheus_client.Counter(
    "askonce_dedup_ledger_retries_total", "Attempts to write to the ledger that failed and were repeated."
)
WRITES = prometheus_client.Histogram(
    "askonce_dedup_ledger_write_seconds",
    "Time of one transaction of the ledger's writer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
for _outcome in ("written", "dropped", "refused"):  # so that a rate is known from the first one on
    RECORDS.labels(_outcome)

DECISIONS: Table = DecisionRow.__table__  # type: ignore[assignment]
LABELS: Table = LabelRow.__table__  # type: ignore[assignment]
FEEDBACK: Table = FeedbackRow.__table__  # type: ignore[assignment]
THUMBNAILS: Table = ThumbnailRow.__table__  # type: ignore[assignment]
KNOWN_MISMATCHES: Table = KnownMismatchRow.__table__  # type: ignore[assignment]
PARTED: Table = PartedRow.__table__  # type: ignore[assignment]
PAIRS: Table = PairRow.__table__  # type: ignore[assignment]
REMOVALS: Table = RemovalRow.__table__  # type: ignore[assignment]
LOG_LOCK = 4_603_012_026_121
"""The PostgreSQL advisory lock under which rows of a log get their sequence numbers: readers that go on from the
greatest one they know must never meet a smaller one later."""
FIRST_RETRY = 0.1
LAST_RETRY = 5.0
"""Seconds between attempts while the database can't be reached: the first wait, doubled up to the last."""


@dataclass(frozen=True)
class LedgerState:
    """How the writer is doing, counted since it was opened."""

    queued: int
    """Records that wait to be written."""
    written: int
    """Records written and committed."""
    dropped: int
    """Records that were not taken because the queue was full or the ledger closed."""
    refused: int
    """Records that the database would not take, such as one of an impossible type."""
    failures: int
    """Attempts that failed and were repeated."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row on its way to the database."""

    table: Table
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """A decision whose row the writer's thread is to make: a request does not wait for that."""

    decision: Decision
    keep_text: bool

    def entry(self) -> Entry:
        """The row; without `keep_text`, digests stand for the texts."""
        return Entry(DECISIONS, plain(decision_row(sealed(self.decision, keep_text=self.keep_text))))


class Ledger:
    """Records decisions, labels and feedback.

    Records are kept in memory for at most `interval` seconds (and the time of a commit) before they are written, so a
    crash loses no more than that; `close` loses nothing. At most `capacity` records wait: beyond it new ones are
    dropped and counted, since a request must not wait for its own log. Thread-safe. The caller disposes of the
    engine.
    """

    def __init__(self, engine: Engine, *, capacity: int = 50_000, batch: int = 2_000, interval: float = 0.4) -> None:
        self.engine = engine
        self.capacity = capacity
        self.batch = batch
        self.interval = interval
        self.queue: deque[Entry | Made] = deque()
        self.changed = threading.Condition()
        self.in_hand = 0
        self.urgent = False
        self.closing = False
        self.abandoned = threading.Event()
        self.counts = {"written": 0, "dropped": 0, "refused": 0, "failures": 0}
        QUEUED.set_function(lambda: self.state().queued)
        self.writer = threading.Thread(target=self.run, name="ledger", daemon=True)
        self.writer.start()

    def record_decision(self, decision: Decision, *, keep_text: bool) -> bool:
        """Takes a decision; without `keep_text`, digests stand for its texts. False when it had to be dropped."""
        return self.queued(Made(decision, keep_text))

    def record_label(self, label: Label, *, keep_text: bool) -> bool:
        """Takes a label. False when it had to be dropped."""
        return self.put(Entry(LABELS, asdict(sealed_label(label, keep_text=keep_text))))

    def record_feedback(self, feedback: Feedback, *, keep_text: bool) -> bool:
        """Takes a client's feedback, without `keep_text` its texts not, and the label that it is. False when either had
        to be dropped."""
        if not keep_text:
            feedback = replace(feedback, correct_text=None, comment=None)
        label = Label(feedback.decision, feedback.tenant, Source.FEEDBACK, feedback.right, feedback.time)
        return self.put(Entry(FEEDBACK, asdict(feedback))) and self.put(Entry(LABELS, asdict(label)))

    def record_mismatch(self, mismatch: KnownMismatch) -> bool:
        """Takes a file that is not an image. False when it had to be dropped."""
        return self.put(Entry(KNOWN_MISMATCHES, asdict(mismatch)))

    def record_parted(self, pair: PartedPair) -> bool:
        """Takes two questions that never share an entry again. False when it had to be dropped."""
        return self.put(Entry(PARTED, asdict(pair)))

    def record_pairs(self, records: Sequence[PairRecord]) -> bool:
        """Takes evidence on pairs of questions, as it may be kept. False when some had to be dropped."""
        taken = [self.put(Entry(PAIRS, asdict(record))) for record in records]
        return all(taken)

    def state(self) -> LedgerState:
        """How the writer is doing."""
        with self.changed:
            return LedgerState(queued=len(self.queue) + self.in_hand, **self.counts)

    def flush(self, timeout: float) -> bool:
        """Waits until every record taken so far is committed; False when that takes more than `timeout` seconds."""
        with self.changed:
            goal = self.counts["written"] + self.counts["refused"] + len(self.queue) + self.in_hand
            self.urgent = True
            self.changed.notify_all()
            done = self.changed.wait_for(
                lambda: self.counts["written"] + self.counts["refused"] >= goal or not self.writer.is_alive(), timeout
            )
            return done and self.counts["written"] + self.counts["refused"] >= goal

    def close(self, timeout: float = 10.0) -> int:
        """Takes no more records, writes those that wait, and stops. Returns how many could not be written within
        `timeout` seconds: 0 unless the database is out of reach. Safe to repeat."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.writer.join(timeout)
        if self.writer.is_alive():
            self.abandoned.set()
            self.writer.join(1.0)
        lost = self.state().queued
        if lost:
            log.error("ledger_lost", records=lost)
        return lost

    def put(self, entry: Entry) -> bool:
        """Queues a row unless the queue is full or closed."""
        return self.queued(Entry(entry.table, plain(entry.row)))

    def queued(self, entry: Entry | Made) -> bool:
        """Queues what is to be written, unless the queue is full or closed."""
        with self.changed:
            if self.closing or len(self.queue) + self.in_hand >= self.capacity:
                self.count("dropped", 1)
                return False
            self.queue.append(entry)
            if len(self.queue) == self.batch:
                self.changed.notify_all()
            return True

    def run(self) -> None:
        """The writer's thread: gathers a batch, writes it, counts it."""
        while (taken := self.gather()) is not None:
            entries = self.rows(taken)
            written, refused = self.write(entries)
            refused += len(taken) - len(entries)
            with self.changed:
                if not self.abandoned.is_set():
                    self.in_hand = 0
                self.count("written", written)
                self.count("refused", refused)
                self.changed.notify_all()

    def count(self, outcome: str, records: int) -> None:
        """Counts records by what became of them. Call it under the lock."""
        self.counts[outcome] += records
        RECORDS.labels(outcome).inc(records)

    def rows(self, taken: Sequence[Entry | Made]) -> list[Entry]:
        """The rows of what was queued, without those that can't be made."""
        entries: list[Entry] = []
        for each in taken:
            try:
                entries.append(each.entry() if isinstance(each, Made) else each)
            except (TypeError, ValueError) as error:
                log.error("ledger_refused", table=DECISIONS.name, error=type(error).__name__)
        return entries

    def gather(self) -> list[Entry | Made] | None:
        """The next batch: whatever has come when `interval` is over or `batch` is full. None once closed and empty."""
        with self.changed:
            self.changed.wait_for(
                lambda: len(self.queue) >= self.batch or self.closing or (self.urgent and self.queue), self.interval
            )
            if not self.queue and (self.closing or self.abandoned.is_set()):
                return None
            taken = [self.queue.popleft() for _ in range(min(self.batch, len(self.queue)))]
            self.in_hand = len(taken)
            self.urgent = self.urgent and bool(self.queue)
            return taken

    def write(self, entries: Sequence[Entry]) -> tuple[int, int]:
        """Writes a batch in one transaction, again and again while the database is out of reach. A batch that the
        database refuses is written row by row, so that one bad record does not take the others with it. Returns how
        many rows were written and how many refused."""
        pause = FIRST_RETRY
        while entries and not self.abandoned.is_set():
            try:
                with WRITES.time(), self.engine.execution_options(writes=True).begin() as connection:
                    insert_all(connection, entries)
                return len(entries), 0
            except (OperationalError, InterfaceError) as error:
                with self.changed:
                    self.counts["failures"] += 1
                RETRIES.inc()
                log.warning("ledger_unreachable", error=type(error).__name__, retry_seconds=pause, rows=len(entries))
                self.abandoned.wait(pause)
                pause = min(LAST_RETRY, pause * 2)
            except (SQLAlchemyError, ValueError, TypeError, OverflowError) as error:
                if isinstance(error, DBAPIError) and error.connection_invalidated:
                    continue
                if len(entries) == 1:
                    log.error("ledger_refused", table=entries[0].table.name, error=type(error).__name__)
                    return 0, 1
                halves = (entries[: len(entries) // 2], entries[len(entries) // 2 :])
                results = [self.write(half) for half in halves]
                return sum(r[0] for r in results), sum(r[1] for r in results)
        return 0, 0

    def sweep(self, record_ttls: Mapping[str, float], default_ttl: float, *, now: float, limit: int = 5_000) -> int:
        """Deletes up to `limit` decisions, and as many rows of each other kind, that are past their time.
        `record_ttls` are seconds by tenant, `default_ttl` those of every other tenant. Returns the number of rows
        deleted; fewer than `limit` means that nothing more is due. Files and questions that were parted hold no text
        and stay until their tenant is purged. Blocks; call it from a thread."""
        deleted = 0
        with self.engine.execution_options(writes=True).begin() as connection:
            for table in (DECISIONS, LABELS, FEEDBACK, THUMBNAILS):
                for tenant, ttl in record_ttls.items():
                    due = (table.c.tenant == tenant) & (table.c.time < now - ttl)
                    deleted += delete_some(connection, table, due, limit)
                others = (table.c.time < now - default_ttl) & table.c.tenant.not_in(list(record_ttls))
                deleted += delete_some(connection, table, others, limit)
        return deleted


def delete_some(connection: Connection, table: Table, due: Any, limit: int) -> int:
    """Deletes up to `limit` rows that are due, by primary key, which both databases can bound."""
    keys = list(table.primary_key.columns)
    rows = connection.execute(select(*keys).where(due).order_by(table.c.time).limit(limit)).all()
    for start in range(0, len(rows), 500):
        part = rows[start : start + 500]
        if len(keys) == 1:
            connection.execute(delete(table).where(keys[0].in_([row[0] for row in part])))
        else:
            for row in part:
                connection.execute(delete(table).where(*(key == value for key, value in zip(keys, row, strict=True))))
    return len(rows)


def insert_all(connection: Connection, entries: Sequence[Entry]) -> None:
    """Inserts rows table by table. A decision or evidence that is there already stays; a label or feedback replaces
    the older one, so that every record may safely be sent twice."""
    for table in (DECISIONS, LABELS, FEEDBACK, KNOWN_MISMATCHES, PARTED, PAIRS):
        keys = names_of(table)
        rows = {tuple(e.row[key] for key in keys): e.row for e in entries if e.table is table}
        if rows:
            if table is PAIRS:
                lock_log(connection)
            connection.execute(insert_for(connection, table), list(rows.values()))


def lock_log(connection: Connection) -> None:
    """Makes this transaction the only one that writes a log, until it ends. SQLite has one writer anyhow."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOG_LOCK})


def names_of(table: Table) -> list[str]:
    """The columns by which a record is known to be there already."""
    return ["id"] if table is PAIRS else [key.name for key in table.primary_key]


def insert_for(connection: Connection, table: Table) -> Insert:
    """The insert statement of a table in the connection's dialect."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    keys = [table.c[name] for name in names_of(table)]
    if table in (DECISIONS, PAIRS):
        return statement.on_conflict_do_nothing(index_elements=keys)
    others = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


def decision_row(decision: Decision) -> dict[str, Any]:
    """The row of a decision; structures become JSON."""
    row = dict(vars(decision))
    row["image_box"] = None if decision.image_box is None else json.dumps(decision.image_box)
    row["vetoes"] = json.dumps(decision.vetoes, ensure_ascii=False) if decision.vetoes else None
    row["timings"] = json.dumps(dict(decision.timings)) if decision.timings else None
    row["pair"] = pair_key(decision)
    return row


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose every value can be stored."""
    return {name: storable(value) for name, value in row.items()}


def storable(value: object) -> object:
    """`value` without NUL characters, which PostgreSQL refuses in text."""
    return value.replace("\0", "") if isinstance(value, str) and "\0" in value else value
