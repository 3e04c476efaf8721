"""Sweeps what has expired out of memory, a little at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from askonce.periodic import PeriodicTask
from dedup_service.store.records import Deleted, Memory

STALE_SECONDS = 3_600.0
"""How often the sweeper looks for what other encoders left behind, and how long all of it must have been over by then:
the sweeper of a deployment that still uses it would have been there long before."""
log = structlog.get_logger("expiry")


class Sweeper(PeriodicTask):
    """A background task that calls `Memory.sweep`, with bounded work in each step.

    While a step finds as much as it may remove, the next one follows after `pause` rather than after `interval`, so a
    great many entries that expire together are gone soon, and look-ups get their turn in between.
    """

    def __init__(
        self,
        memory: Memory,
        interval: float = 5.0,
        limit: int = 500,
        *,
        pause: float = 0.25,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`interval` and `pause` in seconds; `limit` is the most entries removed in one step; `clock` gives seconds
        since the epoch."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.memory = memory
        super().__init__("expiry", self.turn, interval)
        self.limit = limit
        self.pause = pause
        self.clock = clock
        self.total = Deleted()
        """What has been removed since the start."""
        self.stale_checked = clock()

    async def turn(self) -> float | None:
        """Sweeps, and soon again while there is much to do; else looks for what other encoders left."""
        if (await self.sweep()).entries >= self.limit:
            return self.pause
        if self.clock() - self.stale_checked >= STALE_SECONDS:
            await self.sweep_stale()
        return None

    async def sweep(self) -> Deleted:
        """Sweeps once."""
        started = time.perf_counter()
        swept = await self.memory.sweep(self.clock(), self.limit)
        self.total = Deleted(
            self.total.entries + swept.entries, self.total.images + swept.images, self.total.aliases + swept.aliases
        )
        if swept != Deleted():
            seconds = round(time.perf_counter() - started, 3)
            log.info("swept", entries=swept.entries, images=swept.images, aliases=swept.aliases, seconds=seconds)
        return swept

    async def sweep_stale(self) -> Deleted:
        """Removes what other encoders left behind, once it is over."""
        now = self.stale_checked = self.clock()
        swept = await self.memory.delete_stale(expired_before=now - STALE_SECONDS)
        if swept != Deleted():
            log.info("swept_stale", entries=swept.entries, images=swept.images, aliases=swept.aliases)
        return swept
