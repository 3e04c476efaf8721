"""Questions that a client's feedback parted: whatever the evidence says, one is never answered by the other's entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from cachetools import LRUCache

from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.records import PartedPair

MOST = 100_000
"""Most of them kept at hand, some 300 bytes each."""


class PartedQuestions:
    """Remembers them for good: at hand for look-ups, and in the ledger for the next start. Worker threads may
    read."""

    def __init__(
        self, ledger: Ledger, known: Iterable[PartedPair] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        """`known` are those of earlier runs, oldest first."""
        self.ledger = ledger
        self.clock = clock
        self.pairs: LRUCache[tuple[str, str, str], bool] = LRUCache(MOST)
        self.spelt: LRUCache[tuple[str, str], bool] = LRUCache(MOST)
        for pair in known:
            self.hold(pair)

    def add(self, tenant: str, left: str, right: str, *, spelling: bool) -> None:
        """Parts two questions, by the digests of their texts. `spelling` says that they had one normal form: from now
        on each counts as it is spelt."""
        pair = PartedPair(tenant, min(left, right), max(left, right), spelling, self.clock())
        self.hold(pair)
        self.ledger.record_parted(pair)

    def hold(self, pair: PartedPair) -> None:
        """Keeps one at hand."""
        self.pairs[(pair.tenant, pair.left, pair.right)] = True
        if pair.spelling:
            self.spelt[(pair.tenant, pair.left)] = self.spelt[(pair.tenant, pair.right)] = True

    def parted(self, tenant: str, left: str, right: str) -> bool:
        """Whether two questions were parted, by the digests of their texts."""
        return (tenant, min(left, right), max(left, right)) in self.pairs

    def by_spelling(self, tenant: str, question: str) -> bool:
        """Whether a question, by its digest, was parted from one of the same normal form."""
        return (tenant, question) in self.spelt
