"""The bounded queue in front of an engine."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.fair import share
from inference_service.admission import UNMEASURED, Admission
from inference_service.engine import EngineBusyError


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def hold(admission: Admission, release: asyncio.Event, background: bool = False) -> float:
    """Takes a place and keeps it until released."""
    async with admission.place(background=background) as wait:
        await release.wait()
        return wait


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_run_than_the_engine_takes_and_the_rest_waits_in_order() -> None:
    """Places are handed over in the order of arrival."""
    admission, order = Admission(2, 10), list[int]()

    async def work(number: int) -> None:
        async with admission.place():
            order.append(number)
            assert admission.running <= 2
            await settle()

    await asyncio.gather(*(work(number) for number in range(6)))
    assert order == list(range(6))
    assert (admission.running, admission.queued) == (0, 0)


async def test_a_full_queue_says_no_at_once_and_when_to_come_back() -> None:
    """Beyond the limit a request is refused with QUEUE_FULL and the wait that throughput promises."""
    clock = Clock()
    admission, release = Admission(1, 1, clock), asyncio.Event()
    async with admission.place():
        clock.now += 2.0
    tasks = [asyncio.create_task(hold(admission, release)) for _ in range(2)]
    await settle()
    with pytest.raises(EngineBusyError) as refused:
        async with admission.place():
            pass
    assert refused.value.reason == "QUEUE_FULL"
    assert refused.value.retry_after == pytest.approx(4.0)  # two ahead of it at two seconds each
    release.set()
    await asyncio.gather(*tasks)


async def test_a_wait_longer_than_the_deadline_is_refused_early() -> None:
    """QUEUE_TOO_SLOW tells at once what waiting would tell too late."""
    clock = Clock()
    admission, release = Admission(1, 5, clock), asyncio.Event()
    async with admission.place():
        clock.now += 3.0
    task = asyncio.create_task(hold(admission, release))
    await settle()
    with pytest.raises(EngineBusyError) as refused:
        async with admission.place(deadline=clock.now + 1.0):
            pass
    assert refused.value.reason == "QUEUE_TOO_SLOW"
    assert admission.queued == 0
    release.set()
    await task


async def test_a_deadline_that_passes_while_waiting_ends_the_wait() -> None:
    """A caller does not wait in line beyond its deadline, and its place in the line is freed."""
    admission, release = Admission(1, 5), asyncio.Event()
    task = asyncio.create_task(hold(admission, release))
    await settle()
    with pytest.raises(EngineBusyError) as refused:
        async with admission.place(deadline=admission.clock() + 0.02):
            pass
    assert refused.value.reason == "QUEUE_TOO_SLOW"
    assert admission.queued == 0
    release.set()
    await task
    assert admission.running == 0


async def test_background_work_runs_only_when_nothing_else_does() -> None:
    """Background work is refused while anything runs, and does not hold interactive work up once it runs."""
    admission, release = Admission(2, 5), asyncio.Event()
    running = asyncio.create_task(hold(admission, release))
    await settle()
    with pytest.raises(EngineBusyError) as refused:
        async with admission.place(background=True):
            pass
    assert refused.value.reason == "ENGINE_BUSY"
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= UNMEASURED
    release.set()
    await running
    async with admission.place(background=True), admission.place() as wait:
        assert wait < 1.0
    assert (admission.running, admission.background) == (0, 0)


async def test_an_error_inside_gives_the_place_back() -> None:
    """A failing engine loses no capacity."""
    admission = Admission(1, 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with admission.place():
                _ = 1 / 0
    assert admission.running == 0


@given(capacity=st.integers(1, 4), fates=st.lists(st.sampled_from(["run", "cancel", "late"]), min_size=1, max_size=25))
def test_no_place_is_ever_lost(capacity: int, fates: list[str]) -> None:
    """However callers run, give up in line, or give up in the moment in which their place comes: all places return."""

    async def play() -> None:
        admission, release = Admission(capacity, 100), asyncio.Event()
        tasks = [asyncio.create_task(hold(admission, release)) for _ in fates]
        await settle()
        for task, fate in zip(tasks, fates, strict=True):
            if fate == "cancel":
                task.cancel()
        release.set()
        for task, fate in zip(tasks, fates, strict=True):
            if fate == "late":
                await asyncio.sleep(0)
                task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        assert (admission.running, admission.queued) == (0, 0)
        async with asyncio.timeout(1), admission.place():
            pass

    asyncio.run(play())


@pytest.mark.parametrize(("capacity", "limit"), [(0, 1), (1, -1)])
def test_senseless_bounds_are_refused(capacity: int, limit: int) -> None:
    """A queue without places, or with fewer than none waiting, is a mistake of the settings."""
    with pytest.raises(ValueError, match="capacity"):
        Admission(capacity, limit)


async def test_shares_take_turns_and_give_way() -> None:
    """Of a full line the one who asks for most gives a place to one who asks for less; places go round."""
    admission, order, release = Admission(1, 4), list[str](), asyncio.Event()
    refused = list[str]()

    async def ask(whose: str) -> None:
        share.set(whose)
        try:
            async with admission.place():
                order.append(whose)
                await release.wait()
        except EngineBusyError as error:
            refused.append(f"{whose} {error.reason}")

    tasks = []
    for whose in ("loud", "loud", "loud", "loud", "loud", "loud", "quiet", "quiet"):
        tasks.append(asyncio.create_task(ask(whose)))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*tasks)
    assert sorted(refused) == ["loud QUEUE_FULL"] * 3
    assert order in (["loud", "loud", "quiet", "loud", "quiet"], ["loud", "quiet", "loud", "quiet", "loud"])
    assert admission.queued == admission.running == 0
