"""Several servers of one model: which to ask next, which to leave alone, how often to try again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

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
    """The pool: asks the least loaded server whose circuit is not open; each has a circuit breaker (purgatory)."""

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

    def choose(self, tried: Collection[str]) -> Upstream:
        """The server to ask next. Raises EngineUnavailableError when none is left whose circuit is closed."""
        now = self.clock()
        free = [each for each in self.members if each.url not in tried and now >= self.opened.get(each.url, 0.0)]
        if not free:
            wait = max(0.0, min((until - now for until in self.opened.values()), default=0.0))
            raise EngineUnavailableError("UPSTREAM_CIRCUIT_OPEN", "no upstream takes requests now", wait or 1.0)
        return min(free, key=lambda each: (not each.reachable, each.running, each.last_used))

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
        return any(each.reachable and now >= self.opened.get(each.url, 0.0) for each in self.members)
