"""Leases in Redis or Valkey, for gateways that work together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256

from redis import asyncio as redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from askonce.redis_client import REST, Outage
from gateway.leases import Held

PREFIX = "askonce:lease:"
CHANNEL = "askonce:leases"
"""Where it is said which key was freed: one channel for all, the message is the key's name."""
RECENT = 10.0
"""Seconds for which it is known that a key was held: longer than a look-up takes."""
POLL = 0.5
"""Seconds after which a waiter looks itself: news may be lost, and a dead holder sends none."""
SOON = 0.02
"""Seconds between two looks for a lease that is about to be taken."""


class RedisLeases:
    """Implements `Leases` with redis-py's lock: a random token, set if there is none, with an expiry, and compared in
    one step when the lease is renewed or released."""

    def __init__(
        self,
        client: redis.Redis,
        seconds: float,
        outage: Outage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` is how long a lease outlives a holder that has died; it is renewed three times as often."""
        self.client = client
        self.seconds = seconds
        self.clock = clock
        self.outage = outage or Outage()
        self.waiting: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def hold(self, key: bytes) -> AsyncIterator[Held]:
        lock = Lock(self.client, name_of(key), timeout=self.seconds, blocking=False, thread_local=False)
        if self.alone:
            yield Held.MINE
            return
        try:
            mine = await lock.acquire()
            after = mine and await self.client.exists(done_key(key))
        except RedisError:
            self.outage.begin()
            yield Held.MINE
            return
        if not mine:
            yield Held.THEIRS
            return
        renewing = asyncio.create_task(self.renew(lock))
        try:
            yield Held.AFTER if after else Held.MINE
        finally:
            renewing.cancel()
            await asyncio.shield(self.release(lock, key))

    async def renew(self, lock: Lock) -> None:
        """Keeps a lease alive. One that was lost is not taken back: whoever has it by now goes on with it."""
        while True:
            await asyncio.sleep(self.seconds / 3)
            try:
                await lock.reacquire()
            except LockError:
                return
            except RedisError:
                self.outage.begin()

    async def release(self, lock: Lock, key: bytes) -> None:
        """Gives a lease back and tells those who wait."""
        with suppress(LockError, RedisError):
            await self.client.set(done_key(key), b"", ex=int(RECENT))
            await lock.release()
            await self.client.publish(CHANNEL, lock.name)

    async def held(self, keys: Sequence[bytes], patience: float) -> bytes | None:
        until = self.clock() + patience
        names = [name_of(key) for key in keys]
        while names and not self.alone:
            try:
                found = await self.client.mget(names)
            except RedisError:
                self.outage.begin()
                return None
            for key, token in zip(keys, found, strict=True):
                if token is not None:
                    return key
            if self.clock() >= until:
                return None
            await asyncio.sleep(SOON)
        return None

    async def freed(self, key: bytes, seconds: float) -> bool:
        name, until = name_of(key), self.clock() + seconds
        try:
            while not self.alone:
                event = self.waiting.setdefault(name, asyncio.Event())  # before the look: no news is missed in between
                if not await self.client.exists(name):
                    return True
                left = until - self.clock()
                if left <= 0:
                    return False
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(POLL, left)):
                        await event.wait()
        except RedisError:
            self.outage.begin()
        finally:
            self.waiting.pop(name, None)  # others who wait for it look themselves soon
        return True

    async def step(self) -> None:
        """Hears which leases were freed and wakes those who wait for them."""
        try:
            async with self.client.pubsub(ignore_subscribe_messages=True) as news:
                await news.subscribe(CHANNEL)
                while True:
                    message = await news.get_message(timeout=POLL)
                    if message is not None:
                        self.wake(message["data"].decode())
        except RedisError:
            await asyncio.sleep(REST)

    def wake(self, name: str) -> None:
        """Wakes those who wait for a key."""
        if (event := self.waiting.pop(name, None)) is not None:
            event.set()

    @property
    def alone(self) -> bool:
        """See `Leases`: whether Redis did not answer a moment ago."""
        return self.outage.lasts


def done_key(key: bytes) -> str:
    """Where it stands that a key was held a moment ago."""
    return f"{name_of(key)}:done"


def name_of(key: bytes) -> str:
    """A key's name in Redis: of one length, whatever the tenant is called."""
    return PREFIX + sha256(key).hexdigest()
