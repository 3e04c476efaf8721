"""Answers on their way can be found by the image that they are about, until they land or grow too old: at one replica,
and at all of them through Redis."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from redis import asyncio as redis

from askonce.redis_client import connect
from dedup_service.store.inflight import Inflight, InflightMiss, InflightMisses
from dedup_service.store.inflight_redis import RedisInflight
from tests.dedup_service.store.test_exact_cache import ENTRY, Clock

AWAITED = replace(ENTRY, answer=b"", answer_text="")
FLIGHT = InflightMiss("k1", "acme", "i1", "s1", 0.0, AWAITED, np.array([0.5, 0.25], np.float32))
SECOND = replace(FLIGHT, key="k2", time=1.0)
LAST = replace(FLIGHT, key="last", time=2.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["process", pytest.param("redis", marks=pytest.mark.slow)])
def replicas(request: pytest.FixtureRequest, clock: Clock) -> tuple[Inflight, Inflight]:
    """What is on its way, as two look-ups see it: at one replica, or at two."""
    own = InflightMisses(clock, ttl=10.0)
    if request.param == "process":
        return own, own
    client: redis.Redis = request.getfixturevalue("redis_client")
    return RedisInflight(client, own), RedisInflight(client, InflightMisses(clock, ttl=10.0))


async def keys(inflight: Inflight, flight: InflightMiss) -> list[str]:
    """The keys of those that began before."""
    return [each.key for each in await inflight.begin(flight)]


async def test_a_flight_is_found_by_its_image_until_it_lands(replicas: tuple[Inflight, Inflight]) -> None:
    """Only requests of the same tenant, image and answer space find it, whichever replica they ask."""
    one, other = replicas
    assert await one.begin(FLIGHT) == []
    assert await keys(other, SECOND) == ["k1"]
    elsewhere = replace(AWAITED, tenant="globex")
    assert await keys(other, replace(LAST, tenant="globex", awaited=elsewhere)) == []
    assert await keys(other, replace(LAST, image="i2", key="k3")) == []
    assert await keys(other, replace(LAST, space="s2", key="k4")) == []
    await other.end("k1")
    assert await keys(one, replace(LAST, key="k5")) == ["k2"]


async def test_it_comes_back_as_it_was(replicas: tuple[Inflight, Inflight]) -> None:
    """The awaited entry and the question's vector are what a later request is compared with."""
    one, other = replicas
    await one.begin(FLIGHT)
    found = (await other.begin(SECOND))[0]
    assert (found.key, found.time, found.awaited) == ("k1", 0.0, AWAITED)
    np.testing.assert_allclose(found.vector, FLIGHT.vector, atol=1e-3)


async def test_of_two_at_once_one_is_told(replicas: tuple[Inflight, Inflight]) -> None:
    """However many begin at one moment, every pair of them meets exactly once."""
    many = [replace(FLIGHT, key=f"k{number}") for number in range(20)]
    told = await asyncio.gather(*(replicas[number % 2].begin(each) for number, each in enumerate(many)))
    met = [{each.key, other.key} for each, others in zip(many, told, strict=True) for other in others]
    assert len(met) == 20 * 19 / 2
    assert all(met.count(pair) == 1 for pair in met)


async def test_a_lost_flight_expires(replicas: tuple[Inflight, Inflight], clock: Clock) -> None:
    """A generation that never reports back is not waited for forever, and can begin anew."""
    one, other = replicas
    await one.begin(FLIGHT)
    clock.now = 11.0
    assert await keys(other, replace(FLIGHT, time=11.0)) == []
    assert await keys(one, replace(SECOND, time=11.0)) == ["k1"]


async def test_they_are_bounded() -> None:
    """The oldest flights go when there are too many, from both indexes."""
    inflight = InflightMisses(Clock(), limit=3)
    for number in range(10):
        await inflight.begin(replace(FLIGHT, key=str(number), image=str(number)))
    assert sorted(inflight.by_key) == ["7", "8", "9"]
    assert len(inflight.by_image) == 3


async def test_without_redis_a_replica_knows_its_own() -> None:
    """While Redis is away what is on its way here is found, and nobody waits for it."""
    client = connect("redis://127.0.0.1:1/0")
    inflight = RedisInflight(client, InflightMisses(Clock()))
    async with asyncio.timeout(20):
        assert await inflight.begin(FLIGHT) == []
        assert await keys(inflight, SECOND) == ["k1"]
        await inflight.end("k1")
        assert await keys(inflight, LAST) == ["k2"]
    await client.aclose()
