"""Answers on their way: misses whose generation has begun, which requests of the same meaning can wait for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dedup_service.store.records import Entry, Vector

TTL = 120.0
"""Seconds after which an answer on its way counts as lost."""


@dataclass(frozen=True, slots=True)
class InflightMiss:
    """One answer on its way."""

    key: str
    """Hexadecimal; what the waiting requests share."""
    tenant: str
    image: str
    space: str
    time: float
    awaited: Entry
    """The entry that the answer will become, its answer still empty."""
    vector: Vector
    """The question's vector, shape (D,); empty when its encoder could not read it."""


class Inflight(Protocol):
    """Knows the answers on their way."""

    async def begin(self, flight: InflightMiss) -> list[InflightMiss]:
        """A generation is about to begin. Returns those about the same image in the same answer space that had begun
        before, oldest first: of two that begin at one moment, exactly one is told of the other. One of the same key
        stays as it is."""
        ...

    async def end(self, key: str) -> None:
        """A generation has ended, or will not begin."""
        ...


class InflightMisses:
    """The answers on their way at this replica, bounded in number and age."""

    def __init__(self, clock: Callable[[], float], limit: int = 4_096, ttl: float = TTL) -> None:
        """Holds at most `limit` flights for at most `ttl` seconds each; the oldest go first."""
        self.clock = clock
        self.limit = limit
        self.ttl = ttl
        self.by_key: OrderedDict[str, InflightMiss] = OrderedDict()
        self.by_image: dict[tuple[str, str, str], dict[str, InflightMiss]] = {}

    async def begin(self, flight: InflightMiss) -> list[InflightMiss]:
        self.expire()
        beside = self.by_image.setdefault((flight.tenant, flight.image, flight.space), {})
        before = list(beside.values())
        if flight.key not in beside:
            self.by_key[flight.key] = beside[flight.key] = flight
        while len(self.by_key) > self.limit:
            self.drop(next(iter(self.by_key)))
        return before

    async def end(self, key: str) -> None:
        self.drop(key)

    def drop(self, key: str) -> None:
        """Forgets one."""
        flight = self.by_key.pop(key, None)
        if flight is None:
            return
        place = (flight.tenant, flight.image, flight.space)
        beside = self.by_image[place]
        del beside[key]
        if not beside:
            del self.by_image[place]

    def expire(self) -> None:
        """Drops flights that are too old to wait for."""
        horizon = self.clock() - self.ttl
        while self.by_key and next(iter(self.by_key.values())).time < horizon:
            self.drop(next(iter(self.by_key)))
