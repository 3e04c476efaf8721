"""Hits that the policy drew are verified behind the client's back, and never at its cost."""

from __future__ import annotations

import time

import pytest

from askonce.faults import Exhausted
from askonce.v1 import content_pb2, inference_pb2
from gateway.hit_verifier import UnverifiedHit
from tests.gateway.doubles import IMAGE, Running, until


async def test_explored_hit_is_served_first_and_asked_after(system: Running) -> None:
    """A drawn hit is served from memory; the model is asked at background priority and its answer reported."""
    await system.ask(IMAGE)
    await system.settled()
    system.memory.explore = True
    hit = await system.ask(IMAGE)
    assert hit.provenance.source == content_pb2.SOURCE_CACHE
    await until(lambda: len(system.memory.learned) == 1)
    assert system.model.requests[-1].priority == inference_pb2.PRIORITY_BACKGROUND
    evidence = system.memory.learned[0].fresh_answer
    assert evidence.decision == hit.provenance.decision
    assert evidence.answer.text == "answer 2 to: What is the total?"


def hit(number: int, ago: float = 0.0) -> UnverifiedHit:
    decision = f"tenants/a/decisions/{number}"
    return UnverifiedHit("tenants/a", decision, inference_pb2.GenerateRequest(), time.monotonic() - ago)


async def test_a_busy_engine_is_asked_again(system: Running) -> None:
    """A drawn hit waits while the engine is busy and is verified when it has time."""
    verifier = system.gateway.hit_verifier
    verifier.pauses = (0.01, 0.02)
    system.model.fault = Exhausted("BUSY", "busy")
    assert verifier.offer(hit(1))
    await until(lambda: len(system.model.requests) >= 3)
    assert system.memory.learned == []
    system.model.fault = None
    await until(lambda: len(system.memory.learned) == 1)
    evidence = system.memory.learned[0].fresh_answer
    assert evidence.answer.finish_reason == content_pb2.FINISH_REASON_STOP
    assert system.model.requests[-1].priority == inference_pb2.PRIORITY_BACKGROUND


async def test_a_hit_that_has_waited_long_is_asked_like_a_client_s(system: Running) -> None:
    """After half of its time background work's place at the end no longer keeps a hit from its outcome."""
    verifier = system.gateway.hit_verifier
    assert verifier.offer(hit(1, ago=0.6 * verifier.patience))
    await until(lambda: len(system.memory.learned) == 1)
    assert system.model.requests[-1].priority == inference_pb2.PRIORITY_INTERACTIVE


@pytest.mark.parametrize("finish", [content_pb2.FINISH_REASON_LENGTH, content_pb2.FINISH_REASON_INTERRUPTED])
async def test_every_drawn_hit_has_an_outcome(system: Running, finish: content_pb2.FinishReason.ValueType) -> None:
    """Time over, an answer that is not whole, and no room in the queue: each is reported as not verified."""
    verifier = system.gateway.hit_verifier
    verifier.pauses = (0.01, 0.02)
    system.model.fault = Exhausted("BUSY", "busy")
    assert verifier.offer(hit(1, ago=verifier.patience))
    await until(lambda: len(system.memory.learned) == 1)
    system.model.fault, system.model.finish = None, finish
    assert verifier.offer(hit(2))
    await until(lambda: len(system.memory.learned) == 2)
    system.model.gate.clear()
    offers = [verifier.offer(hit(number)) for number in range(3, 53)]
    assert offers.count(True) == 32
    system.model.gate.set()
    await until(lambda: len(system.memory.learned) == 52)
    told = [evidence.fresh_answer for evidence in system.memory.learned]
    assert {each.decision for each in told} == {f"tenants/a/decisions/{number}" for number in range(1, 53)}
    assert all(each.answer.finish_reason != content_pb2.FINISH_REASON_STOP for each in told)
