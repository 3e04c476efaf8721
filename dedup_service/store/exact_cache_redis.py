"""The hot tier in Redis or Valkey, which all replicas share."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from redis import asyncio as redis
from redis.exceptions import RedisError

from askonce.redis_client import TIMEOUT, connect
from dedup_service.store.exact_cache import BARRED, ExactKey
from dedup_service.store.operations import operation
from dedup_service.store.records import Entry, MemoryUnavailableError

PREFIX = "askonce:hot"
PUT = """
for place = 3, 4 do
  local gone = redis.call('GET', KEYS[place])
  if gone and tonumber(ARGV[5]) < tonumber(gone) then return 0 end
end
local generation = redis.call('GET', KEYS[1]) or '0'
redis.call('SET', ARGV[1] .. generation .. ':' .. ARGV[2], ARGV[3], 'EX', ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
return 1
"""
"""Keeps an entry in one step, unless it was dropped since it was created."""


class RedisExactCache:
    """Implements `Hot`. Dropping a tenant starts a new generation of its keys; those of the old one expire unread."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since the epoch."""
        self.client = client
        self.clock = clock

    @classmethod
    def connect(cls, address: str, *, timeout: float = TIMEOUT) -> RedisExactCache:
        """See `redis_client.connect`."""
        return cls(connect(address, timeout))

    async def get(self, key: ExactKey) -> Entry | None:
        try:
            with operation("redis", "get"):
                generation, found = await self.client.mget(generation_key(key.tenant), id_key(key))
                if found is None:
                    return None
                text = await self.client.get(entry_key(key.tenant, plain(found), generation))
        except RedisError:
            return None
        return entry_from(text) if text is not None else None

    async def put(self, key: ExactKey, entry: Entry) -> None:
        seconds = int(entry.hot_until - self.clock())
        if seconds < 1:
            return
        try:
            with operation("redis", "put"):
                await self.client.eval(
                    PUT,
                    4,
                    generation_key(key.tenant),
                    id_key(key),
                    gone_key(key.tenant),
                    gone_key(key.tenant, entry.id),
                    entry_prefix(key.tenant),
                    entry.id,
                    text_of(entry),
                    str(seconds),
                    repr(entry.create_time),
                )
        except RedisError:
            return

    async def drop(self, tenant: str, entries: frozenset[str] | None = None, *, before: float | None = None) -> None:
        moment = repr(self.clock() if before is None else before)
        try:
            with operation("redis", "drop"):
                async with self.client.pipeline(transaction=True) as pipeline:
                    if entries is None:
                        pipeline.set(gone_key(tenant), moment, ex=int(BARRED))
                        pipeline.incr(generation_key(tenant))
                    elif entries:
                        generation = await self.client.get(generation_key(tenant))
                        for entry in entries:
                            pipeline.set(gone_key(tenant, entry), moment, ex=int(BARRED))
                            pipeline.delete(entry_key(tenant, entry, generation))
                    await pipeline.execute()
        except RedisError as error:
            raise MemoryUnavailableError("the hot tier does not answer") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self.client.aclose()


def generation_key(tenant: str) -> str:
    """Where a tenant's generation is kept."""
    return f"{PREFIX}:{tenant}:generation"


def id_key(key: ExactKey) -> str:
    """Where the id of the entry for an exact request is kept."""
    parts = "\0".join((key.byte_digest, key.space, key.normal))
    return f"{PREFIX}:{key.tenant}:key:{hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()}"


def entry_key(tenant: str, entry: str, generation: bytes | str | None) -> str:
    """Where an entry is kept."""
    return f"{entry_prefix(tenant)}{plain(generation or '0')}:{entry}"


def entry_prefix(tenant: str) -> str:
    """What the keys of a tenant's entries begin with."""
    return f"{PREFIX}:{tenant}:entry:"


def gone_key(tenant: str, entry: str = "") -> str:
    """Where it stands that an entry, or all of a tenant's, was dropped."""
    return f"{PREFIX}:{tenant}:gone:{entry}"


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
