"""The hot tier in Redis or Valkey, which all replicas share."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import RedisError

from dedup_service.store.exact_cache import HotKey
from dedup_service.store.records import Entry, MemoryUnavailableError

PREFIX = "askonce:hot"


class RedisHot:
    """Implements `Hot`. Dropping a tenant starts a new generation of its keys; those of the old one expire unread."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since the epoch."""
        self.client = client
        self.clock = clock

    @classmethod
    def connect(cls, address: str, *, timeout: float = 0.25) -> RedisHot:
        """`address` is "redis://HOST:PORT/DB" or "rediss://…"; `timeout` bounds a command in seconds. Connects when
        first used, and blocks a moment now."""
        return cls(
            redis.Redis.from_url(
                address,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
                driver_info=DriverInfo(),  # made here, once: it reads the package's metadata from disk
            )
        )

    async def get(self, key: HotKey) -> Entry | None:
        try:
            generation, found = await self.client.mget(generation_key(key.tenant), id_key(key))
            if found is None:
                return None
            text = await self.client.get(entry_key(key.tenant, plain(found), generation))
        except RedisError:
            return None
        return entry_from(text) if text is not None else None

    async def put(self, key: HotKey, entry: Entry) -> None:
        seconds = int(entry.hot_until - self.clock())
        if seconds < 1:
            return
        try:
            generation = await self.client.get(generation_key(key.tenant))
            async with self.client.pipeline(transaction=False) as pipeline:
                pipeline.set(entry_key(key.tenant, entry.id, generation), text_of(entry), ex=seconds)
                pipeline.set(id_key(key), entry.id, ex=seconds)
                await pipeline.execute()
        except RedisError:
            return

    async def drop(self, tenant: str, entries: frozenset[str] | None = None) -> None:
        try:
            if entries is None:
                await self.client.incr(generation_key(tenant))
            elif entries:
                generation = await self.client.get(generation_key(tenant))
                await self.client.delete(*(entry_key(tenant, entry, generation) for entry in entries))
        except RedisError as error:
            raise MemoryUnavailableError("the hot tier does not answer") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self.client.aclose()


def generation_key(tenant: str) -> str:
    """Where a tenant's generation is kept."""
    return f"{PREFIX}:{tenant}:generation"


def id_key(key: HotKey) -> str:
    """Where the id of the entry for an exact request is kept."""
    parts = "\0".join((key.byte_digest, key.space, key.normal))
    return f"{PREFIX}:{key.tenant}:key:{hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()}"


def entry_key(tenant: str, entry: str, generation: bytes | str | None) -> str:
    """Where an entry is kept."""
    return f"{PREFIX}:{tenant}:entry:{plain(generation or '0')}:{entry}"


def plain(value: bytes | str) -> str:
    """A reply as text, whether or not the client decodes."""
    return value.decode() if isinstance(value, bytes) else value


def text_of(entry: Entry) -> str:
    """An entry as JSON; the answer's bytes in hexadecimal."""
    return json.dumps({**asdict(entry), "answer": entry.answer.hex()}, ensure_ascii=False)


def entry_from(text: bytes | str) -> Entry:
    """The entry that `text_of` wrote."""
    raw: dict[str, Any] = json.loads(text)
    return Entry(**{**raw, "answer": bytes.fromhex(raw["answer"]), "tags": tuple(raw["tags"])})
