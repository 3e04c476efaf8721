"""Worker threads that serve every tenant in turn, however much one of them asks for."""

from __future__ import annotations

import contextvars
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

share: contextvars.ContextVar[str] = contextvars.ContextVar("askonce_share", default="")
"""Whose work is submitted: usually the tenant. Work of one share runs in order, shares take turns."""


class FullError(Exception):
    """Too much waits already, of this share or of all together."""


class Work(Future[T]):
    """The future of one piece of work. Cancelling it while it runs tells the work so, see `abandoned`."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()

    def cancel(self) -> bool:
        """Drops the work if it has not begun; otherwise nobody waits for it any more."""
        self.given_up.set()
        return super().cancel()


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
        self.limit = waiting
        self.each = each
        self.queues: OrderedDict[str, deque[tuple[Work[Any], Callable[[], Any]]]] = OrderedDict()
        self.count = 0
        self.changed = threading.Condition()
        self.closing = False
        self.threads = [
            threading.Thread(target=self.run, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call under the share of the present context. Raises FullError, RuntimeError after the end."""
        work: Work[T] = Work()
        whose = share.get()
        with self.changed:
            if self.closing:
                raise RuntimeError("the threads have ended")
            queue = self.queues.get(whose)
            if self.count >= self.limit or (queue is not None and len(queue) >= self.each):
                raise FullError(whose)
            if queue is None:
                queue = self.queues[whose] = deque()
            queue.append((work, lambda: fn(*args, **kwargs)))
            self.count += 1
            self.changed.notify()
        return work

    def take(self) -> tuple[Work[Any], Callable[[], Any]] | None:
        """The next piece of the share whose turn it is; None at the end."""
        with self.changed:
            while True:
                while not self.queues:
                    if self.closing:
                        return None
                    self.changed.wait()
                whose, queue = next(iter(self.queues.items()))
                work, call = queue.popleft()
                self.count -= 1
                if queue:
                    self.queues.move_to_end(whose)
                else:
                    del self.queues[whose]
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
            dropped = [work for queue in self.queues.values() for work, _ in queue] if cancel_futures else []
            if cancel_futures:
                self.queues.clear()
                self.count = 0
            self.changed.notify_all()
        for work in dropped:
            work.cancel()
        if wait:
            for thread in self.threads:
                thread.join()
