"""One piece of work under way that any number of requests wait for.

The first request for a key begins the flight, later ones join it: they get the events so far, then the rest, then the
same outcome, be it a value or a failure. The work runs in a task of its own, so a caller that goes away takes nothing
with it; once nobody waits any more the work lingers for a moment and is then cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from askonce.faults import Unreachable
from gateway.background import Background
from gateway.deadlines import Deadline, too_late

E = TypeVar("E")
R = TypeVar("R")


class Waiter:
    """One who waits for a flight's news until a deadline; one timer for all the waiting."""

    def __init__(self, deadline: Deadline) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] | None = None
        self.late = False
        self.timer = self.loop.call_later(max(0.0, deadline.remaining()), self.expire)

    def wake(self) -> None:
        """Ends the waiting, if there is any just now."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def expire(self) -> None:
        """The deadline is there."""
        self.late = True
        self.wake()

    async def turn(self) -> None:
        """Waits to be woken. Raises TooLate."""
        if not self.late:
            self.future = self.loop.create_future()
            await self.future
        if self.late:
            raise too_late()


class Flight(Generic[E, R]):
    """Work under way: a list of events that grows, and one outcome. `merge` makes fewer events of several that wait."""

    def __init__(self, linger: float, merge: Callable[[Sequence[E]], Sequence[E]] | None = None) -> None:
        self.linger = linger
        self.merge = merge
        self.events: list[E] = []
        self.value: R | None = None
        self.error: BaseException | None = None
        self.done = False
        self.waiters = 0
        self.abandoned = False
        self.task: asyncio.Task[None] | None = None
        self.followers: set[Waiter] = set()
        """Who waits for every event."""
        self.attendants: set[Waiter] = set()
        """Who waits for the end alone."""
        self.relays: list[Flight[E, R]] = []
        """Flights that get every event of this one, too."""
        self.parting: asyncio.TimerHandle | None = None

    def publish(self, event: E) -> None:
        """Adds an event for everybody."""
        self.events.append(event)
        for waiter in self.followers:
            waiter.wake()
        for flight in self.relays:
            flight.publish(event)

    def relay(self, flight: Flight[E, R]) -> None:
        """Gives another flight all events of this one, those so far and those to come."""
        for event in self.events:
            flight.publish(event)
        self.relays.append(flight)

    def settle(self, value: R) -> None:
        """Ends the flight with a value. The work may go on with what nobody waits for."""
        if not self.done:
            self.value, self.done = value, True
            self.conclude()

    def fail(self, error: BaseException) -> None:
        """Ends the flight with a failure."""
        if not self.done:
            self.error, self.done = error, True
            self.conclude()

    def conclude(self) -> None:
        for waiter in (*self.followers, *self.attendants):
            waiter.wake()

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

    @contextmanager
    def waiting(self, among: set[Waiter], deadline: Deadline) -> Iterator[Waiter]:
        """Waits among others for the time of the block."""
        waiter = Waiter(deadline)
        self.enter()
        among.add(waiter)
        try:
            yield waiter
        finally:
            waiter.timer.cancel()
            among.discard(waiter)
            self.leave()

    async def begun(self, deadline: Deadline) -> None:
        """Waits for the first event or the end. Raises TooLate."""
        with self.waiting(self.followers, deadline) as waiter:
            while not self.done and not self.events:
                await waiter.turn()

    async def follow(self, deadline: Deadline) -> AsyncIterator[E]:
        """Yields every event from the first on; those that came meanwhile are merged. Raises the flight's failure, and
        TooLate."""
        with self.waiting(self.followers, deadline) as waiter:
            seen = 0
            while True:
                while seen < len(self.events):
                    news = self.events[seen:]
                    seen += len(news)
                    for event in self.merge(news) if self.merge is not None and len(news) > 1 else news:
                        yield event
                if self.done:
                    break
                await waiter.turn()
        if self.error is not None:
            raise self.error

    async def outcome(self, deadline: Deadline) -> R:
        """Waits for the outcome and returns it. Raises the flight's failure, and TooLate."""
        with self.waiting(self.attendants, deadline) as waiter:
            while not self.done:
                await waiter.turn()
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


class SingleFlight(Generic[E, R]):
    """The flights under way, by key."""

    def __init__(
        self, background: Background, linger: float, merge: Callable[[Sequence[E]], Sequence[E]] | None = None
    ) -> None:
        self.background = background
        self.linger = linger
        self.merge = merge
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
        flight: Flight[E, R] = Flight(self.linger, self.merge)
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
