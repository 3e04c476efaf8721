"""Deletes records that are past their time, a bounded number at a time, in the background."""

from __future__ import annotations

import threading
import time as clock

import structlog

from dedup_service.ledger.ledger import Ledger
from dedup_service.policy.revisions import PolicyBook

log = structlog.get_logger("ledger")

LIMIT = 2_000
"""Rows deleted in one transaction: some 50 ms, in which the writer waits."""
PAUSE = 0.5
"""Seconds between two transactions while there is more to delete, so that the writer gets its turn."""


class Retention:
    """Keeps the ledger within each tenant's `record_ttl`. A thread of its own, every `interval` seconds."""

    def __init__(self, ledger: Ledger, book: PolicyBook, *, interval: float = 600.0) -> None:
        self.ledger = ledger
        self.book = book
        self.interval = interval
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name="retention", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Stops the thread after the transaction under way. Safe to repeat."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(30)

    def run(self) -> None:
        """The thread: deletes what is due until it is stopped; what fails is tried again at the next turn."""
        delay = self.interval
        while not self.stopping.wait(delay):
            try:
                delay = PAUSE if self.step(clock.time()) else self.interval
            except Exception as error:  # whatever the database's driver raises: records stay a little longer
                log.warning("retention_failed", error=type(error).__name__)
                delay = self.interval

    def step(self, now: float) -> int:
        """Deletes some of what is due at `now` (seconds since the epoch); returns the number of rows deleted, 0 when
        nothing is left."""
        own = {tenant: revision.policy.record_ttl for tenant, revision in self.book.revisions.items()}
        own |= {tenant: policy.record_ttl for tenant, policy in self.book.defaults.items() if tenant not in own}
        deleted = self.ledger.sweep(own, self.book.default.record_ttl, now=now, limit=LIMIT)
        if deleted:
            log.info("retention_deleted", rows=deleted)
        return deleted
