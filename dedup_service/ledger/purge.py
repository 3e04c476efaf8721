"""Takes texts out of the ledger: of what is purged from memory nothing readable stays behind. The figures stay."""

from __future__ import annotations

import json
import threading
import time as clock
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, insert, or_, select, tuple_, update

from askonce.periodic import PeriodicThread
from dedup_service.ledger.database import empty_log
from dedup_service.ledger.ledger import (
    DECISIONS,
    FEEDBACK,
    KNOWN_MISMATCHES,
    LABELS,
    PAIRS,
    PARTED,
    REMOVALS,
    Ledger,
    lock_log,
)
from dedup_service.ledger.pair_evidence import PairEvidence
from dedup_service.question.intent_graph import digest
from dedup_service.question.pair_memory import POOL, PairMemory

T = TypeVar("T")
TEXTS = ("question_text", "nearest_question_text", "nearest_answer_text", "vetoes")
"""The columns of a decision that hold texts."""
FLUSH = 5.0
"""Seconds to wait for records that are still on their way to the database."""
PART = 500
"""Values named in one statement."""
KEEP = 86_400.0
"""Seconds for which news of a removal is kept: a replica that was away longer has started anew."""
POLL_SECONDS = 0.5
"""How often removals at other replicas are looked for."""


@dataclass(frozen=True)
class Purged:
    """What was purged of a tenant's memory. Without any condition: all of it."""

    tenant: str
    whole: bool = False
    entries: Sequence[str] = ()
    """Ids of entries."""
    decisions: Sequence[str] = ()
    """Ids of the decisions whose answers they hold."""
    asked: Sequence[tuple[str, str]] = ()
    """Files, by digest in hexadecimal, and digests (`records.digest`) of what was asked of them: others may have waited
    for the same answer."""
    normals: Sequence[str] = ()
    """Normal forms of their questions."""
    images: Sequence[str] = ()
    """Ids of image records, those that files of a purged image would have founded among them."""
    digests: Sequence[str] = ()
    """Digests of their files, hexadecimal."""
    answers: Sequence[str] = ()
    """Ids of entries whose answers alone go; what was asked stays as the policy has it."""
    before: float | None = None
    """Everything recorded before this time, seconds since the epoch."""


class Scrubber:
    """Takes texts out, at this replica at once and at the others by a removal that they read. Every method blocks."""

    def __init__(self, engine: Engine, ledger: Ledger, time: Callable[[], float] = clock.time) -> None:
        self.engine = engine
        self.ledger = ledger
        self.time = time

    def scrub(self, purged: Purged) -> None:
        """Takes the texts of decisions, labels and feedback out and deletes evidence on pairs of questions, or takes
        out their texts where the same questions were asked elsewhere. SQLite's log is emptied afterwards."""
        self.ledger.flush(FLUSH)
        with self.engine.execution_options(writes=True).begin() as connection:
            for part in parts(purged.answers):
                empty_answers(connection, purged.tenant, part)
            for about in decisions_of(purged):
                empty_decisions(connection, purged.tenant, about)
            for gone, about in pairs_of(purged):
                remove_pairs(connection, about, gone=gone)
            if purged.whole:
                for table in (KNOWN_MISMATCHES, PARTED):
                    connection.execute(delete(table).where(table.c.tenant == purged.tenant))
            tell(connection, purged.tenant, self.time())
        empty_log(self.engine)

    def silence(self, silent: Collection[str], others_than: Collection[str] | None) -> None:
        """Takes the texts out of all records of some tenants and, unless `others_than` is None, of all but those."""
        self.ledger.flush(FLUSH)
        about: ColumnElement[bool] = DECISIONS.c.tenant.in_(silent)
        if others_than is not None:
            about = or_(about, DECISIONS.c.tenant.not_in(others_than))
        readable = or_(*(DECISIONS.c[name].is_not(None) for name in TEXTS))
        with self.engine.execution_options(writes=True).begin() as connection:
            empty_texts(connection, about & readable)
        empty_log(self.engine)


def decisions_of(purged: Purged) -> Iterator[ColumnElement[bool]]:
    """Conditions on the decisions whose texts go."""
    if purged.whole:
        yield DECISIONS.c.tenant == purged.tenant
        return
    for part in parts(purged.entries):
        yield or_(DECISIONS.c.entry.in_(part), DECISIONS.c.nearest_entry.in_(part))
    for part in parts(purged.decisions):
        yield DECISIONS.c.id.in_(part)
    for pairs in parts(purged.asked):
        yield tuple_(DECISIONS.c.image, DECISIONS.c.question_digest).in_(pairs)
    for part in parts(purged.images):
        yield DECISIONS.c.nearest_image.in_(part)
    for part in parts(purged.digests):
        yield DECISIONS.c.image.in_(part)
    if purged.before is not None:
        yield DECISIONS.c.time < purged.before


def empty_decisions(connection: Connection, tenant: str, about: ColumnElement[bool]) -> None:
    """Takes the texts of a tenant's decisions out, with those of what was said about them."""
    empty_texts(connection, (DECISIONS.c.tenant == tenant) & about)


def empty_texts(connection: Connection, mine: ColumnElement[bool]) -> None:
    """Takes the texts of decisions out, with those of what was said about them."""
    ids = select(DECISIONS.c.id).where(mine).scalar_subquery()
    empty(connection, LABELS, LABELS.c.decision.in_(ids), answer_text=None, note="")
    empty(connection, FEEDBACK, FEEDBACK.c.decision.in_(ids), correct_text=None, comment=None)
    empty(connection, DECISIONS, mine, **dict.fromkeys(TEXTS))


def empty_answers(connection: Connection, tenant: str, entries: Sequence[str]) -> None:
    """Takes the answers of a tenant's entries out, with those that they were compared with."""
    about = or_(DECISIONS.c.entry.in_(entries), DECISIONS.c.nearest_entry.in_(entries))
    mine = (DECISIONS.c.tenant == tenant) & about
    ids = select(DECISIONS.c.id).where(mine).scalar_subquery()
    empty(connection, LABELS, LABELS.c.decision.in_(ids), answer_text=None)
    empty(connection, DECISIONS, mine, nearest_answer_text=None)


def empty(connection: Connection, table: Table, about: ColumnElement[bool], **values: Any) -> None:
    """Sets columns."""
    connection.execute(update(table).where(about).values(**values))


def pairs_of(purged: Purged) -> Iterator[tuple[bool, ColumnElement[bool]]]:
    """Conditions on the evidence concerned, and whether it goes or its texts alone do."""
    mine = or_(PAIRS.c.tenant == purged.tenant, PAIRS.c.origin == purged.tenant)
    if purged.whole:
        yield True, mine
        return
    for part in parts(purged.images):
        yield True, mine & PAIRS.c.context.in_([*part, *(f"{purged.tenant}/{image}" for image in part)])
    if purged.before is not None:
        yield True, mine & (PAIRS.c.time < purged.before)
    for part in parts([digest(normal) for normal in purged.normals]):
        yield False, mine & or_(PAIRS.c.left.in_(part), PAIRS.c.right.in_(part))


def remove_pairs(connection: Connection, about: ColumnElement[bool], *, gone: bool) -> None:
    """Deletes evidence, or takes its texts out: digests of the readings stand for them."""
    if gone:
        connection.execute(delete(PAIRS).where(about))
    else:
        connection.execute(update(PAIRS).where(about).values(left_text="", right_text=""))


def tell(connection: Connection, tenant: str, now: float) -> None:
    """Leaves word for the other replicas, and forgets old ones."""
    lock_log(connection)
    row = {"tenant": tenant, "kind": "PAIRS", "body": json.dumps({}), "time": now}
    connection.execute(insert(REMOVALS).values(row))
    connection.execute(delete(REMOVALS).where(REMOVALS.c.time < now - KEEP))


def parts(values: Sequence[T]) -> Iterator[list[T]]:
    """The values in runs that a statement can name."""
    for start in range(0, len(values), PART):
        yield list(values[start : start + PART])


def removals_after(engine: Engine, after: int, size: int) -> list[tuple[int, str, float]]:
    """At most so many removals with a sequence number greater than `after`, with tenant and time, oldest first.
    Blocks."""
    query = select(REMOVALS.c.sequence, REMOVALS.c.tenant, REMOVALS.c.time).where(REMOVALS.c.sequence > after)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(REMOVALS.c.sequence).limit(size)).all()
    return [(int(sequence), tenant, time) for sequence, tenant, time in rows]


class RemovalTail(PeriodicThread):
    """Follows the removals: what was purged at any replica leaves this one's pair memory."""

    def __init__(
        self, engine: Engine, evidence: PairEvidence, memory: PairMemory, interval: float = POLL_SECONDS
    ) -> None:
        """Removals from before are in what the memory has loaded already."""
        self.engine = engine
        self.evidence = evidence
        self.memory = memory
        self.turns = threading.Lock()
        with engine.connect() as connection:
            newest = select(REMOVALS.c.sequence).order_by(REMOVALS.c.sequence.desc()).limit(1)
            self.reached = int(connection.execute(newest).scalar() or 0)
        super().__init__("removals", self.turn, interval)

    def turn(self) -> None:
        """Reads the removals since the last time and takes anew what is left of the tenants concerned."""
        with self.turns:
            query = select(REMOVALS.c.sequence, REMOVALS.c.tenant).where(REMOVALS.c.sequence > self.reached)
            with self.engine.connect() as connection:
                rows = connection.execute(query.order_by(REMOVALS.c.sequence)).all()
            for tenant in dict.fromkeys(row[1] for row in rows):
                self.memory.exchange(tenant, self.evidence.of_tenant(tenant))
            if rows:
                self.memory.exchange(POOL, self.evidence.of_tenant(POOL))
                self.reached = rows[-1][0]
