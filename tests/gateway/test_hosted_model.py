"""The gateway knows which model is hosted, also when that changes or can't be asked."""

from __future__ import annotations

import grpc
import pytest

from askonce.faults import Unreachable
from gateway.clients import InferenceClient
from gateway.hosted_model import HostedModel, Model
from tests.gateway.doubles import IMAGE, Running
from tests.gateway.pictures import picture


async def test_answer_of_another_model_is_not_stored(system: Running) -> None:
    """When the model changed after the look-up its answer does not go under the old model's ticket."""
    await system.ask(IMAGE)
    await system.settled()
    system.model.model = "counting-2"
    await system.ask(picture(1))
    await system.settled()
    assert len(system.memory.remembered) == 1
    assert system.gateway.hosted.model is not None
    assert system.gateway.hosted.model.name == "counting-2"


async def test_model_that_was_never_learnt_is_asked_for_and_told_when_it_cannot_be(system: Running) -> None:
    """Without inference the model is unknown, and a request that needs it is told when to try again."""
    await system.inference_server.server.stop(0)
    async with grpc.aio.insecure_channel(system.inference_server.address) as channel:
        hosted = HostedModel(InferenceClient(channel))
        with pytest.raises(Unreachable) as caught:
            await hosted.get(0.5)
        assert (caught.value.reason, caught.value.retry_after) == ("INFERENCE_UNAVAILABLE", 1.0)
        pinned = HostedModel(InferenceClient(channel), Model("m", "1"))
        assert await pinned.get(0.5) == Model("m", "1")
        assert await pinned.refresh(0.5) == Model("m", "1")
