"""Hits that the policy drew are verified behind the client's back, and never at its cost."""

from __future__ import annotations

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
    await until(lambda: len(system.memory.lessons) == 1)
    assert system.model.requests[-1].priority == inference_pb2.PRIORITY_BACKGROUND
    lesson = system.memory.lessons[0].fresh_answer
    assert lesson.decision == hit.provenance.decision
    assert lesson.answer.text == "answer 2 to: What is the total?"


async def test_busy_engine_drops_explorations(system: Running) -> None:
    """Verification never insists: an engine that is busy ends it, and the explorer goes on."""
    explorer = system.gateway.hit_verifier
    system.model.fault = Exhausted("BUSY", "busy")
    assert explorer.offer(UnverifiedHit("tenants/a", "tenants/a/decisions/1", inference_pb2.GenerateRequest()))
    await until(lambda: len(system.model.requests) == 1)
    system.model.fault = None
    assert explorer.offer(UnverifiedHit("tenants/a", "tenants/a/decisions/2", inference_pb2.GenerateRequest()))
    await until(lambda: len(system.memory.lessons) == 1)
    assert system.memory.lessons[0].fresh_answer.decision == "tenants/a/decisions/2"


async def test_explorations_are_bounded(system: Running) -> None:
    """Hits beyond the queue are not verified; each would hold an image."""
    system.model.gate.clear()
    offers = [
        system.gateway.hit_verifier.offer(
            UnverifiedHit("tenants/a", f"tenants/a/decisions/{n}", inference_pb2.GenerateRequest())
        )
        for n in range(20)
    ]
    assert offers.count(True) == 16
    system.model.gate.set()
