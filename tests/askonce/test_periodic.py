"""What is done again and again goes on after a failure, says so once, and ends when it is told to."""

from __future__ import annotations

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from askonce.periodic import PeriodicTask, PeriodicThread


class Step:
    """A step that fails for a while, and counts."""

    def __init__(self, failures: int, after: float | None = None) -> None:
        self.failures = failures
        self.after = after
        self.calls = 0
        self.reached = threading.Event()

    def __call__(self) -> float | None:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError("away")
        if self.calls > self.failures + 2:
            self.reached.set()
        return self.after

    async def awaited(self) -> float | None:
        return self()


def test_a_thread_outlives_failures() -> None:
    """Failing steps are tried again; trouble and its end are logged once each; stopping ends the thread."""
    step = Step(3)
    with capture_logs() as logs:
        periodic = PeriodicThread("sweeping", step, 0.001)
        periodic.start()
        assert step.reached.wait(30)
        periodic.stop()
        periodic.stop()
    assert [(line["event"], line["task"]) for line in logs] == [
        ("step_failed", "sweeping"),
        ("step_recovered", "sweeping"),
    ]
    assert not periodic.thread.is_alive()
    assert periodic.problem == ""


def test_a_thread_says_what_is_wrong() -> None:
    """While steps fail, `problem` is the last error."""
    failed = threading.Event()

    def step() -> None:
        failed.set()
        raise OSError("no space left")

    periodic = PeriodicThread("writing", step, 0.001)
    assert periodic.problem == ""
    with capture_logs():
        periodic.start()
        assert failed.wait(30)
        periodic.stop()
    assert periodic.problem == "OSError: no space left"


def test_a_thread_that_is_gone_is_a_problem() -> None:
    """A thread that ended without being told to is reported."""
    periodic = PeriodicThread("dying", lambda: None, 0.001)
    periodic.run = lambda: None  # type: ignore[method-assign]
    periodic.thread = threading.Thread(target=periodic.run)
    periodic.start()
    periodic.thread.join(30)
    assert periodic.problem == "the thread has ended"


def test_a_step_sets_its_own_pace() -> None:
    """A step that returns a delay is followed after it, not after the interval."""
    step = Step(0, after=0.0)
    periodic = PeriodicThread("hurrying", step, 3600.0)
    periodic.stopping.wait = lambda seconds: periodic.stopping.is_set() or pace.append(seconds) or False  # type: ignore
    pace: list[float] = []
    periodic.start()
    assert step.reached.wait(30)
    periodic.stopping.set()
    periodic.thread.join(30)
    assert pace[:2] == [3600.0, 0.0]


async def test_a_task_outlives_failures() -> None:
    """The same of a task; starting twice runs one task; stopping twice is safe."""
    step = Step(3)
    periodic = PeriodicTask("sweeping", step.awaited, 0.001)
    with capture_logs() as logs:
        await periodic.start()
        task = periodic.task
        await periodic.start()
        assert periodic.task is task
        async with asyncio.timeout(30):
            while not step.reached.is_set():
                await asyncio.sleep(0.001)
        await periodic.stop()
        await periodic.stop()
    assert [line["event"] for line in logs] == ["step_failed", "step_recovered"]


@pytest.mark.parametrize("kind", [PeriodicThread, PeriodicTask])
def test_never_started_is_no_problem(kind: type[PeriodicThread] | type[PeriodicTask]) -> None:
    """What was never started is not reported."""
    assert kind("idle", lambda: None, 1.0).problem == ""  # type: ignore[arg-type, return-value]
