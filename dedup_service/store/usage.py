"""Uses of entries, gathered and written in batches: a hit costs no write of its own."""

from __future__ import annotations

import random
from dataclasses import replace

import structlog

from askonce.periodic import PeriodicTask
from dedup_service.policy.policy import Policy
from dedup_service.store.records import Entry, Memory, MemoryUnavailableError, Touch

log = structlog.get_logger("usage")


class Touches:
    """News of uses, at most `limit` entries at a time; what does not fit is not counted, and costs nothing else."""

    def __init__(self, memory: Memory, interval: float = 1.0, limit: int = 10_000) -> None:
        """`interval` is the time between two writes in seconds."""
        self.memory = memory
        self.limit = limit
        self.waiting: dict[str, Touch] = {}
        self.writing = PeriodicTask("touches", self.flush, interval)

    def use(self, entry: Entry, policy: Policy, now: float) -> Entry:
        """Notes a use; returns the entry as it now is: hot again, its end of life moved if the policy slides it."""
        hot_until = min(entry.expire_time, lifetime_end(now, policy.hot_ttl, policy.ttl_jitter))
        expire_time = entry.expire_time
        if policy.sliding_ttl:
            expire_time = max(expire_time, lifetime_end(now, policy.archive_ttl, policy.ttl_jitter))
        before = self.waiting.get(entry.id)
        if before is not None or len(self.waiting) < self.limit:
            hits = (before.hits if before else 0) + 1
            self.waiting[entry.id] = Touch(entry.tenant, entry.id, now, hits, hot_until, expire_time)
        return replace(entry, hot_until=hot_until, expire_time=expire_time, last_use=now, hits=entry.hits + 1)

    async def start(self) -> None:
        """Begins to write in the background."""
        await self.writing.start()

    async def flush(self) -> None:
        """Writes what waits. A store that is away loses counts, never answers."""
        if not self.waiting:
            return
        batch, self.waiting = self.waiting, {}
        try:
            await self.memory.touch(list(batch.values()))
        except MemoryUnavailableError as error:
            log.warning("touches_lost", count=len(batch), error=str(error))

    async def stop(self) -> None:
        """Writes the rest and ends."""
        await self.writing.stop()
        await self.flush()


def lifetime_end(now: float, ttl: float, jitter: float) -> float:
    """When a life that begins now ends: after `ttl` seconds, up to `jitter` more or less, at random and never negative.

    The jitter keeps entries that were stored together from expiring together.
    """
    return now + max(0.0, ttl + random.uniform(-jitter, jitter)) if ttl > 0 else now
