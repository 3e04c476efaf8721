"""Work that is done again and again in the background: in a thread when it blocks, in a task when it awaits.

A step that fails is logged once when trouble begins and once when it is over, and is tried again at its next time; only
being stopped ends the series.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger("periodic")
FAILED_SECONDS = 1.0
"""How long a series without an interval, whose steps wait by themselves, rests after one that failed."""
CANCEL_SECONDS = 0.2
"""How long a task that was told to end has before it is told again."""
JOIN_SECONDS = 30.0
"""How long a stop waits for the step under way."""


class _Trouble:
    """Says when steps begin to fail and when they work again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem = ""

    def fine(self) -> None:
        if self.problem:
            log.info("step_recovered", task=self.name)
        self.problem = ""

    def failed(self, error: Exception) -> None:
        if not self.problem:
            log.warning("step_failed", task=self.name, exception="".join(traceback.format_exception(error)))
        self.problem = f"{type(error).__name__}: {error}"


class PeriodicThread:
    """Runs a blocking step every `interval` seconds in a thread of its own.

    A step may return the seconds until the next one, None for the interval. `problem` is what the last step raised,
    empty when it went well.
    """

    def __init__(self, name: str, step: Callable[[], float | None], interval: float) -> None:
        self.name = name
        self.step = step
        self.interval = interval
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name=name, daemon=True)
        self.trouble = _Trouble(name)

    @property
    def problem(self) -> str:
        """What is wrong now: the last step's error, or that the thread is gone; empty for nothing."""
        if not self.stopping.is_set() and self.thread.ident is not None and not self.thread.is_alive():
            return "the thread has ended"
        return self.trouble.problem

    def start(self) -> None:
        """Starts the thread. The first step comes after one interval."""
        self.thread.start()

    def stop(self) -> None:
        """Stops after the step under way, for which it waits 30 s at most. Safe to repeat."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join(JOIN_SECONDS)

    def run(self) -> None:
        """The thread: steps until it is stopped."""
        delay: float | None = self.interval
        while not self.stopping.wait(self.interval if delay is None else delay):
            delay = None
            try:
                delay = self.step()
                self.trouble.fine()
            except Exception as error:  # whatever the step's vendor raises
                self.trouble.failed(error)
                delay = self.interval or FAILED_SECONDS


class PeriodicTask:
    """Awaits a step every `interval` seconds in a task of the running loop; otherwise as `PeriodicThread`."""

    def __init__(self, name: str, step: Callable[[], Awaitable[float | None]], interval: float) -> None:
        self.name = name
        self.step = step
        self.interval = interval
        self.task: asyncio.Task[None] | None = None
        self.trouble = _Trouble(name)

    @property
    def problem(self) -> str:
        """What is wrong now: the last step's error, or that the task is gone; empty for nothing."""
        return "the task has ended" if self.task is not None and self.task.done() else self.trouble.problem

    async def start(self) -> None:
        """Starts the task. The first step comes after one interval."""
        if self.task is None:
            self.task = asyncio.create_task(self.run(), name=self.name)

    async def stop(self) -> None:
        """Cuts the step under way off, and asks again where a library lost the request on its way (`asyncio.wait_for`
        does so before Python 3.12). Safe to repeat."""
        task, self.task = self.task, None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)

    async def run(self) -> None:
        """The task: steps until it is cancelled."""
        delay: float | None = self.interval
        while True:
            await asyncio.sleep(self.interval if delay is None else delay)
            delay = None
            try:
                delay = await self.step()
                self.trouble.fine()
            except Exception as error:  # whatever the step's vendor raises
                self.trouble.failed(error)
                delay = self.interval or FAILED_SECONDS
