"""Images on their way at other replicas: of two that arrive at one moment one is told of the other, and waits for what
it makes of its image, but not for a replica that has died."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from redis import asyncio as redis

from askonce.redis_client import connect
from dedup_service.store import pending_redis
from dedup_service.store.pending import Identified, NoPendingImages, PendingImage
from dedup_service.store.pending_redis import TTL, RedisPendingImages
from tests.dedup_service.store.test_exact_cache import Clock

pytestmark = pytest.mark.slow
IMAGE = PendingImage("aa", "pixels", bytes(range(32)), np.array([0.5, -0.25], np.float32), 0.0)
OTHER = replace(IMAGE, digest="bb")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(redis_client: redis.Redis, clock: Clock) -> tuple[RedisPendingImages, RedisPendingImages]:
    """Two replicas."""
    return RedisPendingImages(redis_client, clock=clock), RedisPendingImages(redis_client, clock=clock)


async def test_an_image_is_known_until_it_is_remembered(pair: tuple[RedisPendingImages, RedisPendingImages]) -> None:
    """The other replica hears of it as it was announced; another tenant does not, nor anybody once it is discarded."""
    one, other = pair
    assert await one.announce("acme", IMAGE) == []
    found = (await other.announce("acme", OTHER))[0]
    np.testing.assert_allclose(found.vector, IMAGE.vector, atol=1e-3)
    assert replace(found, vector=IMAGE.vector) == IMAGE
    assert await other.announce("globex", OTHER) == []
    await other.discard("acme", "aa")
    assert [each.digest for each in await one.announce("acme", replace(IMAGE, digest="cc"))] == ["bb"]


async def test_every_pair_meets_once(pair: tuple[RedisPendingImages, RedisPendingImages]) -> None:
    """However many arrive at one moment, of every two exactly one is told of the other."""
    many = [replace(IMAGE, digest=f"{number:02x}") for number in range(20)]
    told = await asyncio.gather(*(pair[number % 2].announce("acme", each) for number, each in enumerate(many)))
    met = [{each.digest, other.digest} for each, others in zip(many, told, strict=True) for other in others]
    assert len(met) == 20 * 19 / 2
    assert all(met.count(two) == 1 for two in met)


async def test_what_was_made_of_it_is_waited_for(pair: tuple[RedisPendingImages, RedisPendingImages]) -> None:
    """Whoever was told of an image gets its record's id and its fingerprint as soon as they are known, also when the
    image was remembered meanwhile."""
    one, other = pair
    await one.announce("acme", IMAGE)
    waiting = asyncio.create_task(other.identified("acme", "aa"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    made = Identified("record", b"\x00finger\x00print")
    await one.identify("acme", "aa", made)
    assert await waiting == made
    await one.discard("acme", "aa")
    assert await other.identified("acme", "aa") == made


async def test_a_dead_replica_is_not_waited_for(
    pair: tuple[RedisPendingImages, RedisPendingImages], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that nobody says more about is given up after a while, and forgotten in the end."""
    one, other = pair
    await one.announce("acme", IMAGE)
    monkeypatch.setattr(pending_redis, "PATIENCE", 0.1)
    assert await other.identified("acme", "aa") is None
    clock.now = TTL + 1
    assert await other.announce("acme", replace(OTHER, time=clock.now)) == []
    assert [each.digest for each in await one.announce("acme", replace(IMAGE, time=clock.now))] == ["bb"]


async def test_without_redis_a_replica_is_alone() -> None:
    """While Redis is away nobody is told of anything, and nobody waits."""
    client = connect("redis://127.0.0.1:1/0")
    async with asyncio.timeout(20):
        for alone in (RedisPendingImages(client), NoPendingImages()):
            assert await alone.announce("acme", IMAGE) == []
            await alone.identify("acme", "aa", Identified("record", b""))
            assert await alone.identified("acme", "aa") is None
            await alone.discard("acme", "aa")
    await client.aclose()
