"""Fair threads: shares take turns."""

from __future__ import annotations

import asyncio
import threading

import pytest

from askonce import telemetry
from askonce.fair import FairExecutor, FullError, share


def submit_as(threads: FairExecutor, whose: str, order: list[str]) -> None:
    """Submits one piece of work under a share."""
    token = share.set(whose)
    threads.submit(order.append, whose)
    share.reset(token)


def test_shares_take_turns() -> None:
    """Whoever comes after a long queue of another share waits for one piece of it, not for all."""
    threads, order, gate = FairExecutor(1, "test"), list[str](), threading.Event()
    threads.submit(gate.wait, 10)
    for _ in range(50):
        submit_as(threads, "loud", order)
    for _ in range(2):
        submit_as(threads, "quiet", order)
    gate.set()
    threads.shutdown()
    assert len(order) == 52
    assert [at for at, whose in enumerate(order) if whose == "quiet"] == [1, 3]


def test_one_share_is_bounded_and_does_not_shut_out_others() -> None:
    """A share that fills its own places is refused more, while another is taken in."""
    threads, gate = FairExecutor(1, "test", waiting=10, each=3), threading.Event()
    threads.submit(gate.wait, 10)
    order: list[str] = []
    while len(threads.queue) != 0:
        pass
    for _ in range(3):
        submit_as(threads, "loud", order)
    with pytest.raises(FullError):
        submit_as(threads, "loud", order)
    submit_as(threads, "quiet", order)
    gate.set()
    threads.shutdown()
    assert sorted(order) == ["loud", "loud", "loud", "quiet"]


async def test_the_context_names_the_share() -> None:
    """`run_in_executor` submits under the share of the task that calls it."""
    threads, order, gate = FairExecutor(1, "test"), list[str](), threading.Event()
    loop = asyncio.get_running_loop()
    blocker = loop.run_in_executor(threads, gate.wait, 10)

    async def ask(whose: str) -> None:
        share.set(whose)
        await loop.run_in_executor(threads, order.append, whose)

    tasks = [asyncio.create_task(ask("loud")) for _ in range(5)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(ask("quiet")))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(blocker, *tasks)
    await asyncio.to_thread(threads.shutdown)
    assert order.index("quiet") <= 1


def test_dropped_work_says_so() -> None:
    """A shutdown that drops what waits cancels its futures."""
    threads, gate = FairExecutor(1, "test"), threading.Event()
    first = threads.submit(gate.wait, 10)
    second = threads.submit(int)
    while not first.running():
        pass
    threads.shutdown(wait=False, cancel_futures=True)
    gate.set()
    assert second.cancelled()
    assert first.result(10)


async def test_work_runs_in_the_callers_context() -> None:
    """What a request sets, such as its id, is read by the work that it hands to a thread."""
    executor = FairExecutor(1, "context")
    try:
        with telemetry.request("abc"):
            found = await asyncio.get_running_loop().run_in_executor(executor, telemetry.request_id)
    finally:
        await asyncio.to_thread(executor.shutdown)
    assert found == "abc"
