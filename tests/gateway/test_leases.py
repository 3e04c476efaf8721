"""Leases: one holder at a time, a dead one's time runs out, and without Redis every gateway goes on alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from redis import asyncio as redis

from askonce.redis_client import connect
from askonce.v1 import answer_pb2, content_pb2
from benchmarks.servers import RedisServer
from gateway.leases import Held, NoLeases
from gateway.leases_redis import CHANNEL, RedisLeases, name_of
from gateway.settings import Settings, Timeouts
from tests.gateway.doubles import Running, running, until
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow
KEY, OTHER = b"tenants/acme\0one", b"tenants/acme\0two"


async def test_one_holder_at_a_time(redis_client: redis.Redis) -> None:
    """While one gateway holds a key no other gets it; afterwards the next one does. Other keys are no concern."""
    one, other = RedisLeases(redis_client, 60.0), RedisLeases(redis_client, 60.0)
    async with one.hold(KEY) as mine:
        assert mine is Held.MINE
        async with other.hold(KEY) as theirs, other.hold(OTHER) as another:
            assert (theirs, another) == (Held.THEIRS, Held.MINE)
            assert await other.held([OTHER, KEY], 0.0) == OTHER
        assert await other.held([OTHER, KEY], 0.0) == KEY
    async with other.hold(KEY) as mine:
        assert mine is Held.AFTER


async def test_a_waiter_is_woken_by_the_news(redis_client: redis.Redis) -> None:
    """A release is told: the waiter need not find out for itself."""
    one, other = RedisLeases(redis_client, 60.0), RedisLeases(redis_client, 60.0)
    listening = asyncio.create_task(other.step())
    await subscribed(redis_client)
    async with one.hold(KEY):
        waiting = asyncio.create_task(other.freed(KEY, 60.0))
        await until(lambda: name_of(KEY) in other.waiting)
        event = other.waiting[name_of(KEY)]
    assert await waiting
    await asyncio.wait_for(event.wait(), 5.0)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def subscribed(redis_client: redis.Redis) -> None:
    """Waits until somebody listens."""
    async with asyncio.timeout(5):
        while not dict(await redis_client.pubsub_numsub(CHANNEL))[CHANNEL.encode()]:
            await asyncio.sleep(0.01)


async def test_a_dead_holder_delays_by_its_lease_at_most(redis_client: redis.Redis) -> None:
    """Nobody releases the lease of a gateway that was killed: it runs out. A living one's is renewed all the while."""
    one = RedisLeases(redis_client, 0.3)
    await redis_client.set(name_of(KEY), "a token of somebody dead", px=300)
    assert await one.held([KEY], 0.0) == KEY
    assert not await one.freed(KEY, 0.0)
    assert await one.freed(KEY, 30.0)
    async with one.hold(KEY):
        await asyncio.sleep(0.9)  # three times its length
        assert await one.held([KEY], 0.0) == KEY


async def test_only_its_own_lease_is_released(redis_client: redis.Redis) -> None:
    """A holder whose lease ran out meanwhile leaves the next one's alone."""
    one = RedisLeases(redis_client, 60.0)
    async with one.hold(KEY):
        await redis_client.set(name_of(KEY), "somebody else's token")
    assert await redis_client.get(name_of(KEY)) == b"somebody else's token"


async def test_without_redis_every_gateway_is_alone() -> None:
    """A Redis that is away holds nobody up: keys are had, nothing is waited for, and it is left alone for a moment."""
    async with asyncio.timeout(20):
        redis_client = connect("redis://127.0.0.1:1/0")
        leases = RedisLeases(redis_client, 60.0)
        async with leases.hold(KEY) as mine:
            assert mine is Held.MINE
        assert leases.alone
        assert await leases.held([KEY], 60.0) is None
        assert await leases.freed(KEY, 60.0)
        await redis_client.aclose()


async def test_a_gateway_without_others_waits_for_nobody() -> None:
    """Where no Redis is named there are no leases at all."""
    leases = NoLeases()
    assert leases.alone
    async with leases.hold(KEY) as one, leases.hold(KEY) as other:
        assert one is other is Held.MINE


@pytest_asyncio.fixture
async def pair(redis_server: RedisServer) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways with one memory and one model behind both."""
    settings = Settings(redis=redis_server.url, timeouts=replace(Timeouts(), lease=2.0, join=60.0))
    async with running(settings) as one, running(settings, beside=one) as other:
        yield one, other


async def test_equal_misses_of_two_gateways_make_one_call(pair: tuple[Running, Running]) -> None:
    """Two hundred equal requests over two gateways ask the model once, and all get that answer."""
    image = picture()
    model = pair[0].model
    model.gate.clear()
    calls = [asyncio.create_task(pair[n % 2].ask(image, "What is the total?", 60.0)) for n in range(200)]
    await until(lambda: len(pair[0].memory.lookups) >= 200, 60.0)
    model.gate.set()
    answers = await asyncio.gather(*calls)
    assert len({each.answer.text for each in answers}) == 1
    assert len(model.requests) == 1
    fresh = [each for each in answers if not each.provenance.coalesced]
    assert [each.provenance.source for each in fresh] == [content_pb2.SOURCE_MODEL]


async def test_near_misses_of_two_gateways_make_one_call(pair: tuple[Running, Running]) -> None:
    """A request that memory says would hit the answer under way elsewhere waits for it, then looks up again."""
    one, other = pair
    one.memory.meaning = lambda text: "total"
    one.memory.same_answers = True
    one.model.gate.clear()
    first = asyncio.create_task(one.ask(picture(), "What is the total?", 60.0))
    await until(lambda: bool(one.model.requests))
    second = asyncio.create_task(other.ask(picture(), "How much is it?", 60.0))
    await until(lambda: bool(other.gateway.leases.waiting))  # type: ignore[attr-defined]
    one.model.gate.set()
    answers = await asyncio.gather(first, second)
    assert len(one.model.requests) == 1
    assert answers[0].answer.text == answers[1].answer.text
    assert (answers[1].provenance.source, answers[1].provenance.coalesced) == (content_pb2.SOURCE_CACHE, True)


async def test_who_looked_up_too_early_looks_again(pair: tuple[Running, Running]) -> None:
    """A look-up that was under way while the other gateway's answer was stored costs no second call."""
    one, other = pair
    looked = asyncio.Event()
    search = other.gateway.answering.search

    async def late(*arguments: Any) -> Any:
        found = await search(*arguments)
        if not looked.is_set():
            looked.set()
            await until(lambda: bool(one.memory.entries))
            await one.settled()
        return found

    other.gateway.answering.search = late  # type: ignore[method-assign, assignment]
    second = asyncio.create_task(other.ask(picture(), "What is the total?", 60.0))
    await looked.wait()
    await one.ask(picture(), "What is the total?", 60.0)
    assert (await second).provenance.source == content_pb2.SOURCE_CACHE
    assert len(one.model.requests) == 1


async def test_an_answer_that_is_not_stored_is_asked_for_anew(pair: tuple[Running, Running]) -> None:
    """Where the one who generated could not store its answer, the one who waited asks the model itself."""
    one, other = pair
    one.model.finish = content_pb2.FINISH_REASON_LENGTH
    one.model.gate.clear()
    first = asyncio.create_task(one.ask(picture(), "What is the total?", 60.0))
    await until(lambda: bool(one.model.requests))
    second = asyncio.create_task(other.ask(picture(), "What is the total?", 60.0))
    await until(lambda: bool(other.gateway.leases.waiting))  # type: ignore[attr-defined]
    one.model.gate.set()
    answers = await asyncio.gather(first, second)
    assert len(one.model.requests) == 2
    assert all(each.provenance.source == content_pb2.SOURCE_MODEL for each in answers)


async def test_what_is_not_to_be_stored_is_waited_for_by_nobody(pair: tuple[Running, Running]) -> None:
    """A request that keeps its answer out of memory holds no other gateway up."""
    one, other = pair
    one.model.gate.clear()
    first = asyncio.create_task(
        one.ask(picture(), "What is the total?", 60.0, cache_mode=answer_pb2.CACHE_MODE_NO_STORE)
    )
    await until(lambda: bool(one.model.requests))
    second = asyncio.create_task(other.ask(picture(), "What is the total?", 60.0))
    await until(lambda: len(one.model.requests) == 2)
    one.model.gate.set()
    await asyncio.gather(first, second)
