"""A cache bounded by bytes that forgets the least recently used first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from cachetools import Cache, LRUCache

from inference_service.engine import CacheState
from inference_service.metrics import EVICTIONS

V = TypeVar("V")


class _Counting(LRUCache[Hashable, V]):
    """Counts what it evicts."""

    def __init__(self, name: str, limit: int, size_of: Callable[[V], int]) -> None:
        super().__init__(limit, getsizeof=size_of)
        self.evictions = EVICTIONS.labels(name)

    def popitem(self) -> tuple[Hashable, V]:
        """Gives up the value that was used longest ago."""
        self.evictions.inc()
        return super().popitem()


class ByteLRU(Generic[V]):
    """Keeps values within `limit` bytes. A value larger than the limit is not kept. Safe to use from any thread."""

    def __init__(self, name: str, limit: int, size_of: Callable[[V], int]) -> None:
        self.name, self.limit, self.size_of = name, limit, size_of
        self.kept: LRUCache[Hashable, V] = _Counting(name, max(1, limit), size_of)
        self.lock = Lock()
        self.hits = self.misses = 0

    def get(self, key: Hashable) -> V | None:
        """The value under a key, counted as a hit or a miss."""
        with self.lock:
            found = self.kept.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def peek(self, key: Hashable) -> V | None:
        """The value under a key, without counting and without making it recent."""
        with self.lock:
            return Cache.__getitem__(self.kept, key) if key in self.kept else None

    def put(self, key: Hashable, value: V) -> bool:
        """Keeps a value; returns whether it fits."""
        with self.lock:
            if self.size_of(value) > self.limit:
                return False
            self.kept[key] = value
            return True

    def clear(self) -> None:
        """Forgets everything."""
        with self.lock:
            self.kept.clear()

    def state(self) -> CacheState:
        """The figures of the cache."""
        with self.lock:
            return CacheState(self.name, int(self.kept.currsize), self.limit, len(self.kept), self.hits, self.misses)
