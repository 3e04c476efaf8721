"""What both services are told about a request."""

from __future__ import annotations

import pytest

from askonce.faults import Unreachable
from askonce.v1 import content_pb2
from tests.gateway.doubles import IMAGE, Running


@pytest.mark.parametrize(
    ("wanted", "budget", "asked"), [(None, 50_000, 50_000), (90_000, 50_000, 50_000), (20_000, 50_000, 20_000)]
)
async def test_the_model_looks_at_no_more_pixels_than_the_policy_allows(
    system: Running, wanted: int | None, budget: int, asked: int
) -> None:
    """The policy's pixel budget bounds what the model is asked to look at; a request may only lower it."""
    system.memory.max_pixels = budget
    await system.ask(IMAGE, params=content_pb2.GenerationParams(max_pixels=wanted))
    assert [request.params.max_pixels for request in system.model.requests] == [asked]


async def test_without_a_policy_the_request_alone_limits_the_pixels(system: Running) -> None:
    """When dedup can't tell the budget, a request's own limit is passed on, and none where it has none."""
    system.memory.fault = Unreachable("AWAY", "away")
    await system.ask(IMAGE, params=content_pb2.GenerationParams(max_pixels=90_000))
    await system.ask(IMAGE)
    assert [request.params.HasField("max_pixels") for request in system.model.requests] == [True, False]
