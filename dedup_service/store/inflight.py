"""Answers on their way: misses whose generation has begun, which requests of the same meaning can wait for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from dedup_service.store.records import Entry, Vector


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


class InflightMisses:
    """The flights under way, bounded in number and age."""

    def __init__(self, clock: Callable[[], float], limit: int = 4_096, ttl: float = 120.0) -> None:
        """Holds at most `limit` flights for at most `ttl` seconds each; the oldest go first."""
        self.clock = clock
        self.limit = limit
        self.ttl = ttl
        self.by_key: OrderedDict[str, InflightMiss] = OrderedDict()
        self.by_image: dict[tuple[str, str, str], dict[str, InflightMiss]] = {}

    def begin(self, flight: InflightMiss) -> None:
        """A generation is about to begin."""
        self.expire()
        self.end(flight.key)
        self.by_key[flight.key] = flight
        self.by_image.setdefault((flight.tenant, flight.image, flight.space), {})[flight.key] = flight
        while len(self.by_key) > self.limit:
            self.end(next(iter(self.by_key)))

    def end(self, key: str) -> None:
        """A generation has ended, or will not begin."""
        flight = self.by_key.pop(key, None)
        if flight is None:
            return
        place = (flight.tenant, flight.image, flight.space)
        beside = self.by_image[place]
        del beside[key]
        if not beside:
            del self.by_image[place]

    def about(self, tenant: str, image: str, space: str) -> list[InflightMiss]:
        """The flights about one image in one answer space, oldest first."""
        self.expire()
        return list(self.by_image.get((tenant, image, space), {}).values())

    def expire(self) -> None:
        """Drops flights that are too old to wait for."""
        horizon = self.clock() - self.ttl
        while self.by_key and next(iter(self.by_key.values())).time < horizon:
            self.end(next(iter(self.by_key)))
