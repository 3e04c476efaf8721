"""The bounded queue in front of an engine: says "no" early, and when to come back.

Pure asyncio bookkeeping for one event loop; nothing here waits on anything but its own turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from askonce.fair import FairQueue, share
from inference_service.engine import EngineBusyError

WEIGHT = 0.2
"""Weight of the newest service time in the running mean: half of the mean is younger than about three requests."""
UNMEASURED = 1.0
"""Seconds that a request is taken to need before the first one has been measured."""


class Admission:
    """Hands out an engine's `capacity` places in order of arrival, the shares (`askonce.fair`) in turn: whoever asks
    for much waits behind whoever asks for little, and gives way in a full queue.

    The wait that a newcomer must expect is `(requests ahead + 1) x mean service time / capacity`: when all places are
    busy, an engine finishes `capacity / mean service time` requests a second (Little's law).
    """

    def __init__(self, capacity: int, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity < 1 or limit < 0:
            raise ValueError("capacity must be at least 1 and limit at least 0")
        self.capacity = capacity
        self.limit = limit
        self.clock = clock
        self.running = 0
        self.background = 0
        self.mean: float | None = None
        self.waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    @property
    def queued(self) -> int:
        """Requests waiting now."""
        return len(self.waiting)

    def expected_wait(self) -> float:
        """Seconds that a request arriving now must expect to wait; 0 when a place is free."""
        if self.running < self.capacity and not self.waiting:
            return 0.0
        mean = UNMEASURED if self.mean is None else self.mean
        return (len(self.waiting) + 1) * mean / self.capacity

    @asynccontextmanager
    async def place(self, *, background: bool = False, deadline: float | None = None) -> AsyncIterator[float]:
        """Waits for a place, holds it for the block, and yields the seconds that the wait took.

        `deadline` is on the queue's clock. Raises EngineBusyError with reason QUEUE_FULL when too many wait already,
        QUEUE_TOO_SLOW when the measured wait is longer than the time left, and ENGINE_BUSY for background work while
        anything else runs or waits.
        """
        arrived = self.clock()
        await self.enter(background, deadline)
        started = self.clock()
        try:
            yield started - arrived
        finally:
            self.leave(self.clock() - started, background)

    async def enter(self, background: bool, deadline: float | None) -> None:
        """Takes a place, or waits in line for one."""
        wait = self.expected_wait()
        if background and (self.running or self.waiting):
            raise EngineBusyError(
                "ENGINE_BUSY", "Background work waits until nothing else runs.", max(wait, UNMEASURED)
            )
        if self.running < self.capacity and not self.waiting:
            self.running += 1
        elif len(self.waiting) >= self.limit and not self.make_room():
            raise EngineBusyError("QUEUE_FULL", f"{len(self.waiting)} requests wait already; come back later.", wait)
        elif deadline is not None and self.mean is not None and self.clock() + wait > deadline:
            raise EngineBusyError(
                "QUEUE_TOO_SLOW", f"The wait is about {wait:.1f} s, longer than the time that is left.", wait
            )
        else:
            await self.line_up(None if deadline is None else max(0.0, deadline - self.clock()))
        if background:
            self.background += 1

    async def line_up(self, patience: float | None) -> None:
        """Waits up to `patience` seconds for a place to be handed over by a request that leaves."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        whose = share.get()
        self.waiting.append(whose, turn)
        try:
            async with asyncio.timeout(patience):
                await turn
        except TimeoutError as error:
            self.give_up(whose, turn)
            raise EngineBusyError("QUEUE_TOO_SLOW", "No place came free in time.", self.expected_wait()) from error
        except asyncio.CancelledError:
            self.give_up(whose, turn)
            raise

    def make_room(self) -> bool:
        """Sends the newest of the share with most in line away, for one with less; says whether it could."""
        turn = self.waiting.surplus(share.get())
        if turn is None:
            return False
        if not turn.done():
            turn.set_exception(
                EngineBusyError("QUEUE_FULL", "The line is full, and others ask for less.", self.expected_wait())
            )
        return True

    def give_up(self, whose: str, turn: asyncio.Future[None]) -> None:
        """Leaves the line; a place that came in the very same moment goes to the next."""
        if not turn.cancelled():
            if turn.exception() is None:
                self.hand_over()
        else:  # unless somebody who left has passed it over already
            self.waiting.remove(whose, turn)

    def leave(self, seconds: float, background: bool) -> None:
        """Gives the place back and remembers how long it was held."""
        self.mean = seconds if self.mean is None else self.mean + WEIGHT * (seconds - self.mean)
        if background:
            self.background -= 1
        self.hand_over()

    def hand_over(self) -> None:
        """Passes a place to the first in line, or frees it."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
