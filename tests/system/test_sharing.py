"""What is shared and what is not, with many clients at once and with hostile ones."""

from __future__ import annotations

import asyncio
import io

import grpc
import pytest
from PIL import Image

from askonce import faults
from askonce.v1 import answer_pb2, content_pb2
from benchmarks.soak import ASPECTS, picture
from tests.system.conftest import READY, Client, encode, started

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


def copies(content: bytes) -> list[bytes]:
    """Files of one picture that differ in bytes: PNGs of equal pixels."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return [encode(image, "PNG", compress_level=level) for level in range(4)]


async def test_hundred_near_identical_misses_make_one_call(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Requests whose files and spelling differ while their meaning does not wait for one generation."""
    environ = {"ASKONCE_INFERENCE_DELAY": "8"}
    async with started(tmp_path_factory.mktemp("herd"), environ, modules=READY) as client:
        files = copies(picture(7))
        spellings = [
            "What is the total?",
            "what is the total",
            "WHAT IS THE TOTAL?",
            "What is the total ?",
            "Ｗhat is the total?",
        ]
        calls = [client.ask(files[n % len(files)], spellings[n % len(spellings)], timeout=60) for n in range(100)]
        answers = await asyncio.gather(*calls)
        assert len({each.answer.text for each in answers}) == 1
        fresh = [
            each
            for each in answers
            if each.provenance.source == content_pb2.SOURCE_MODEL and not each.provenance.coalesced
        ]
        assert len(fresh) == 1


async def test_poisoned_tenant_reaches_no_other(ready: Client) -> None:
    """What one tenant stored is served to no other, whatever the question's tier."""
    image = picture(40)
    for _ in range(3):
        await ready.ask(image, ASPECTS[0], parent="tenants/mallory")
    await asyncio.sleep(0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ready.ask(image, ASPECTS[0], parent="tenants/alice", cache_mode=answer_pb2.CACHE_MODE_ONLY_IF_CACHED)
    assert faults.reason_of(caught.value) == "NOT_CACHED"


async def test_foreign_decision_removes_nothing(ready: Client) -> None:
    """Feedback under a tenant about a decision that is not its own finds nothing to remove."""
    image = picture(41)
    answer = await ready.ask(image, ASPECTS[0], parent="tenants/alice")
    await asyncio.sleep(0.3)
    name = answer.provenance.decision.rpartition("/")[2]
    forged = answer_pb2.SubmitFeedbackRequest(
        decision=f"tenants/mallory/decisions/{name}", verdict=answer_pb2.VERDICT_WRONG
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ready.stub.SubmitFeedback(forged, timeout=10)
    assert faults.reason_of(caught.value) == "DECISION_UNKNOWN"
    assert (await ready.ask(image, ASPECTS[0], parent="tenants/alice")).provenance.source == content_pb2.SOURCE_CACHE


async def test_feedback_in_bulk_is_limited(ready: Client) -> None:
    """A flood of "wrong" is stopped by the rate limit, with a hint when to come back."""
    decision = "tenants/flood/decisions/none"
    request = answer_pb2.SubmitFeedbackRequest(decision=decision, verdict=answer_pb2.VERDICT_WRONG)
    reasons = []
    for _ in range(80):
        try:
            await ready.stub.SubmitFeedback(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            reasons.append(faults.from_error(error))
    limited = [fault for fault in reasons if fault.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert limited
    assert all(fault.retry_after is not None for fault in limited)
