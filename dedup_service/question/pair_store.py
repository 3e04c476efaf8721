"""Where verdicts on pairs of questions are kept: the port, and a file of SQLite's."""

import queue
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Source = Literal["answer", "judge", "feedback", "exploration"]


@dataclass(frozen=True)
class PairRecord:
    """One piece of evidence on two questions. ``left`` < ``right`` are digests of their normal forms; the texts are
    empty if the operator does not allow them to be kept. ``context`` names what the evidence was seen on (an image's
    digest), so that one image counts once; ``prior`` is what the texts alone said; ``time`` is in seconds since the
    epoch."""

    tenant: str
    left: str
    right: str
    left_text: str
    right_text: str
    source: Source
    log_odds: float
    same: bool
    time: float
    context: str = ""
    prior: float = 0.0
    blocked: bool = False


class PairStore(Protocol):
    """What a pair memory needs of a store. Records are only ever added; a store may drop the oldest."""

    def load(self) -> Iterable[PairRecord]:
        """Yields every record, oldest first."""
        ...

    def append(self, records: Sequence[PairRecord]) -> None:
        """Takes records to be kept; may return before they are on disk, and never blocks for long."""
        ...


class SqlitePairStore:
    """Records in one SQLite file (write-ahead log), written in batches by a thread of its own.

    ``most`` bounds the file: the oldest records beyond it are deleted now and then. The queue to the writer holds
    ``backlog`` batches; when it is full, `append` drops the batch and counts it in ``dropped``: evidence is worth
    less than latency.
    """

    def __init__(self, path: str | Path, *, most: int = 2_000_000, backlog: int = 1000) -> None:
        self.dropped = 0
        self._most = most
        self._path = str(path)
        self._queue: queue.Queue[Sequence[PairRecord] | threading.Event | None] = queue.Queue(maxsize=backlog)
        with self._connect() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS pair_evidence (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL,"
                " left_key TEXT NOT NULL, right_key TEXT NOT NULL, left_text TEXT NOT NULL, right_text TEXT NOT NULL,"
                " source TEXT NOT NULL,"
                " log_odds REAL NOT NULL, same INTEGER NOT NULL, time REAL NOT NULL, context TEXT NOT NULL,"
                " prior REAL NOT NULL, blocked INTEGER NOT NULL)"
            )
        connection.close()
        self._writer = threading.Thread(target=self._write, name="pair-store", daemon=True)
        self._writer.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10.0)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def load(self) -> Iterable[PairRecord]:
        """Yields every record, oldest first."""
        connection = self._connect()
        try:
            rows = connection.execute(
                "SELECT tenant, left_key, right_key, left_text, right_text, source, log_odds, same, time, context,"
                " prior, blocked FROM pair_evidence ORDER BY id"
            )
            for row in rows:
                yield _record(row)
        finally:
            connection.close()

    def append(self, records: Sequence[PairRecord]) -> None:
        """Hands records to the writer; returns at once."""
        try:
            self._queue.put_nowait(tuple(records))
        except queue.Full:
            self.dropped += len(records)

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until everything handed over so far is on disk; false if that takes longer than ``timeout`` seconds."""
        done = threading.Event()
        self._queue.put(done, timeout=timeout)
        return done.wait(timeout)

    def close(self) -> None:
        """Writes what is waiting and stops the writer."""
        self._queue.put(None)
        self._writer.join(timeout=10.0)

    def _write(self) -> None:
        connection = self._connect()
        written = 0
        stopped = False
        while not stopped:
            batch: list[PairRecord] = []
            events: list[threading.Event] = []
            item = self._queue.get()
            while True:
                if item is None:
                    stopped = True
                elif isinstance(item, threading.Event):
                    events.append(item)
                else:
                    batch += item
                if stopped or len(batch) >= 5000:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            try:
                if batch:
                    self._insert(connection, batch)
                    written += len(batch)
                    if written >= 10_000:
                        self._trim(connection)
                        written = 0
            except sqlite3.Error:
                self.dropped += len(batch)
            for event in events:
                event.set()
        connection.close()

    def _insert(self, connection: sqlite3.Connection, batch: Sequence[PairRecord]) -> None:
        with connection:
            connection.executemany(
                "INSERT INTO pair_evidence (tenant, left_key, right_key, left_text, right_text, source, log_odds, same,"
                " time, context, prior, blocked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        r.tenant,
                        r.left,
                        r.right,
                        r.left_text,
                        r.right_text,
                        r.source,
                        r.log_odds,
                        int(r.same),
                        r.time,
                        r.context,
                        r.prior,
                        int(r.blocked),
                    )
                    for r in batch
                ],
            )

    def _trim(self, connection: sqlite3.Connection) -> None:
        with connection:
            connection.execute(
                "DELETE FROM pair_evidence WHERE id <= (SELECT max(id) FROM pair_evidence) - ?", (self._most,)
            )


def _record(row: Sequence[Any]) -> PairRecord:
    tenant, left, right, left_text, right_text, source, log_odds, same, time, context, prior, blocked = row
    return PairRecord(
        tenant, left, right, left_text, right_text, source, log_odds, bool(same), time, context, prior, bool(blocked)
    )
