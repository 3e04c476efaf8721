"""Replicas over one store act as one: what is on its way at one of them is known to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from redis import asyncio as redis

from benchmarks.servers import RedisServer
from dedup_service.usecases.lookup import Found, Missed
from tests.dedup_service.bench import Bench, bench, hit
from tests.dedup_service.image.forms import Rgb, copied, sheet
from tests.dedup_service.image.pages import saved, scene
from tests.dedup_service.pages import copy_of, receipt, resaved

pytestmark = pytest.mark.slow
QUESTION = "What is the amount due?"
TOTAL = "What is the total amount?"
Pair = tuple[Bench, Bench]


@pytest.fixture
async def pair(tmp_path: Path, redis_client: redis.Redis) -> AsyncIterator[Pair]:
    """Two replicas."""
    async with bench(tmp_path, redis=redis_client) as one, bench(tmp_path, beside=one, redis=redis_client) as other:
        yield one, other


def large(number: int) -> Rgb:
    """A page whose print is large enough to be believed at once."""
    return np.kron(sheet(number), np.ones((2, 2, 1), np.uint8))


async def together(pair: Pair, *asked: tuple[bytes, str]) -> list[Missed]:
    """The misses of requests that arrive at one moment, at the replicas in turn."""
    calls = [pair[number % 2].ask(content, question) for number, (content, question) in enumerate(asked)]
    found = await asyncio.gather(*calls)
    assert all(isinstance(each, Missed) for each in found)
    return [each for each in found if isinstance(each, Missed)]


COPIES: dict[str, Callable[[Rgb], bytes]] = {
    "equal files": saved,
    "equal pixels": lambda page: resaved(saved(page)),
    "a copy": lambda page: saved(copied(page, "saved")),
    "a smaller copy": lambda page: saved(copied(page, "shrunk")),
}


@pytest.mark.parametrize("how", COPIES)
async def test_copies_that_arrive_at_once_are_one_image(pair: Pair, how: str) -> None:
    """Two copies that nobody has seen, at two replicas at one moment, wait for one answer and become one record; both
    files lead to it from then on, at either replica."""
    one, other = pair
    first, second = saved(large(1)), COPIES[how](large(1))
    misses = await together(pair, (first, QUESTION), (second, QUESTION))
    assert misses[0].flight == misses[1].flight
    await asyncio.gather(*(replica.store(miss, "1.50") for replica, miss in zip(pair, misses, strict=True)))
    assert (await one.memory.holdings()).images == 1
    for replica in pair:
        for content in (first, second):
            assert hit(await replica.ask(content, QUESTION)) == "1.50"
    assert (await other.memory.holdings()).images == 1


@pytest.mark.parametrize("original_first", [True, False])
async def test_who_waited_finds_the_answer(pair: Pair, original_first: bool) -> None:
    """Of two copies on their way at two replicas one is answered and stored; the other hits then, whichever came
    first."""
    one, other = pair
    original, copy = saved(large(1)), saved(copied(large(1), "saved"))
    if not original_first:
        await other.ask(copy, QUESTION)
    missed = await one.ask(original, QUESTION)
    if original_first:
        await other.ask(copy, QUESTION)
    await one.store(missed, "1.50")
    assert hit(await other.ask(copy, QUESTION)) == "1.50"


async def test_other_images_that_arrive_at_once_stay_apart(pair: Pair) -> None:
    """Pages of one form and unlike images, each at its replica at one moment, are told apart."""
    for first, second in ((large(20), large(21)), (large(22), scene())):
        misses = await together(pair, (saved(first), QUESTION), (saved(second), QUESTION))
        assert misses[0].flight != misses[1].flight
        assert not misses[0].joinable
        assert not misses[1].joinable


async def test_equal_misses_at_both_replicas_can_wait_for_one_answer(pair: Pair) -> None:
    """Copies in many forms, asked the same in other words, at two replicas at one moment: one of the answers under way
    is enough for all."""
    pages = [receipt(), copy_of(receipt()), copy_of(receipt(), 90, 0.7), resaved(receipt())]
    asked = [(page, question) for page in pages for question in (TOTAL, f"Please tell me: {TOTAL}")]
    misses = await together(pair, *asked)
    assert any(all(key in (miss.flight, *miss.joinable) for miss in misses) for key in {miss.flight for miss in misses})
    assert len({miss.findings.resolved.image for miss in misses if miss.findings.resolved}) == 1


async def test_feedback_may_reach_another_replica_first(pair: Pair) -> None:
    """A "wrong" that arrives at a replica before the decision that it is about has been written down by the other one
    is not refused, and the answer is gone."""
    one, other = pair
    await one.teach(saved(large(1)), QUESTION, "1.50")
    served = await one.ask(saved(large(1)), QUESTION)
    assert isinstance(served, Found)
    learnt = await other.learn.feedback("acme", served.findings.decision, False, "", "")
    assert learnt.removed == 1
    assert not await one.memory.entries_of("acme", served.entry.image)


async def test_without_redis_copies_are_found_later(pair: Pair, redis_server: RedisServer) -> None:
    """While Redis is away copies that arrive at once may become two records; a later one hits all the same."""
    one, other = pair
    await redis_server.kill()
    misses = await together(pair, (saved(large(1)), QUESTION), (saved(copied(large(1), "saved")), QUESTION))
    for replica, miss in zip(pair, misses, strict=True):
        await replica.store(miss, "1.50")
    assert hit(await other.ask(saved(copied(large(1), "saved")), QUESTION)) == "1.50"
    assert hit(await one.ask(saved(large(1)), QUESTION)) == "1.50"
