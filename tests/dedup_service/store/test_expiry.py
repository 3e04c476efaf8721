"""The sweeper: bounded work in each step, in the background, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from structlog.testing import capture_logs

from dedup_service.store.expiry import STALE_SECONDS, Sweeper
from dedup_service.store.records import Deleted, Memory, MemoryUnavailableError


class Dusty:
    """A store with a number of expired entries, which fails when it is told to."""

    def __init__(self, expired: int) -> None:
        self.expired = expired
        self.calls: list[tuple[float, int]] = []
        self.stale: list[float | None] = []
        self.failure: Exception | None = None

    async def sweep(self, now: float, limit: int) -> Deleted:
        self.calls.append((now, limit))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        removed = min(limit, self.expired)
        self.expired -= removed
        return Deleted(removed, removed // 2, removed // 4)

    async def delete_stale(self, dry_run: bool = False, *, expired_before: float | None = None) -> Deleted:
        assert not dry_run
        self.stale.append(expired_before)
        return Deleted(1)


def sweeper_of(dusty: Dusty, limit: int = 10, interval: float = 0.01, pause: float = 0.0) -> Sweeper:
    return Sweeper(cast("Memory", dusty), interval, limit, pause=pause, clock=lambda: 42.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not condition():
            await asyncio.sleep(0.005)


async def test_each_step_is_bounded_and_all_is_swept() -> None:
    """No step removes more than the limit, and with enough steps nothing is left; the time is the clock's."""
    dusty = Dusty(35)
    sweeper = sweeper_of(dusty)
    await sweeper.start()
    await until(lambda: dusty.expired == 0)
    await sweeper.stop()
    assert set(dusty.calls) == {(42.0, 10)}
    assert sweeper.total == Deleted(35, 17, 7)


async def test_a_full_step_is_followed_soon_and_an_idle_one_late() -> None:
    """While there is much to do the short pause counts; when all is swept the sweeper waits its interval."""
    dusty = Dusty(40)
    sweeper = sweeper_of(dusty, interval=0.5)
    await sweeper.start()
    await until(lambda: dusty.expired == 0)
    await asyncio.sleep(0.1)
    assert len(dusty.calls) == 5, "four full steps without a wait, and one that found nothing"
    await sweeper.stop()


@pytest.mark.parametrize("failure", [MemoryUnavailableError("away"), RuntimeError("a bug")])
async def test_a_failing_store_does_not_end_the_sweeper(failure: Exception) -> None:
    """After a failure it sweeps on at the next time."""
    dusty = Dusty(5)
    dusty.failure = failure
    sweeper = sweeper_of(dusty)
    with capture_logs() as logs:
        await sweeper.start()
        await until(lambda: len(dusty.calls) >= 3)
        dusty.failure = None
        await until(lambda: dusty.expired == 0)
        await sweeper.stop()
    assert [line["event"] for line in logs if line["event"] != "step_recovered"] == ["step_failed", "swept"]


async def test_it_stops_at_once_and_can_start_again() -> None:
    """Stopping ends the task even while it waits; stopping twice is safe; a second start sweeps again."""
    dusty = Dusty(5)
    sweeper = sweeper_of(dusty, interval=60.0)
    await sweeper.stop()
    await sweeper.start()
    task = sweeper.task
    await sweeper.start()
    assert sweeper.task is task
    await asyncio.wait_for(sweeper.stop(), 1.0)
    await sweeper.stop()
    assert dusty.calls == []
    sweeper.interval = 0.01
    await sweeper.start()
    await until(lambda: dusty.expired == 0)
    await sweeper.stop()


def test_a_limit_of_nothing_is_refused() -> None:
    """A sweeper that may remove nothing would run for ever and do nothing."""
    with pytest.raises(ValueError, match="limit"):
        sweeper_of(Dusty(0), limit=0)


async def test_leftovers_are_looked_for_now_and_then() -> None:
    """Once an hour, and never while there is something to sweep, the sweeper removes what other encoders left and has
    been over for as long."""
    dusty, now = Dusty(35), [0.0]
    sweeper = Sweeper(cast("Memory", dusty), 0.01, 10, pause=0.0, clock=lambda: now[0])
    now[0] = STALE_SECONDS
    await sweeper.start()
    await until(lambda: len(dusty.calls) > 8)
    assert dusty.stale == [0.0]
    assert dusty.expired == 0
    now[0] = 2.5 * STALE_SECONDS
    await until(lambda: len(dusty.stale) == 2)
    await sweeper.stop()
    assert dusty.stale == [0.0, 1.5 * STALE_SECONDS]
