"""Several servers of one model: which to ask next, which to leave alone, how often to try again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from askonce import rendezvous
from inference_service.engine import BadAskError, EngineBusyError, EngineError, EngineUnavailableError


@dataclass(slots=True, eq=False)
class Upstream:
    """One server."""

    url: str
    running: int = 0
    """Requests that it is answering for us."""
    last_used: float = 0.0
    reachable: bool = True
    """Whether its last probe went well."""
    trouble: str = ""
    """Why it gets no requests until a trial goes well: a reason such as UPSTREAM_MISCONFIGURED; empty for none."""
    model: str = ""
    """The model that it lists, and behind it what that name stands for where it says so."""
    root: str = ""

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return self.url


class RetryBudget:
    """Limits retries to a share of requests, so that trouble upstream is not multiplied.

    Every request adds `share` to the budget and every retry takes 1 from it; it never holds more than `most`.
    """

    def __init__(self, share: float, most: float = 10.0) -> None:
        self.share, self.most, self.left = share, most, most

    def earn(self) -> None:
        """Counts a request."""
        self.left = min(self.most, self.left + self.share)

    def spend(self) -> bool:
        """Takes one retry, if there is one."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


def is_late(error: BaseException) -> bool:
    """Whether a request failed because of its own deadline."""
    return isinstance(error, EngineError) and error.reason == "DEADLINE_EXCEEDED"


class Upstreams:
    """The pool. An image's requests go to the server that has seen it before, while that one is not overloaded.

    Each server has a circuit breaker (purgatory). One that is in trouble, such as one that drops images, gets nothing
    until a trial of it goes well.
    """

    def __init__(
        self,
        urls: Collection[str],
        threshold: int,
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = [Upstream(url) for url in urls]
        self.ttl, self.clock = ttl, clock
        # A client that leaves or waits too briefly, a wrong request and a busy server say nothing about its health.
        self.breakers = AsyncCircuitBreakerFactory(
            threshold,
            ttl,
            exclude=[asyncio.CancelledError, GeneratorExit, BadAskError, EngineBusyError, (EngineError, is_late)],
        )
        self.opened: dict[str, float] = {}

    def choose(self, tried: Collection[str], key: bytes = b"") -> Upstream:
        """The server to ask next; `key` is the image's digest, empty for work without one.

        Servers are taken in the order of their weights for the key, leaving out the overloaded; without a key the
        least loaded is taken. Raises EngineUnavailableError when none is left that may be asked.
        """
        now = self.clock()
        free = [each for each in self.members if each.url not in tried and self._takes(each, now)]
        if not free:
            if (troubles := {each.trouble for each in self.members}) and "" not in troubles:
                raise EngineUnavailableError(min(troubles), "every upstream needs its operator", self.ttl)
            wait = max(0.0, min((until - now for until in self.opened.values()), default=0.0))
            raise EngineUnavailableError("UPSTREAM_CIRCUIT_OPEN", "no upstream takes requests now", wait or 1.0)
        reachable = [each for each in free if each.reachable] or free
        if key:
            return rendezvous.choose(reachable, key)
        return min(reachable, key=lambda each: (each.running, each.last_used))

    @asynccontextmanager
    async def using(self, upstream: Upstream) -> AsyncIterator[None]:
        """Counts a request and feeds its outcome to the breaker. Raises EngineUnavailableError when that is open."""
        breaker = await self.breakers.get_breaker(upstream.url)
        upstream.running += 1
        upstream.last_used = self.clock()
        try:
            async with breaker:
                yield
        except OpenedState as error:
            self.opened[upstream.url] = self.clock() + self.ttl
            raise EngineUnavailableError("UPSTREAM_CIRCUIT_OPEN", "the upstream's circuit is open", self.ttl) from error
        finally:
            upstream.running -= 1
            if breaker.context.state == "opened":
                self.opened.setdefault(upstream.url, self.clock() + self.ttl)
            else:
                self.opened.pop(upstream.url, None)

    def available(self) -> bool:
        """Whether any server was reachable at its last probe and takes requests."""
        now = self.clock()
        return any(each.reachable and self._takes(each, now) for each in self.members)

    def _takes(self, upstream: Upstream, now: float) -> bool:
        return not upstream.trouble and now >= self.opened.get(upstream.url, 0.0)
