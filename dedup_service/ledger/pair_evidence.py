"""Evidence on pairs of questions in the ledger's database: written by every replica, read on by all of them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import structlog
from sqlalchemy import Connection, Engine, case, delete, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from askonce.periodic import PeriodicThread
from dedup_service.ledger.ledger import PAIRS, Ledger, lock_log
from dedup_service.question.intent_graph import reading_key
from dedup_service.question.pair_memory import PairMemory
from dedup_service.question.pair_store import PairRecord

log = structlog.get_logger("ledger")

PAGE = 5_000
"""Records read at once."""
POLL_SECONDS = 0.5
"""How often records of other replicas are looked for."""
COMPACT_SECONDS = 600.0
"""How often the log is compacted, by whichever replica holds the lock."""
MOST = 2_000_000
"""Most records kept, about 600 bytes each; the oldest go first."""
MOST_OF_PAIR = 64
"""Most records of one pair: as many as count (`intent_graph.MOST_RECORDS`)."""
COMPACT_LOCK = 4_603_012_026_122
"""The PostgreSQL advisory lock of the replica that compacts."""
COLUMNS = [PAIRS.c[field.name] for field in fields(PairRecord)]


class PairEvidence:
    """The pair memory's store, on SQLite or PostgreSQL. `append` goes through the ledger's queue; the other methods
    block."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self.engine = engine
        self.ledger = ledger
        self.reached = 0

    def append(self, records: Sequence[PairRecord]) -> None:
        """Hands records to the ledger's writer."""
        self.ledger.record_pairs(records)

    def load(self) -> Iterator[PairRecord]:
        """Yields every record, oldest first, and remembers how far it came: `fresh` goes on from there."""
        while page := self.fresh():
            yield from page

    def fresh(self) -> list[PairRecord]:
        """The next page of records that this replica has not read yet, its own among them. Sequence numbers are given
        in the order of commits, so that none is passed over."""
        query = select(PAIRS.c.sequence, *COLUMNS).where(PAIRS.c.sequence > self.reached)
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(PAIRS.c.sequence).limit(PAGE)).all()
        if rows:
            self.reached = rows[-1][0]
        return [PairRecord(*row[1:]) for row in rows]

    def of_tenant(self, tenant: str) -> list[PairRecord]:
        """All that is kept under one tenant's name, oldest first."""
        query = select(*COLUMNS).where(PAIRS.c.tenant == tenant).order_by(PAIRS.c.sequence)
        with self.engine.connect() as connection:
            return [PairRecord(*row) for row in connection.execute(query)]

    def insert(self, records: Iterable[PairRecord]) -> int:
        """Writes records now. Those that are there already stay. Returns how many came."""
        rows = [{field.name: getattr(record, field.name) for field in fields(PairRecord)} for record in records]
        with self.engine.execution_options(writes=True).begin() as connection:
            lock_log(connection)
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            for start in range(0, len(rows), PAGE):
                statement = insert(PAIRS).on_conflict_do_nothing(index_elements=[PAIRS.c.id])
                connection.execute(statement, rows[start : start + PAGE])
        return len(rows)

    def compact(self, keeps_text: Callable[[str], bool], *, most: int = MOST, of_pair: int = MOST_OF_PAIR) -> int:
        """Drops records that no longer count: of each pair all but the newest, of all the oldest beyond `most`. Takes
        away texts that a tenant's policy no longer allows. One replica at a time; returns the number of rows dropped,
        0 when another one is at it."""
        with self.engine.execution_options(writes=True).begin() as connection:
            if not lead(connection):
                return 0
            refusal = (PAIRS.c.source == "feedback") & PAIRS.c.same.is_(False)
            place = func.row_number().over(
                partition_by=(PAIRS.c.tenant, PAIRS.c.left, PAIRS.c.right),
                order_by=(case((refusal, 0), else_=1), PAIRS.c.time.desc(), PAIRS.c.id.desc()),
            )
            ranked = select(PAIRS.c.sequence, place.label("place")).subquery()
            over = select(ranked.c.sequence).where(ranked.c.place > of_pair)
            dropped = connection.execute(delete(PAIRS).where(PAIRS.c.sequence.in_(over))).rowcount
            horizon = connection.execute(
                select(PAIRS.c.sequence).order_by(PAIRS.c.sequence.desc()).offset(most).limit(1)
            ).scalar()
            if horizon is not None:
                dropped += connection.execute(delete(PAIRS).where(PAIRS.c.sequence <= horizon)).rowcount
            there = (PAIRS.c.left_text != "") | (PAIRS.c.right_text != "")
            owners = connection.execute(select(PAIRS.c.tenant, PAIRS.c.origin).where(there).distinct()).all()
            for tenant, origin in owners:
                if not keeps_text(origin or tenant):
                    theirs = (PAIRS.c.tenant == tenant) & (PAIRS.c.origin == origin)
                    connection.execute(update(PAIRS).where(theirs & there).values(left_text="", right_text=""))
        return int(dropped)


def lead(connection: Connection) -> bool:
    """Whether this transaction may compact; SQLite's writing transactions come one at a time anyhow."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": COMPACT_LOCK}).scalar())


class PairTail(PeriodicThread):
    """Brings what other replicas learnt into this one's memory."""

    def __init__(self, evidence: PairEvidence, memory: PairMemory, interval: float = POLL_SECONDS) -> None:
        self.evidence = evidence
        self.memory = memory
        super().__init__("pairs", self.turn, interval)

    def turn(self) -> float | None:
        """Reads a page; comes back at once while there is more."""
        page = self.evidence.fresh()
        if page:
            self.memory.replay(page)
        return 0.0 if len(page) == PAGE else None


def take_over(path: Path, evidence: PairEvidence, keeps_text: Callable[[str], bool]) -> int:
    """Moves the records of an earlier version's file into the database and deletes the file, whose texts must not
    stay behind. Cut off and repeated it moves none twice. Returns how many there were."""
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(
            "SELECT id, tenant, left_key, right_key, left_text, right_text, source, log_odds, same, time, context,"
            " prior, blocked FROM pair_evidence ORDER BY id"
        ).fetchall()
    finally:
        connection.close()
    evidence.insert(record_of(row, keeps_text) for row in rows)
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    log.info("pairs_taken_over", records=len(rows))
    return len(rows)


def record_of(row: Sequence[object], keeps_text: Callable[[str], bool]) -> PairRecord:
    """The record of a row of the earlier file; its id follows from what it says, so that it is the same each time."""
    number, tenant, left, right, left_text, right_text, source, log_odds, same, time, context, prior, blocked = row
    name = hashlib.blake2b(repr((number, tenant, left, right, source, time, context)).encode(), digest_size=16)
    origin = str(context).partition("/")[0] if tenant == "" else ""
    record = PairRecord(
        tenant, left, right, left_text, right_text, source, log_odds, bool(same), time, context, prior,  # type: ignore[arg-type]
        bool(blocked), name.hexdigest(),
        reading_key(str(left_text)) if left_text else "", reading_key(str(right_text)) if right_text else "", origin,
    )  # fmt: skip
    return record if keeps_text(origin or str(tenant)) else replace(record, left_text="", right_text="")
