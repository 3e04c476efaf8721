"""Deletes records that are past their time, a bounded number at a time, in the background."""

from __future__ import annotations

import time as clock

import structlog

from askonce.periodic import PeriodicThread
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.purge import Scrubber
from dedup_service.policy.revisions import PolicyBook

log = structlog.get_logger("ledger")

LIMIT = 2_000
"""Rows deleted in one transaction: some 50 ms, in which the writer waits."""
PAUSE = 0.5
"""Seconds between two transactions while there is more to delete, so that the writer gets its turn."""


class Retention(PeriodicThread):
    """Keeps the ledger within each tenant's `record_ttl`. A thread of its own, every `interval` seconds."""

    def __init__(self, ledger: Ledger, book: PolicyBook, scrubber: Scrubber, *, interval: float = 600.0) -> None:
        self.scrubber = scrubber
        self.ledger = ledger
        self.book = book
        self.silent: tuple[frozenset[str], frozenset[str] | None] = (frozenset(), None)
        """For whom texts were taken out last; see `silenced`."""
        super().__init__("retention", self.turn, interval)

    def turn(self) -> float | None:
        """Deletes a part of what is due now; comes back soon while there is more. Takes the texts out of the records of
        tenants whose policy came to forbid them."""
        silent = self.silenced()
        if silent != self.silent:
            self.scrubber.silence(*silent)
            self.silent = silent
        return PAUSE if self.delete_due(clock.time()) else None

    def silenced(self) -> tuple[frozenset[str], frozenset[str] | None]:
        """Tenants whose texts may not be kept; and, where that is so by default, those whose texts may: all others'
        may not. None where it is not so by default."""
        named = self.book.defaults.keys() | self.book.revisions.keys()
        kept = frozenset(tenant for tenant in named if self.book.keeps_text(tenant))
        return frozenset(named) - kept, None if self.book.default.keep_question_text else kept

    def delete_due(self, now: float) -> int:
        """Deletes some of what is due at `now` (seconds since the epoch); returns the number of rows deleted, 0 when
        nothing is left."""
        own = {tenant: revision.policy.record_ttl for tenant, revision in self.book.revisions.items()}
        own |= {tenant: policy.record_ttl for tenant, policy in self.book.defaults.items() if tenant not in own}
        deleted = self.ledger.sweep(own, self.book.default.record_ttl, now=now, limit=LIMIT)
        if deleted:
            log.info("retention_deleted", rows=deleted)
        return deleted
