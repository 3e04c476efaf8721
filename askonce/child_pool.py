"""Runs code that may crash, hang or eat memory in child processes, so that only a child is lost.

Libraries in C that read clients' bytes (image decoders, tokenizers, text recognition) belong here. A pool keeps some
children, each of which holds one object and runs one of its methods at a time. A child that dies or takes too long is
replaced, at once and then at growing intervals; the log names the digest of the input that did it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import prometheus_client
import structlog

from askonce.child import LENGTH, pack, receive
from askonce.fair import abandoned as nobody_waits

ENDS = prometheus_client.Counter("askonce_child_ends_total", "Child processes that ended.", ["pool", "cause"])
READY = prometheus_client.Gauge("askonce_children_ready", "Child processes that are ready for work.", ["pool"])

FIRST_PAUSE, LAST_PAUSE = 0.05, 10.0
"""Seconds before a dead child is replaced: at first, doubled with every death up to the last."""
CALM = 30.0
"""Seconds without a death after which the pause is back at the first."""
CONDEMNED = 1_024
"""Most inputs remembered for having ended a child."""
SENTENCE = 600.0
"""Seconds for which such an input is refused without being tried."""
SLICE = 0.1
"""How often a running call looks whether somebody still waits for it."""
TRIES = 3
"""How often a call is tried whose child was killed from outside."""
FOREIGN = ("SIGKILL", "SIGTERM")
"""Ends that somebody else brought about: the input is not to blame."""

Cause = Literal["DIED", "OVERRAN", "CONDEMNED", "DOWN", "ABANDONED"]
log = structlog.get_logger("child_pool")


class ChildError(Exception):
    """A call was not carried out.

    `cause`: DIED (children ended over it), OVERRAN (it took longer than its limit), CONDEMNED (this input
    ended a child a moment ago), DOWN (no child is ready), ABANDONED (nobody waited any more). `digest` names the input.
    """

    def __init__(self, pool: str, cause: Cause, digest: str = "") -> None:
        super().__init__(f"{pool}: {cause} {digest}".rstrip())
        self.pool = pool
        self.cause = cause
        self.digest = digest


class OpeningError(RuntimeError):
    """A child could not make its object. `__cause__` is the error that it named."""


class GivenUpError(Exception):
    """Nobody waits for the call under way."""


@dataclass(eq=False)
class Child:
    """One child process."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    key: str = ""
    """What it was last called with: it may still hold something of it."""


class ChildPool:
    """Children that hold the same object. Calls block: make them from threads."""

    def __init__(
        self,
        name: str,
        target: str,
        arguments: tuple[object, ...] = (),
        *,
        size: int = 1,
        limit: float = 10.0,
        opening: float = 120.0,
        memory: int | None = None,
        abandon: float | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`target` is "module:callable", which a child calls with `arguments` to make its object. `limit` bounds a
        call and `opening` the making, in seconds; `memory` the bytes of a child's own data. Where `abandon` is given,
        a call for which nobody waits any more is ended, with its child, once it has run for so many seconds: right
        where a call may take far longer than a new child. `environ` adds variables."""
        if size < 1:
            raise ValueError(f"{name}: at least 1 worker is needed, not {size}")
        self.name = name
        self.opening_message = pack((target, arguments, memory))
        self.size = size
        self.limit = limit
        self.opening = opening
        self.abandon = abandon
        self.environ = dict(environ or {})
        self.free: list[Child] = []
        self.alive: set[Child] = set()
        self.changed = threading.Condition()
        self.begun = False
        self.closing = False
        self.described: Any = None
        self.problem: Exception | None = None
        self.pause = FIRST_PAUSE
        self.last_death = 0.0
        self.condemned: dict[str, float] = {}
        self.keeper = threading.Thread(target=self.keep, name=f"children-{name}", daemon=True)

    def start(self) -> Any:
        """Starts the children and waits for the first. Returns what its object says of itself (`describe`, if it has
        such a method). Raises OpeningError."""
        self.begin()
        with self.changed:
            self.changed.wait_for(lambda: self.free or self.problem, self.opening)
            if self.free:
                return self.described
            problem = self.problem
        self.close()
        raise OpeningError(f"{self.name}: {problem or 'not ready in time'}") from problem

    def begin(self) -> None:
        """Starts the children and waits for none. A first call does it too."""
        with self.changed:
            if not self.begun and not self.closing:
                self.begun = True
                self.keeper.start()

    def call(self, method: str, *arguments: object, limit: float | None = None, key: str = "") -> Any:
        """Has a child run a method of its object; returns what it returns and raises what it raises.

        A call whose child dies is tried once more on another, twice more where somebody killed the child. `limit`
        replaces the pool's; `key` prefers a child that was last called with the same. Raises ChildError.
        """
        message = pack((method, arguments))
        digest = hashlib.sha256(memoryview(message)[LENGTH.size :]).hexdigest()[:16]
        if self.condemned.get(digest, 0.0) > time.monotonic():
            raise ChildError(self.name, "CONDEMNED", digest)
        seconds = self.limit if limit is None else limit
        self.begin()
        guilty = tries = 0
        while True:
            child = self.take(key, seconds, digest)
            try:
                fine, value = self.exchange(child, message, seconds)
            except (EOFError, OSError, GivenUpError, pickle.UnpicklingError) as error:
                cause = cause_of(error)
                status = self.bury(child, cause, digest, method)
                tries, guilty = tries + 1, guilty + (status not in FOREIGN)
                if cause == "DIED" and guilty < 2 and tries < TRIES:
                    continue
                if cause == "OVERRAN" or guilty:
                    self.condemn(digest)
                raise ChildError(self.name, cause, digest) from None
            except BaseException:
                self.bury(child, "ABANDONED", digest, method)
                raise
            child.key = key
            with self.changed:
                self.free.append(child)
                self.changed.notify_all()
            if fine:
                return value
            raise value

    def ready(self) -> int:
        """Children that are up, at work or free."""
        return len(self.alive)

    def failing(self) -> bool:
        """Whether there is no child, and the last attempt to start one failed."""
        return not self.alive and self.problem is not None

    def close(self) -> None:
        """Ends the children after the calls under way. Safe to call twice."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        if self.keeper.is_alive() and self.keeper is not threading.current_thread():
            self.keeper.join(self.limit + 5.0)
        for child in list(self.alive):
            self.end(child)

    # The parts of a call

    def take(self, key: str, patience: float, digest: str) -> Child:
        """A free child, one that was last called with `key` if there is one."""
        with self.changed:
            self.changed.wait_for(lambda: self.free or self.closing, patience)
            if not self.free or self.closing:
                raise ChildError(self.name, "DOWN", digest)
            at = next((at for at, child in enumerate(self.free) if key and child.key == key), len(self.free) - 1)
            return self.free.pop(at)

    def exchange(self, child: Child, message: bytes, seconds: float) -> tuple[bool, Any]:
        """Sends a call and waits for its outcome."""
        begun = time.monotonic()
        deadline = begun + seconds
        child.connection.settimeout(seconds)
        child.connection.sendall(message)
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError
            if self.abandon is not None and now - begun >= self.abandon and nobody_waits():
                raise GivenUpError
            child.connection.settimeout(min(SLICE, deadline - now))
            try:
                if not child.connection.recv(1, socket.MSG_PEEK):
                    raise EOFError
            except TimeoutError:
                continue
            fine, value = receive(child.connection, deadline)
            return bool(fine), value

    def bury(self, child: Child, cause: Cause, digest: str, method: str) -> str:
        """Ends a child that is dead or has to die, says so, and has it replaced. Returns how it ended."""
        status = self.end(child)
        ENDS.labels(self.name, cause).inc()
        log.error("child_ended", pool=self.name, cause=cause, status=status, method=method, input=digest)
        with self.changed:
            now = time.monotonic()
            if cause != "ABANDONED":
                self.pause = FIRST_PAUSE if now - self.last_death > CALM else min(LAST_PAUSE, 2 * self.pause)
                self.last_death = now
            self.changed.notify_all()
        return status

    def end(self, child: Child) -> str:
        """Kills a child and waits for its end; returns how it ended."""
        child.connection.close()
        child.process.kill()
        status = child.process.wait()
        with self.changed:
            self.alive.discard(child)
            if child in self.free:
                self.free.remove(child)
            READY.labels(self.name).set(len(self.alive))
        return signal.Signals(-status).name if status < 0 else str(status)

    def condemn(self, digest: str) -> None:
        """Remembers an input that ended a child."""
        with self.changed:
            while len(self.condemned) >= CONDEMNED:
                del self.condemned[next(iter(self.condemned))]
            self.condemned[digest] = time.monotonic() + SENTENCE

    # The keeper's thread, from which all children are started: they end with it

    def keep(self) -> None:
        """Keeps the number of children up until the pool is closed."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closing or len(self.alive) < self.size, 1.0)
                if self.closing:
                    break
                missing = self.size - len(self.alive)
                wait = self.last_death + self.pause - time.monotonic() if self.last_death else 0.0
                if missing and wait > 0 and self.changed.wait_for(lambda: self.closing, wait):
                    break
            self.reap()
            if missing:
                self.grow(missing)
        for child in list(self.free):
            self.end(child)

    def reap(self) -> None:
        """Notices children that died while they had nothing to do."""
        for child in list(self.free):
            if child.process.poll() is not None:
                with self.changed:
                    if child not in self.free:
                        continue
                    self.free.remove(child)
                self.bury(child, "DIED", "", "")

    def grow(self, count: int) -> None:
        """Starts children, side by side."""
        begun = []
        for _ in range(count):
            try:
                begun.append(self.launch())
            except OSError as error:
                self.fail(error)
        deadline = time.monotonic() + self.opening
        for child in begun:
            try:
                child.connection.settimeout(self.opening)
                child.connection.sendall(self.opening_message)
                fine, value = receive(child.connection, deadline)
                if not fine:
                    raise value
            except Exception as error:  # whatever making the object raised
                self.end(child)
                self.fail(error)
                continue
            with self.changed:
                self.described = value
                self.problem = None
                self.alive.add(child)
                self.free.append(child)
                READY.labels(self.name).set(len(self.alive))
                self.changed.notify_all()

    def launch(self) -> Child:
        """Starts one process."""
        near, far = socket.socketpair()
        command = [sys.executable, "-m", "askonce.child", str(far.fileno()), str(os.getpid()), self.name]
        paths = os.pathsep.join(path for path in sys.path if path)
        with far:
            process = subprocess.Popen(
                command,
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is the parent's to handle
                env={**os.environ, "PYTHONPATH": paths, **self.environ},
            )
        return Child(process, near)

    def fail(self, error: Exception) -> None:
        """Notes that a child did not come up."""
        log.error("child_not_started", pool=self.name, error=f"{type(error).__name__}: {error}")
        ENDS.labels(self.name, "NOT_STARTED").inc()
        with self.changed:
            self.problem = error
            self.pause = min(LAST_PAUSE, 2 * self.pause)
            self.last_death = time.monotonic()
            self.changed.notify_all()


def cause_of(error: Exception) -> Cause:
    """Why a call was not carried out."""
    if isinstance(error, GivenUpError):
        return "ABANDONED"
    return "OVERRAN" if isinstance(error, TimeoutError) else "DIED"
