"""How often a tenant may call, over a sliding window. Counts in this process, or in a Redis that all gateways share."""

from __future__ import annotations

import time
from typing import Any

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis import asyncio as redis
from redis.exceptions import RedisError

from askonce.faults import Exhausted
from askonce.redis_client import Outage
from askonce.settings import SettingsError


class Rate:
    """A limit per tenant for one kind of call."""

    def __init__(self, kind: str, limit: str, shared: redis.Redis | None = None, outage: Outage | None = None) -> None:
        """While `shared` does not answer each gateway counts for itself."""
        self.kind = kind
        self.items = read(limit)
        self.own: dict[str, list[RateLimitItem]] = {}
        self.alone = SlidingWindowCounterRateLimiter(MemoryStorage())
        self.together = None if shared is None else SlidingWindowCounterRateLimiter(storage(shared))
        self.outage = outage or Outage()

    async def take(self, tenant: str, own: str = "") -> None:
        """Counts one call of a tenant; `own` replaces the deployment's limit. Raises Exhausted."""
        if not self.items and not own:
            return
        items = self.items
        if own:
            items = self.own[own] if own in self.own else self.own.setdefault(own, read(own))
        for item in items:
            wait = await self.hit(item, tenant)
            if wait is not None:
                raise Exhausted(
                    "RATE_LIMITED",
                    f"{tenant} may make {item} of these calls; try again in {wait:.1f} s.",
                    metadata={"limit": str(item)},
                    retry_after=wait,
                )

    async def hit(self, item: RateLimitItem, tenant: str) -> float | None:
        """Counts one call. Returns the seconds to wait where it is one too many."""
        if self.together is not None and not self.outage.lasts:
            try:
                return await hit(self.together, item, self.kind, tenant)
            except RedisError:
                self.outage.begin()
        return await hit(self.alone, item, self.kind, tenant)


async def hit(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, kind: str, tenant: str) -> float | None:
    """Counts one call with one limiter; see `Rate.hit`."""
    if await limiter.hit(item, kind, tenant):
        return None
    stats = await limiter.get_window_stats(item, kind, tenant)
    return max(0.1, stats.reset_time - time.time())


def storage(client: redis.Redis) -> RedisStorage:
    """Where calls of all gateways are counted, over the connections of a client."""
    pool: Any = client.connection_pool
    return RedisStorage("async+redis://", implementation="redispy", key_prefix="askonce:rate", connection_pool=pool)


def read(limit: str) -> list[RateLimitItem]:
    """Limits from text such as "10/minute;2/second". Raises SettingsError."""
    if not limit.strip():
        return []
    try:
        return parse_many(limit)
    except ValueError as error:
        raise SettingsError(f'rates: {limit!r} is not like "10/minute"') from error
