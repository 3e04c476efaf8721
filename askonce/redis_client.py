"""A client of the Redis or Valkey that replicas share."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import Counter
from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from askonce.settings import SettingsError, shown

DRIVER = DriverInfo()
"""What clients say about themselves; made once, for it reads the package's metadata from disk."""
TIMEOUT = 0.25
"""Seconds that one command may take. What stands in Redis saves work; nobody waits long for it."""

REST = 1.0
"""Seconds for which a Redis that did not answer is left alone."""
AWAY = Counter("askonce_redis_away_total", "Times that the shared Redis did not answer.")


class Outage:
    """Whether Redis failed to answer a moment ago: then nobody waits for it again so soon."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.until = 0.0

    @property
    def lasts(self) -> bool:
        """Whether Redis should be left alone now."""
        return self.clock() < self.until

    def begin(self) -> None:
        """Notes that Redis did not answer."""
        self.until = self.clock() + REST
        AWAY.inc()


def connect(address: str, timeout: float = TIMEOUT) -> redis.Redis:
    """A client for "redis://HOST:PORT/DB", "rediss://…" or "unix://PATH"; it connects when first used and
    tries nothing twice. Raises SettingsError for what is no address."""
    try:
        client: redis.Redis = redis.Redis.from_url(
            address,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            driver_info=DRIVER,
        )
    except ValueError as error:
        raise SettingsError(f"redis: write redis://HOST:PORT/DB, not {shown(address)!r}") from error
    return client
