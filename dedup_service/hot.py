"""The hot tier: exact repeats answered without a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cachetools import TLRUCache

from dedup_service.memory import Entry


@dataclass(frozen=True, slots=True)
class HotKey:
    """What makes a request an exact repeat."""

    tenant: str
    byte_digest: str
    space: str
    normal: str


class Hot(Protocol):
    """Keeps entries under their exact keys until they cool down. Never blocks."""

    def get(self, key: HotKey) -> Entry | None:
        """The entry, unless it has cooled down or was dropped."""
        ...

    def put(self, key: HotKey, entry: Entry) -> None:
        """Keeps an entry until its `hot_until`."""
        ...

    def drop(self, tenant: str, entries: frozenset[str] | None = None) -> None:
        """Drops these entries of a tenant; all of the tenant's without a set."""
        ...


class ProcessHot:
    """A hot tier in this process, bounded by a number of keys; least recently used out."""

    def __init__(self, clock: Callable[[], float], keys: int = 50_000) -> None:
        """`clock` returns seconds since the epoch; `keys` is the most keys kept."""
        self.cache: TLRUCache[HotKey, Entry] = TLRUCache(
            maxsize=keys,
            ttu=lambda _key, entry, _now: entry.hot_until,
            timer=clock,
        )
        self.keys_of: dict[str, set[HotKey]] = {}

    def get(self, key: HotKey) -> Entry | None:
        return self.cache.get(key)

    def put(self, key: HotKey, entry: Entry) -> None:
        self.cache[key] = entry
        self.keys_of.setdefault(entry.id, set()).add(key)
        if len(self.keys_of) > 2 * self.cache.maxsize:
            self.keys_of = {}
            for kept, value in list(self.cache.items()):
                self.keys_of.setdefault(value.id, set()).add(kept)

    def drop(self, tenant: str, entries: frozenset[str] | None = None) -> None:
        if entries is None:
            doomed = {key for key in list(self.cache) if key.tenant == tenant}
        else:
            doomed = set().union(*(self.keys_of.pop(entry, set()) for entry in entries))
        for key in doomed:
            if key.tenant == tenant:
                self.cache.pop(key, None)
