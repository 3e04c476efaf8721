"""One piece of work under way that any number of requests wait for.

The first request for a key begins the flight, later ones join it: they get the events so far, then the rest, then the
same outcome, be it a value or a failure. The work runs in a task of its own, so a caller that goes away takes nothing
with it; once nobody waits any more the work lingers for a moment and is then cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from askonce.faults import Unreachable
from gateway.background import Background
from gateway.deadlines import Deadline, too_late

E = TypeVar("E")
R = TypeVar("R")


class Flight(Generic[E, R]):
    """Work under way: a list of events that grows, and one outcome."""

    def __init__(self, linger: float) -> None:
        self.linger = linger
        self.events: list[E] = []
        self.value: R | None = None
        self.error: BaseException | None = None
        self.done = False
        self.waiters = 0
        self.abandoned = False
        self.task: asyncio.Task[None] | None = None
        self.changed: asyncio.Future[None] | None = None
        self.parting: asyncio.TimerHandle | None = None

    def publish(self, event: E) -> None:
        """Adds an event for everybody."""
        self.events.append(event)
        self.wake()

    def settle(self, value: R) -> None:
        """Ends the flight with a value. The work may go on with what nobody waits for."""
        if not self.done:
            self.value, self.done = value, True
            self.wake()

    def fail(self, error: BaseException) -> None:
        """Ends the flight with a failure."""
        if not self.done:
            self.error, self.done = error, True
            self.wake()

    def wake(self) -> None:
        if self.changed is not None and not self.changed.done():
            self.changed.set_result(None)
        self.changed = None

    def enter(self) -> None:
        """Counts a waiter in."""
        self.waiters += 1
        if self.parting is not None:
            self.parting.cancel()
            self.parting = None

    def leave(self) -> None:
        """Counts a waiter out; the last one's leaving ends work that is not done, after the linger."""
        self.waiters -= 1
        if self.waiters == 0 and not self.done and self.task is not None:
            self.parting = asyncio.get_running_loop().call_later(self.linger, self.abandon)

    def abandon(self) -> None:
        if self.waiters == 0 and not self.done and self.task is not None:
            self.abandoned = True
            self.task.cancel()

    async def change(self, deadline: Deadline) -> None:
        """Waits for the next event or the end. Raises TooLate."""
        if self.changed is None:
            self.changed = asyncio.get_running_loop().create_future()
        left = deadline.remaining()
        if left <= 0:
            raise too_late()
        await asyncio.wait({self.changed}, timeout=left)

    async def begun(self, deadline: Deadline) -> None:
        """Waits for the first event or the end. Raises TooLate."""
        self.enter()
        try:
            while not self.done and not self.events:
                await self.change(deadline)
        finally:
            self.leave()

    async def follow(self, deadline: Deadline) -> AsyncIterator[E]:
        """Yields every event from the first on. Raises the flight's failure, and TooLate."""
        self.enter()
        try:
            seen = 0
            while True:
                while seen < len(self.events):
                    yield self.events[seen]
                    seen += 1
                if self.done:
                    break
                await self.change(deadline)
        finally:
            self.leave()
        if self.error is not None:
            raise self.error

    async def outcome(self, deadline: Deadline) -> R:
        """Waits for the outcome and returns it. Raises the flight's failure, and TooLate."""
        self.enter()
        try:
            while not self.done:
                await self.change(deadline)
        finally:
            self.leave()
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


class SingleFlight(Generic[E, R]):
    """The flights under way, by key."""

    def __init__(self, background: Background, linger: float) -> None:
        self.background = background
        self.linger = linger
        self.flights: dict[bytes, Flight[E, R]] = {}

    def find(self, keys: Sequence[bytes]) -> Flight[E, R] | None:
        """The first of the keys' flights that is under way and has not failed."""
        for key in keys:
            flight = self.flights.get(key)
            if flight is not None and flight.error is None and not flight.abandoned:
                return flight
        return None

    def begin(self, key: bytes | None, work: Callable[[Flight[E, R]], Awaitable[None]]) -> Flight[E, R]:
        """Starts `work` as a new flight; no key means that nobody can join.

        The work settles the flight; what it does afterwards, such as storing the answer, keeps the key taken.
        """
        flight: Flight[E, R] = Flight(self.linger)
        if key:
            self.flights[key] = flight

        async def run() -> None:
            try:
                await work(flight)
            except asyncio.CancelledError:
                flight.fail(Unreachable("ABANDONED", "The work was given up; ask again.", retry_after=0.0))
                raise
            except Exception as error:
                flight.fail(error)
            finally:
                if key and self.flights.get(key) is flight:
                    del self.flights[key]
                flight.fail(Unreachable("ABANDONED", "The work ended without an outcome; ask again."))

        flight.task = self.background.start(run(), "flight")
        return flight
