"""Sweeps what has expired out of memory, a little at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from dedup_service.store.records import Deleted, Memory, MemoryUnavailableError

STALE_SECONDS = 3_600.0
"""How often the sweeper looks for what other encoders left behind, and how long all of it must have been over by then:
the sweeper of a deployment that still uses it would have been there long before."""
log = structlog.get_logger("expiry")


class Sweeper:
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
        self.interval = interval
        self.limit = limit
        self.pause = pause
        self.clock = clock
        self.total = Deleted()
        """What has been removed since the start."""
        self.task: asyncio.Task[None] | None = None
        self.stale_checked = clock()

    async def start(self) -> None:
        """Begins to sweep in the background."""
        if self.task is None:
            self.task = asyncio.create_task(self.run(), name="sweeper")

    async def run(self) -> None:
        """Sweeps again and again. A store that is away, or a step that fails, is tried again at the next time."""
        delay = self.interval
        while True:
            await asyncio.sleep(delay)
            delay = self.interval
            try:
                if (await self.step()).entries >= self.limit:
                    delay = self.pause
                elif self.clock() - self.stale_checked >= STALE_SECONDS:
                    await self.step_stale()
            except MemoryUnavailableError as error:
                log.warning("sweep_failed", error=str(error))
            except Exception:
                log.exception("sweep_failed")

    async def step(self) -> Deleted:
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

    async def step_stale(self) -> Deleted:
        """Removes what other encoders left behind, once it is over."""
        now = self.stale_checked = self.clock()
        swept = await self.memory.delete_stale(expired_before=now - STALE_SECONDS)
        if swept != Deleted():
            log.info("swept_stale", entries=swept.entries, images=swept.images, aliases=swept.aliases)
        return swept

    async def stop(self) -> None:
        """Ends. A step under way is cut off between two of its calls; what is left is swept after the next start."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
            self.task = None
