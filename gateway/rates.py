"""How often a tenant may call. Counts in this process, over a sliding window."""

from __future__ import annotations

import time

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from askonce.faults import Exhausted
from askonce.settings import SettingsError


class Rate:
    """A limit per tenant for one kind of call."""

    def __init__(self, kind: str, limit: str) -> None:
        self.kind = kind
        self.items = read(limit)
        self.own: dict[str, list[RateLimitItem]] = {}
        self.limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, tenant: str, own: str = "") -> None:
        """Counts one call of a tenant; `own` replaces the deployment's limit. Raises Exhausted."""
        if not self.items and not own:
            return
        items = self.items
        if own:
            items = self.own[own] if own in self.own else self.own.setdefault(own, read(own))
        for item in items:
            if not await self.limiter.hit(item, self.kind, tenant):
                stats = await self.limiter.get_window_stats(item, self.kind, tenant)
                wait = max(0.1, stats.reset_time - time.time())
                raise Exhausted(
                    "RATE_LIMITED",
                    f"{tenant} may make {item} of these calls; try again in {wait:.1f} s.",
                    metadata={"limit": str(item)},
                    retry_after=wait,
                )


def read(limit: str) -> list[RateLimitItem]:
    """Limits from text such as "10/minute;2/second". Raises SettingsError."""
    if not limit.strip():
        return []
    try:
        return parse_many(limit)
    except ValueError as error:
        raise SettingsError(f'rates: {limit!r} is not like "10/minute"') from error
