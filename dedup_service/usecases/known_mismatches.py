"""Files that were found not to be an image, whatever the look-alike check says about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from cachetools import LRUCache

from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.records import KnownMismatch

MOST = 20_000
"""Most of them kept at hand."""


class KnownMismatches:
    """Remembers them: at hand for look-ups, and in the ledger for the next start. For the event loop."""

    def __init__(
        self, ledger: Ledger, known: Iterable[KnownMismatch] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        """`known` are those of earlier runs, oldest first."""
        self.ledger = ledger
        self.clock = clock
        self.parted: LRUCache[tuple[str, str, str], bool] = LRUCache(MOST)
        self.take(known)

    def add(self, tenant: str, file: str, image: str) -> None:
        """Never takes this file, by its digest in hexadecimal, for that image record again."""
        self.parted[(tenant, file, image)] = True
        self.ledger.record_mismatch(KnownMismatch(tenant, file, image, self.clock()))

    def take(self, known: Iterable[KnownMismatch]) -> None:
        """Takes what was found elsewhere."""
        for one in known:
            self.parted[(one.tenant, one.file, one.image)] = True

    def knows(self, tenant: str, file: str, image: str) -> bool:
        """Whether this file was found not to be that image."""
        return (tenant, file, image) in self.parted
