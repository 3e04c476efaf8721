"""Work that outlives its request is tracked, bounded, and finished before the end."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from gateway.background import Background
from tests.gateway.doubles import IMAGE, running


async def test_stop_waits_for_answers_on_their_way_into_memory() -> None:
    """An answer given just before the end is stored before the gateway ends."""
    async with running() as system:
        system.memory.remember_gate.clear()
        await system.ask(IMAGE)
        asyncio.get_running_loop().call_later(0.2, system.memory.remember_gate.set)
    assert len(system.memory.remembered) == 1


async def test_bound_is_told() -> None:
    """A full set of tasks says so, and takes on again once one has ended."""
    background, gate = Background(1), asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    task = background.start(wait(), "wait")
    assert background.full
    gate.set()
    await task
    await asyncio.sleep(0)
    assert not background.full


async def test_what_fails_in_the_background_is_logged() -> None:
    """An exception that nobody waits for is in the log."""
    background = Background(1)

    async def fail() -> None:
        raise RuntimeError("bug")

    with capture_logs() as logs:
        await asyncio.wait({background.start(fail(), "storing")})
        await asyncio.sleep(0)
    assert [(each["event"], each["task"]) for each in logs] == [("background_failed", "storing")]


async def test_drain_cuts_what_never_ends() -> None:
    """The end waits so long and no longer; what is cut is counted."""
    background = Background(2)
    background.start(asyncio.sleep(1_000), "never")
    assert await background.drain(0.01) == 1
    assert not background.tasks
