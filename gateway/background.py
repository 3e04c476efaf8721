"""Work that outlives its request: tracked, bounded, and finished before the process ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog


class Background:
    """A set of tasks that is waited for at the end."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tasks: set[asyncio.Task[Any]] = set()
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger(service="gateway")

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Runs `work` in a task of its own. An exception that it raises is logged, never lost."""
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.finished)
        return task

    @property
    def full(self) -> bool:
        """Whether the limit is reached: the caller should then do its work itself."""
        return len(self.tasks) >= self.limit

    def finished(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("background_failed", task=task.get_name(), exc_info=error)

    async def drain(self, timeout: float) -> int:
        """Waits for the tasks, and those that they start, up to `timeout` seconds; cancels the rest and counts it."""
        until = time.monotonic() + timeout
        while self.tasks and (left := until - time.monotonic()) > 0:
            await asyncio.wait(set(self.tasks), timeout=left)
        late = set(self.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
            self.log.warning("background_cut", count=len(late))
        return len(late)
