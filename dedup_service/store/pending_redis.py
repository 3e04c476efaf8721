"""Images on their way at any replica, in the Redis or Valkey that they share."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from redis import asyncio as redis
from redis.exceptions import RedisError

from askonce.redis_client import Outage
from dedup_service.store.pending import Identified, PendingImage

PREFIX = "askonce:pending"
TTL = 120.0
"""Seconds for which an image is on its way."""
MOST = 512
"""Most images of a tenant that are shared at once; a fingerprint takes up to 96 kB."""
PATIENCE = 4.0
"""Seconds to wait for what another replica makes of an image: a look-up there takes a tenth of that, and a gateway does
not wait much longer."""
AFTER = 10.0
"""Seconds for which it stands what was made of an image that is on its way no more: somebody may be waiting."""
SOON = 0.02
"""Seconds between two looks."""
ANNOUNCE = """
local before = redis.call('HGETALL', KEYS[1])
if #before < 2 * tonumber(ARGV[4]) then
  redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return before
"""
"""Announces one and tells of those before it, in one step."""


class RedisPendingImages:
    """Implements `PendingImages`."""

    def __init__(
        self, client: redis.Redis, outage: Outage | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` returns seconds since the epoch."""
        self.client = client
        self.outage = outage or Outage()
        self.clock = clock

    async def announce(self, tenant: str, image: PendingImage) -> list[PendingImage]:
        if self.outage.lasts:
            return []
        place = place_of(tenant)
        try:
            raw = await self.client.eval(ANNOUNCE, 1, place, image.digest, text_of(image), str(int(TTL)), str(MOST))
            found = [pending_from(digest, text) for digest, text in zip(raw[::2], raw[1::2], strict=True)]
            lost = [each.digest for each in found if each.time < self.clock() - TTL]
            if lost:
                await self.client.hdel(place, *lost)
            if image.digest in lost:
                await self.client.hset(place, image.digest, text_of(image))
        except RedisError:
            self.outage.begin()
            return []
        return [each for each in found if each.digest not in lost]

    async def identify(self, tenant: str, digest: str, identified: Identified) -> None:
        if self.outage.lasts:
            return
        packed = identified.image.encode() + b"\0" + identified.fingerprint
        try:
            await self.client.set(image_key(tenant, digest), packed, ex=int(TTL))
        except RedisError:
            self.outage.begin()

    async def identified(self, tenant: str, digest: str) -> Identified | None:
        until = time.monotonic() + PATIENCE
        while not self.outage.lasts:
            try:
                packed: Any = await self.client.get(image_key(tenant, digest))
            except RedisError:
                self.outage.begin()
                return None
            if packed is not None:
                image, _, fingerprint = packed.partition(b"\0")
                return Identified(image.decode(), fingerprint)
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(SOON)
        return None

    async def discard(self, tenant: str, digest: str) -> None:
        if self.outage.lasts:
            return
        try:
            async with self.client.pipeline(transaction=False) as pipeline:
                pipeline.hdel(place_of(tenant), digest)
                pipeline.expire(image_key(tenant, digest), int(AFTER))
                await pipeline.execute()
        except RedisError:
            self.outage.begin()


def place_of(tenant: str) -> str:
    """Where the images of a tenant stand."""
    return f"{PREFIX}:{tenant}"


def image_key(tenant: str, digest: str) -> str:
    """Where it stands what was made of an image."""
    return f"{PREFIX}:{tenant}:{digest}"


def text_of(image: PendingImage) -> str:
    """An image as JSON; the vector in half precision, hexadecimal."""
    vector = image.vector.astype(np.float16).tobytes().hex()
    parts = (image.pixel_digest, image.perceptual_hash.hex(), vector, image.time)
    return json.dumps(parts)


def pending_from(digest: bytes, text: bytes) -> PendingImage:
    """The image that `text_of` wrote."""
    parts: tuple[Any, ...] = tuple(json.loads(text))
    vector = np.frombuffer(bytes.fromhex(parts[2]), np.float16).astype(np.float32)
    return PendingImage(digest.decode(), parts[0], bytes.fromhex(parts[1]), vector, parts[3])
