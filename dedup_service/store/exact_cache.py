"""The hot tier: exact repeats answered without a search.

A key leads to an entry's id and the id to the entry, so that removing an entry takes one step however many files and
spellings lead to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache, TLRUCache, TTLCache

from dedup_service.store.records import Entry

BARRED = 60.0
"""Seconds for which what was dropped is refused: far longer than a look-up may take."""


@dataclass(frozen=True, slots=True)
class ExactKey:
    """What makes a request an exact repeat."""

    tenant: str
    byte_digest: str
    space: str
    normal: str


class ExactCache(Protocol):
    """Keeps entries under their exact keys until they cool down."""

    async def get(self, key: ExactKey) -> Entry | None:
        """The entry, unless it has cooled down or was dropped. A tier that is away has nothing."""
        ...

    async def put(self, key: ExactKey, entry: Entry) -> None:
        """Keeps an entry until its `hot_until`; best effort."""
        ...

    async def drop(self, tenant: str, entries: frozenset[str] | None = None, *, before: float | None = None) -> None:
        """Drops these entries of a tenant; all of the tenant's without a set. What was created `before` then (seconds
        since the epoch; now, when none is given) is not taken back for `BARRED` seconds: a look-up that read it just
        before it was removed must not bring it back. Raises MemoryUnavailableError when that can't be made sure: a
        wrong answer must not stay."""
        ...

    async def close(self) -> None:
        """Lets go of connections. Safe to call twice."""
        ...


class InProcessExactCache:
    """A hot tier in this process, for a service without replicas; bounded, least recently used out."""

    def __init__(self, clock: Callable[[], float], keys: int = 50_000) -> None:
        """`clock` returns seconds since the epoch; `keys` is the most keys kept, and the most entries."""
        self.ids: LRUCache[ExactKey, str] = LRUCache(keys)
        self.entries: TLRUCache[tuple[str, str], Entry] = TLRUCache(
            maxsize=keys, ttu=lambda _key, entry, _now: entry.hot_until, timer=clock
        )
        self.clock = clock
        self.dropped: TTLCache[tuple[str, str], float] = TTLCache(keys, BARRED, timer=clock)

    async def get(self, key: ExactKey) -> Entry | None:
        found = self.ids.get(key)
        return self.entries.get((key.tenant, found)) if found is not None else None

    async def put(self, key: ExactKey, entry: Entry) -> None:
        gone = (self.dropped.get((key.tenant, entry.id)), self.dropped.get((key.tenant, "")))
        if any(time is not None and entry.create_time < time for time in gone):
            return
        self.ids[key] = entry.id
        self.entries[(key.tenant, entry.id)] = entry

    async def drop(self, tenant: str, entries: frozenset[str] | None = None, *, before: float | None = None) -> None:
        moment = self.clock() if before is None else before
        for name in [""] if entries is None else entries:
            self.dropped[(tenant, name)] = moment
        if entries is None:
            entries = frozenset(entry for owner, entry in list(self.entries) if owner == tenant)
        for entry in entries:
            self.entries.pop((tenant, entry), None)

    async def close(self) -> None:
        """Nothing to let go of."""


class NoExactCache:
    """No hot tier: every look-up goes to the store. Right for replicas that share a store and no Redis."""

    async def get(self, key: ExactKey) -> Entry | None:
        return None

    async def put(self, key: ExactKey, entry: Entry) -> None:
        """Keeps nothing."""

    async def drop(self, tenant: str, entries: frozenset[str] | None = None, *, before: float | None = None) -> None:
        """There is nothing to drop."""

    async def close(self) -> None:
        """Nothing to let go of."""
