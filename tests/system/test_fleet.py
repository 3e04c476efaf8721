"""Two gateways and three dedup replicas over Redis, PostgreSQL and Qdrant act as one, and go on when any of them dies.

Where ASKONCE_TEST_QDRANT names a Qdrant server it is used; a double stands in for it otherwise. The long version of
these tests is `benchmarks.fleet`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from askonce.v1 import content_pb2
from benchmarks.fleet import READY, Fleet, ask, asked, is_hit, kill_each, overdrawn, policy_news, purge_news, wrong_news
from benchmarks.servers import MissingServerError
from benchmarks.soak import ASPECTS, picture

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet whose model takes a while."""
    qdrant = os.environ.get("ASKONCE_TEST_QDRANT") or None
    environ = {
        "ASKONCE_INFERENCE_DELAY": "0.3",
        "ASKONCE_GATEWAY_TIMEOUTS_LOOKUP": "20",
        "ASKONCE_GATEWAY_TIMEOUTS_SEARCH": "30",
    }
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), environ, READY, qdrant)
    try:
        await fleet.__aenter__()
    except MissingServerError as missing:
        pytest.skip(str(missing))
    yield fleet
    await asyncio.gather(*(fleet.system.kill(name) for name in fleet.system.names))  # draining is tested elsewhere
    await fleet.__aexit__(None, None, None)


async def test_two_hundred_misses_make_one_call(fleet: Fleet) -> None:
    """Equal and near-equal misses that arrive together, in all spellings and files, at both gateways and all replicas,
    ask the model once."""
    ways = asked(picture(7), "What is the total?")
    assert len({hashlib.sha256(one.content).digest() for one in ways}) == 5
    chance = random.Random(3)
    answers = await asyncio.gather(*(ask(fleet, ways[number % len(ways)], chance) for number in range(200)))
    fresh = [
        each for each in answers if each.provenance.source == content_pb2.SOURCE_MODEL and not each.provenance.coalesced
    ]
    assert len(fresh) == 1, [each.provenance.reason for each in fresh]
    assert len({each.answer.text for each in answers}) == 1


async def test_what_one_replica_stores_all_serve(fleet: Fleet) -> None:
    """An answer that was stored through one gateway is a hit through the other, and a copy of the image as well."""
    chance = random.Random(4)
    plain, *others = asked(picture(20), ASPECTS[1])
    await ask(fleet, plain, chance)
    async with asyncio.timeout(30):
        for stub in fleet.answers:
            for one in (plain, others[0], others[-1]):
                while True:
                    response = await stub.Answer(one.request(), timeout=30)
                    assert response.answer.text in one.right
                    if is_hit(response):
                        break
                    await asyncio.sleep(0.05)


async def test_news_reaches_all_replicas(fleet: Fleet) -> None:
    """A policy that one replica was told of holds at all of them soon; what was wrong or purged is served by none of
    them to a request that comes after."""
    news = [await policy_news(fleet, 1), *await wrong_news(fleet, 1), await purge_news(fleet, 1)]
    assert all(each.last_old < 20 for each in news)
    assert [each.after for each in news[1:]] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("part", ["redis", "postgres", "dedup-2", "gateway-1"])
async def test_a_death_costs_no_answer(fleet: Fleet, part: str) -> None:
    """When a process is killed under load nobody gets a wrong answer, what was acknowledged stays, and the error budget
    holds."""
    found = await kill_each(fleet, [part], 1, clients=3, calm=0.2)
    assert found.acknowledged
    assert (found.lost, found.tally.wrong, found.tally.stuck) == (0, 0, 0)
    async with asyncio.timeout(60):  # what was recorded while the database was away is written a little later
        while (account := await asyncio.to_thread(overdrawn, fleet.postgres.url))["hits"] == 0:
            await asyncio.sleep(0.2)
    assert account["over"] == 0
