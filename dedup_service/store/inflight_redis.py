"""Answers on their way at any replica, in the Redis or Valkey that they share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np
from redis import asyncio as redis
from redis.exceptions import RedisError

from askonce.redis_client import Outage
from dedup_service.store.inflight import TTL, InflightMiss, InflightMisses
from dedup_service.store.records import Entry

PREFIX = "askonce:inflight"
MOST = 256
"""Most answers on their way about one image that are shared."""
BEGIN = """
local before = redis.call('HGETALL', KEYS[1])
if #before < 2 * tonumber(ARGV[4]) and redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  redis.call('SET', KEYS[2], KEYS[1], 'EX', ARGV[3])
end
return before
"""
"""Announces one and tells of those before it, in one step: of two at one moment the later one is told of the other."""


class RedisInflight:
    """Implements `Inflight`. While Redis is away, replicas know their own."""

    def __init__(self, client: redis.Redis, own: InflightMisses, outage: Outage | None = None) -> None:
        self.client = client
        self.own = own
        self.outage = outage or Outage()

    async def begin(self, flight: InflightMiss) -> list[InflightMiss]:
        mine = await self.own.begin(flight)
        if self.outage.lasts:
            return mine
        place = place_of(flight)
        keys = [place, key_of(flight.key)]
        try:
            raw = await self.client.eval(BEGIN, 2, *keys, flight.key, text_of(flight), str(int(TTL)), str(MOST))
            found = [flight_from(text) for text in raw[1::2]]
            horizon = self.own.clock() - self.own.ttl
            lost = [each.key for each in found if each.time < horizon]
            if lost:
                await self.client.hdel(place, *lost)
            if flight.key in lost:
                await self.client.hset(place, flight.key, text_of(flight))
        except RedisError:
            self.outage.begin()
            return mine
        return sorted((each for each in found if each.key not in lost), key=lambda each: (each.time, each.key))

    async def end(self, key: str) -> None:
        await self.own.end(key)
        if self.outage.lasts or not key:
            return
        try:
            place: Any = await self.client.getdel(key_of(key))
            if place is not None:
                await self.client.hdel(place.decode(), key)
        except RedisError:
            self.outage.begin()


def place_of(flight: InflightMiss) -> str:
    """Where those about one image in one answer space stand."""
    parts = "\0".join((flight.tenant, flight.image, flight.space))
    return f"{PREFIX}:{hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()}"


def key_of(key: str) -> str:
    """Where it stands which place a key belongs to."""
    return f"{PREFIX}:key:{key}"


def text_of(flight: InflightMiss) -> str:
    """A flight as JSON; the vector in half precision, hexadecimal."""
    entry = {**asdict(flight.awaited), "answer": ""}
    vector = flight.vector.astype(np.float16).tobytes().hex()
    return json.dumps({"key": flight.key, "time": flight.time, "entry": entry, "vector": vector}, ensure_ascii=False)


def flight_from(text: bytes) -> InflightMiss:
    """The flight that `text_of` wrote."""
    raw: dict[str, Any] = json.loads(text)
    entry = Entry(**{**raw["entry"], "answer": b"", "tags": tuple(raw["entry"]["tags"])})
    vector = np.frombuffer(bytes.fromhex(raw["vector"]), np.float16).astype(np.float32)
    return InflightMiss(raw["key"], entry.tenant, entry.image, entry.space, raw["time"], entry, vector)
