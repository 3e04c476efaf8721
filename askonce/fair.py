"""Worker threads that serve every tenant in turn, however much one of them asks for."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

share: contextvars.ContextVar[str] = contextvars.ContextVar("askonce_share", default="")
"""Whose work is submitted: usually the tenant. Work of one share runs in order, shares take turns."""


class FullError(Exception):
    """Too much waits already, of this share or of all together."""


class FairQueue(Generic[T]):
    """A queue that shares take turns at: first in, first out within each. Not safe for threads."""

    def __init__(self) -> None:
        self.queues: OrderedDict[str, deque[T]] = OrderedDict()
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def waiting(self, whose: str) -> int:
        """How much of one share waits."""
        return len(self.queues.get(whose, ()))

    def append(self, whose: str, item: T) -> None:
        """Puts an item behind those of its share."""
        self.queues.setdefault(whose, deque()).append(item)
        self.count += 1

    def popleft(self) -> T:
        """Takes the next item of the share whose turn it is. Raises IndexError when there is none."""
        if not self.queues:
            raise IndexError("empty")
        whose, queue = next(iter(self.queues.items()))
        item = queue.popleft()
        self.count -= 1
        if queue:
            self.queues.move_to_end(whose)
        else:
            del self.queues[whose]
        return item

    def remove(self, whose: str, item: T) -> bool:
        """Takes an item out; says whether it was there."""
        queue = self.queues.get(whose)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        self.count -= 1
        if not queue:
            del self.queues[whose]
        return True

    def surplus(self, whose: str) -> T | None:
        """Takes the newest item of the longest share out, if that has more waiting than this share would have with one
        more: room for those who have less."""
        longest = max(self.queues, key=lambda each: len(self.queues[each]), default=None)
        if longest is None or self.waiting(longest) <= self.waiting(whose) + 1:
            return None
        self.count -= 1
        return self.queues[longest].pop()

    def clear(self) -> list[T]:
        """Takes everything out."""
        items = [item for queue in self.queues.values() for item in queue]
        self.queues.clear()
        self.count = 0
        return items


class Work(Future[T]):
    """The future of one piece of work. Cancelling it while it runs tells the work so, see `abandoned`."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()

    def cancel(self) -> bool:
        """Drops the work if it has not begun; otherwise nobody waits for it any more."""
        self.given_up.set()
        return super().cancel()


async def in_threads(executor: Executor, call: Callable[[], T]) -> T:
    """Runs work of the processor, or that blocks, in an executor's threads. Raises what it raises."""
    return await asyncio.get_running_loop().run_in_executor(executor, call)


class Running(threading.local):
    """What a thread is working on."""

    work: Work[Any] | None = None


running = Running()


def abandoned() -> bool:
    """Whether nobody waits any more for what the present thread is working on."""
    return running.work is not None and running.work.given_up.is_set()


class FairExecutor(Executor):
    """An executor whose waiting work is taken share by share. The share is read from the context at `submit`, so that
    `loop.run_in_executor` passes it on."""

    def __init__(self, threads: int, name: str, *, waiting: int = 512, each: int = 128) -> None:
        """`waiting` bounds the work that waits, `each` that of one share. `submit` raises FullError beyond them."""
        if threads < 1:
            raise ValueError(f"{name}: at least 1 worker is needed, not {threads}")
        self.limit = waiting
        self.each = each
        self.queue: FairQueue[tuple[Work[Any], Callable[[], Any]]] = FairQueue()
        self.changed = threading.Condition()
        self.closing = False
        self.threads = [
            threading.Thread(target=self.run, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call under the share of the present context, which it runs in: logs and traces belong to the same
        request. Raises FullError, RuntimeError after the end."""
        work: Work[T] = Work()
        whose, context = share.get(), contextvars.copy_context()
        with self.changed:
            if self.closing:
                raise RuntimeError("the threads have ended")
            if len(self.queue) >= self.limit or self.queue.waiting(whose) >= self.each:
                raise FullError(whose)
            self.queue.append(whose, (work, lambda: context.run(fn, *args, **kwargs)))
            self.changed.notify()
        return work

    def take(self) -> tuple[Work[Any], Callable[[], Any]] | None:
        """The next piece of the share whose turn it is; None at the end."""
        with self.changed:
            while True:
                while not self.queue:
                    if self.closing:
                        return None
                    self.changed.wait()
                work, call = self.queue.popleft()
                if work.set_running_or_notify_cancel():
                    return work, call

    def run(self) -> None:
        """One thread."""
        while (taken := self.take()) is not None:
            work, call = taken
            running.work = work
            try:
                value = call()
            except BaseException as error:
                work.set_exception(error)
            else:
                work.set_result(value)
            finally:
                running.work = None
                del work, call, taken

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more work and finishes, or with `cancel_futures` drops, what waits."""
        with self.changed:
            self.closing = True
            dropped = self.queue.clear() if cancel_futures else []
            self.changed.notify_all()
        for work, _ in dropped:
            work.cancel()
        if wait:
            for thread in self.threads:
                thread.join()
