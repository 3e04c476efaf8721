"""The use case over real gRPC: what is asked once is paid once, and nothing that fails takes the gateway with it."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest

from askonce.v1 import answer_pb2, content_pb2
from gateway.settings import Settings
from tests.gateway.doubles import IMAGE, Running, failure, running
from tests.gateway.pictures import picture


async def test_asked_twice_paid_once(system: Running) -> None:
    """The second equal request is a hit; the model is asked once."""
    first = await system.ask(IMAGE)
    await system.settled()
    second = await system.ask(IMAGE)
    assert first.provenance.source == content_pb2.SOURCE_MODEL
    assert second.provenance.source == content_pb2.SOURCE_CACHE
    assert (second.provenance.reason, second.provenance.entry) == ("EXACT", "tenants/default/entries/1")
    assert first.answer == second.answer
    assert len(system.model.requests) == 1
    assert second.provenance.HasField("store_time")
    assert second.provenance.policy_revision == "tenants/default/policy@1"


async def test_exact_hit_sends_digest_only(system: Running) -> None:
    """The image's content goes to dedup only when dedup asks for it, and never on an exact hit."""
    await system.ask(IMAGE)
    await system.settled()
    await system.ask(IMAGE)
    assert [bool(each.image_content) for each in system.memory.lookups] == [False, True, False]


async def test_stream_of_a_miss_brings_pieces_then_the_summary(system: Running) -> None:
    """The pieces joined are the answer; the summary comes last and once."""
    events = await system.stream(IMAGE)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["text", "text", "summary"]
    assert "".join(event.text for event in events) == events[-1].summary.answer.text
    assert events[-1].summary.provenance.source == content_pb2.SOURCE_MODEL


async def test_stream_of_a_hit_has_the_same_shape(system: Running) -> None:
    """A stored answer is streamed at once, the summary last."""
    await system.ask(IMAGE)
    await system.settled()
    events = await system.stream(IMAGE)
    assert [event.WhichOneof("event") for event in events] == ["text", "summary"]
    assert events[0].text == events[1].summary.answer.text


async def test_thinking_is_streamed_only_when_asked_for(system: Running) -> None:
    """Pieces of thinking reach a client that set `thinking`."""
    events = await system.stream(IMAGE, params=content_pb2.GenerationParams(thinking=True))
    assert [event.WhichOneof("event") for event in events] == ["text", "text", "thinking_text", "summary"]


async def test_bypass_neither_reads_nor_replaces(system: Running) -> None:
    """BYPASS asks the model though an answer is stored, and leaves the stored one."""
    first = await system.ask(IMAGE)
    await system.settled()
    again = await system.ask(IMAGE, cache_mode=answer_pb2.CACHE_MODE_BYPASS)
    await system.settled()
    assert again.provenance.source == content_pb2.SOURCE_MODEL
    assert not system.memory.remembered[-1].replace
    assert (await system.ask(IMAGE)).answer.text == first.answer.text


async def test_refresh_replaces(system: Running) -> None:
    """REFRESH asks the model and replaces what is stored."""
    await system.ask(IMAGE)
    await system.settled()
    fresh = await system.ask(IMAGE, cache_mode=answer_pb2.CACHE_MODE_REFRESH)
    await system.settled()
    assert (await system.ask(IMAGE)).answer.text == fresh.answer.text == "answer 2 to: What is the total?"


async def test_only_if_cached_never_asks_the_model(system: Running) -> None:
    """A miss under ONLY_IF_CACHED is NOT_FOUND with the reason NOT_CACHED."""
    fault = await failure(system.ask(IMAGE, cache_mode=answer_pb2.CACHE_MODE_ONLY_IF_CACHED))
    assert (fault.code, fault.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_CACHED")
    assert fault.metadata["miss_reason"] == "QUESTION_UNKNOWN"
    assert system.model.requests == []


async def test_no_store_leaves_nothing(system: Running) -> None:
    """NO_STORE neither stores the answer nor has the question judged."""
    system.memory.near_pair = ("a", "b")
    await system.ask(IMAGE, cache_mode=answer_pb2.CACHE_MODE_NO_STORE)
    await system.settled()
    assert system.memory.remembered == []
    assert system.gateway.judge.queue.empty()
    assert system.model.compared == []


@pytest.mark.parametrize(
    "finish",
    [
        *(each for each in content_pb2.FinishReason.values() if each != content_pb2.FINISH_REASON_STOP),
    ],
)
async def test_unfit_answers_are_served_but_not_stored(
    system: Running, finish: content_pb2.FinishReason.ValueType
) -> None:
    """Only an answer that is known to be whole is stored; all others reach the client with their own finish."""
    system.model.finish = finish
    assert (await system.ask(IMAGE)).answer.finish_reason == finish
    await system.settled()
    assert system.memory.remembered == []


async def test_an_answer_that_the_engine_calls_unfit_is_not_stored(system: Running) -> None:
    """An answer that ended well but whose pieces were something else is served once."""
    system.model.unfit = "THINKING_LEAKED"
    assert (await system.ask(IMAGE)).answer.finish_reason == content_pb2.FINISH_REASON_STOP
    await system.settled()
    assert system.memory.remembered == []


async def test_tenants_share_nothing_kept_of_an_image(system: Running) -> None:
    """Each tenant's request names its own cache scope to the model, and its image is checked for itself."""
    image = picture()
    for tenant in ("tenants/one", "tenants/two"):
        await system.ask(image, "What is it?", parent=tenant, cache_mode=answer_pb2.CACHE_MODE_BYPASS)
    assert [request.cache_scope for request in system.model.requests] == ["tenants/one", "tenants/two"]
    assert {scope for scope, _ in system.gateway.answering.inspected} == {"tenants/one", "tenants/two"}


async def test_sharing_is_a_setting() -> None:
    """Where the settings say so, tenants share one scope."""
    async with running(replace(Settings(), share_image_caches=True)) as system:
        for tenant in ("tenants/one", "tenants/two"):
            await system.ask(picture(), "What is it?", parent=tenant, cache_mode=answer_pb2.CACHE_MODE_BYPASS)
        assert [request.cache_scope for request in system.model.requests] == ["", ""]
        assert len(system.gateway.answering.inspected) == 1
