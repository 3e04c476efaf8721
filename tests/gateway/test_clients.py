"""The services that the gateway calls may be down, late or wrong: clients are told, or notice nothing."""

from __future__ import annotations

import asyncio

import grpc

from askonce import faults
from askonce.faults import InvalidInput, Unreachable
from askonce.v1 import answer_pb2, content_pb2
from gateway.settings import Settings, Timeouts
from tests.gateway.doubles import IMAGE, Running, failure, running, until
from tests.gateway.pictures import picture


async def test_dedup_down_means_the_model_answers(system: Running) -> None:
    """Without dedup the gateway goes on: the model answers, the provenance says why, equal misses still run once."""
    await system.dedup_server.server.stop(0)
    system.model.gate.clear()
    calls = [asyncio.create_task(system.ask(IMAGE)) for _ in range(5)]
    await until(lambda: system.model.running == 1)
    await asyncio.sleep(0.3)
    system.model.gate.set()
    answers = await asyncio.gather(*calls)
    assert {each.provenance.reason for each in answers} == {"DEDUP_UNAVAILABLE"}
    assert len(system.model.requests) == 1


async def test_late_dedup_costs_its_timeout_and_no_more() -> None:
    """A look-up that takes too long is given up; once that happens again and again dedup is given a rest."""
    async with running(Settings(timeouts=Timeouts(lookup=0.1))) as system:
        system.memory.delay = 30.0
        for number in range(7):
            answer = await system.ask(picture(number))
            assert answer.provenance.reason == "DEDUP_UNAVAILABLE"
        assert len(system.memory.lookups) == 5


async def test_dedups_refusal_of_the_request_reaches_the_client(system: Running) -> None:
    """A request that dedup finds invalid is not asked of the model instead."""
    system.memory.fault = InvalidInput("LIMIT_LOOSER", "tighten only", field="limits.min_image_score")
    fault = await failure(system.ask(IMAGE))
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_LOOSER")
    assert fault.field == "limits.min_image_score"
    assert system.model.requests == []


async def test_dedups_bug_does_not_reach_the_client(system: Running) -> None:
    """An error of dedup's own is a miss."""
    system.memory.fault = faults.Fault("INTERNAL", "secret")
    assert (await system.ask(IMAGE)).provenance.reason == "DEDUP_UNAVAILABLE"


async def test_only_if_cached_without_dedup_is_unavailable(system: Running) -> None:
    """Nothing can be said about memory while dedup is down."""
    await system.dedup_server.server.stop(0)
    fault = await failure(system.ask(IMAGE, cache_mode=answer_pb2.CACHE_MODE_ONLY_IF_CACHED))
    assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "DEDUP_UNAVAILABLE")
    assert fault.retry_after is not None


async def test_inference_down_serves_hits_and_tells_misses_when_to_retry(system: Running) -> None:
    """Stored answers are served without inference; a miss is UNAVAILABLE with RetryInfo."""
    await system.ask(IMAGE)
    await system.settled()
    await system.inference_server.server.stop(0)
    assert (await system.ask(IMAGE)).provenance.source == content_pb2.SOURCE_CACHE
    fault = await failure(system.ask(picture(1)))
    assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "INFERENCE_UNAVAILABLE")
    assert fault.retry_after == 1.0


async def test_remember_that_fails_costs_nobody_anything(system: Running) -> None:
    """The client has its answer though dedup fails to store it."""
    system.memory.remember_gate.clear()
    answer = await system.ask(IMAGE)
    system.memory.fault = Unreachable("STORE_DOWN", "no")
    system.memory.remember_gate.set()
    await system.settled()
    assert answer.answer.text
    assert system.memory.entries == {}
