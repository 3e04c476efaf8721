"""The use case over real gRPC: what is asked once is paid once, and nothing that fails takes the gateway with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from askonce import faults
from askonce.faults import Exhausted, InvalidInput, Unreachable
from askonce.v1 import answer_pb2, content_pb2, inference_pb2
from gateway.settings import Settings, Timeouts
from tests.gateway.doubles import Running, request_for, running, until
from tests.gateway.pictures import picture

IMAGE = picture()


async def failure(call: Any) -> faults.Fault:
    """The fault that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return faults.from_error(caught.value)


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


async def test_provenance_of_a_miss_tells_the_time_of_each_stage(system: Running) -> None:
    """Timings cover resolve, look-up, generation, first piece, total, and the engine's own account."""
    timings = (await system.ask(IMAGE)).provenance.timings
    spent = {name: getattr(timings, name).ToNanoseconds() for name in ("resolve", "lookup", "generate", "total")}
    assert all(value > 0 for value in spent.values())
    assert spent["lookup"] + spent["generate"] <= spent["total"]
    assert timings.engine.decode.nanos == 5_000_000


async def test_defaults_written_out_are_the_same_request(system: Running) -> None:
    """Unset parameters and their defaults are one answer space; greedy decoding ignores seed and top_p."""
    await system.ask(IMAGE)
    await system.settled()
    params = content_pb2.GenerationParams(max_tokens=128, temperature=0.0, top_p=0.5, seed=7)
    assert (await system.ask(IMAGE, params=params)).provenance.source == content_pb2.SOURCE_CACHE
    other = content_pb2.GenerationParams(max_tokens=64)
    assert (await system.ask(IMAGE, params=other)).provenance.source == content_pb2.SOURCE_MODEL


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


async def test_tenants_share_nothing(system: Running) -> None:
    """Another tenant's equal request goes to the model."""
    await system.ask(IMAGE, parent="tenants/one")
    await system.settled()
    assert (await system.ask(IMAGE, parent="tenants/two")).provenance.source == content_pb2.SOURCE_MODEL


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
        content_pb2.FINISH_REASON_LENGTH,
        content_pb2.FINISH_REASON_FILTERED,
        content_pb2.FINISH_REASON_UNANSWERABLE,
        content_pb2.FINISH_REASON_UNSPECIFIED,
    ],
)
async def test_unfit_answers_are_served_but_not_stored(
    system: Running, finish: content_pb2.FinishReason.ValueType
) -> None:
    """Truncated, filtered and unanswerable answers reach the client and never memory."""
    system.model.finish = finish
    assert (await system.ask(IMAGE)).answer.finish_reason == finish
    await system.settled()
    assert system.memory.remembered == []


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


async def test_equal_misses_run_once(system: Running) -> None:
    """A hundred equal requests at once cost one generation and one look-up with content."""
    system.model.gate.clear()
    calls = [asyncio.create_task(system.ask(IMAGE)) for _ in range(100)]
    await until(lambda: len(system.memory.lookups) == 101)
    system.model.gate.set()
    answers = await asyncio.gather(*calls)
    assert len(system.model.requests) == 1
    assert {each.answer.text for each in answers} == {"answer 1 to: What is the total?"}
    assert sum(each.provenance.coalesced for each in answers) == 99
    assert len({each.request_id for each in answers}) == 100
    assert sum(bool(each.image_content) for each in system.memory.lookups) == 1
    await system.settled()
    answering = system.gateway.answering
    assert (answering.requests.flights, answering.generations.flights) == ({}, {})


async def test_failure_reaches_every_waiter(system: Running) -> None:
    """When the one generation fails, all who wait get its failure, and the next request asks anew."""
    system.model.fault = Exhausted("QUEUE_FULL", "busy", retry_after=2.0)
    system.memory.delay = 0.05
    found = await asyncio.gather(*(failure(system.ask(IMAGE)) for _ in range(10)))
    assert {fault.reason for fault in found} == {"QUEUE_FULL"}
    assert {fault.retry_after for fault in found} == {2.0}
    assert len(system.model.requests) == 1
    system.model.fault = None
    assert (await system.ask(IMAGE)).answer.text


async def test_cancelled_first_caller_does_not_kill_the_others(system: Running) -> None:
    """The first caller goes away; whoever waits with it still gets the answer of the one generation."""
    system.model.gate.clear()
    first = asyncio.create_task(system.ask(IMAGE))
    await until(lambda: system.model.running == 1)
    second = asyncio.create_task(system.ask(IMAGE))
    await until(lambda: len(system.memory.lookups) == 3)
    first.cancel()
    await asyncio.sleep(0.05)
    system.model.gate.set()
    assert (await second).provenance.coalesced
    assert (len(system.model.requests), system.model.cancelled) == (1, 0)


async def test_late_joiner_of_a_stream_gets_the_pieces_so_far(system: Running) -> None:
    """A request that joins a stream in the middle gets its beginning first, then the rest."""
    system.model.gate.clear()
    first = asyncio.create_task(system.stream(IMAGE))
    await until(lambda: system.model.running == 1)
    call = system.stub.StreamAnswer(
        answer_pb2.StreamAnswerRequest(request=request_for(IMAGE, "What is the total?")), timeout=10
    )
    events = aiter(call)
    assert (await anext(events)).text == "answer 1 to: "
    system.model.gate.set()
    rest = [event async for event in events]
    assert rest[-1].summary.provenance.coalesced
    assert rest[-1].summary.answer.text == (await first)[-1].summary.answer.text
    assert len(system.model.requests) == 1


async def test_work_that_nobody_waits_for_ends() -> None:
    """Once its last waiter has left, a generation is cancelled after the linger."""
    async with running(Settings(timeouts=Timeouts(linger=0.05))) as system:
        system.model.gate.clear()
        call = asyncio.create_task(system.ask(IMAGE))
        await until(lambda: system.model.running == 1)
        call.cancel()
        await until(lambda: system.model.cancelled == 1)
        await system.settled()
        assert system.memory.remembered == []


async def test_retry_within_the_linger_rides_the_same_generation(system: Running) -> None:
    """A client whose deadline passed and who asks again at once does not make the model begin again."""
    system.model.gate.clear()
    fault = await failure(system.ask(IMAGE, timeout=0.3))
    assert fault.code is grpc.StatusCode.DEADLINE_EXCEEDED
    again = asyncio.create_task(system.ask(IMAGE))
    await until(lambda: len(system.memory.lookups) >= 3)
    system.model.gate.set()
    assert (await again).answer.text == "answer 1 to: What is the total?"
    assert len(system.model.requests) == 1


async def test_answer_on_its_way_into_memory_is_joined(system: Running) -> None:
    """Between the answer and its acknowledged storage an equal request neither waits nor asks the model."""
    system.memory.remember_gate.clear()
    first = await system.ask(IMAGE)
    second = await system.ask(IMAGE)
    assert second.answer == first.answer
    assert second.provenance.coalesced
    assert len(system.model.requests) == 1
    system.memory.remember_gate.set()


async def test_requests_of_one_meaning_wait_for_one_generation(system: Running) -> None:
    """A reworded question waits for the answer under way that it would have hit."""
    system.memory.meaning = lambda text: "total"
    system.model.gate.clear()
    first = asyncio.create_task(system.ask(IMAGE, "What is the total?"))
    await until(lambda: system.model.running == 1)
    second = asyncio.create_task(system.ask(IMAGE, "How much is it in all?"))
    await until(lambda: len(system.memory.lookups) == 3)
    system.model.gate.set()
    joined = await second
    assert joined.answer.text == (await first).answer.text
    assert (joined.provenance.coalesced, joined.provenance.reason) == (True, "COALESCED")
    assert len(system.model.requests) == 1


async def test_unfit_answer_of_another_wording_is_not_borrowed(system: Running) -> None:
    """An answer that could not have been stored is no answer to a reworded question: that one asks for itself."""
    system.memory.meaning = lambda text: "total"
    system.model.finish = content_pb2.FINISH_REASON_LENGTH
    system.model.gate.clear()
    first = asyncio.create_task(system.ask(IMAGE, "What is the total?"))
    await until(lambda: system.model.running == 1)
    second = asyncio.create_task(system.ask(IMAGE, "How much is it in all?"))
    await until(lambda: len(system.memory.lookups) == 3)
    system.model.gate.set()
    assert (await second).answer.text == "answer 2 to: How much is it in all?"
    await first


async def test_waiting_for_another_generation_is_bounded() -> None:
    """A request waits for somebody else's generation only so long, then asks for itself."""
    async with running(Settings(timeouts=Timeouts(join=0.1))) as system:
        system.memory.meaning = lambda text: "total"
        system.model.gate.clear()
        first = asyncio.create_task(system.ask(IMAGE, "What is the total?"))
        await until(lambda: system.model.running == 1)
        second = asyncio.create_task(system.ask(IMAGE, "How much is it in all?"))
        await until(lambda: system.model.running == 2)
        system.model.gate.set()
        assert (await second).answer.text == "answer 2 to: How much is it in all?"
        await first


async def test_sampled_answers_are_not_shared(system: Running) -> None:
    """Requests for a random answer each get one of their own."""
    params = content_pb2.GenerationParams(temperature=0.8)
    await asyncio.gather(*(system.ask(IMAGE, params=params) for _ in range(3)))
    assert len(system.model.requests) == 3


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


async def test_inline_judgement_turns_a_miss_into_a_hit(system: Running) -> None:
    """When dedup wants a verdict and there is time, the judge is asked and the look-up repeated with it."""
    system.memory.wanted_pair = ("total?", "sum?")
    answer = await system.ask(IMAGE)
    assert (answer.provenance.reason, answer.answer.text) == ("JUDGED", "as judged")
    assert system.model.compared == [("total?", "sum?")]
    assert system.model.requests == []


async def test_no_inline_judgement_when_time_is_short(system: Running) -> None:
    """A close deadline goes on with the miss; the pair is judged in the background."""
    system.memory.wanted_pair = ("total?", "sum?")
    answer = await system.ask(IMAGE, timeout=2.0)
    assert answer.provenance.source == content_pb2.SOURCE_MODEL
    await until(lambda: len(system.memory.lessons) == 1)
    assert system.memory.lessons[0].judged.same_probability == pytest.approx(0.97)


async def test_near_miss_is_judged_in_the_background_once(system: Running) -> None:
    """A near-miss has its pair judged behind the client's back, never twice, and dedup gets the verdict."""
    system.memory.near_pair = ("total?", "sum?")
    await system.ask(picture(1))
    await until(lambda: len(system.memory.lessons) == 1)
    system.memory.near_pair = ("sum?", "total?")
    await system.ask(picture(2))
    await system.settled()
    await asyncio.sleep(0.05)
    assert system.model.compared == [("total?", "sum?")]
    assert system.memory.lessons[0].parent == "tenants/default"
    assert system.memory.lessons[0].judged.model == "counting-1"


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


async def test_feedback_reaches_dedup(system: Running) -> None:
    """A verdict goes to dedup as a lesson, and the count of removed entries comes back."""
    answer = await system.ask(IMAGE)
    request = answer_pb2.SubmitFeedbackRequest(
        decision=answer.provenance.decision, verdict=answer_pb2.VERDICT_WRONG, correct_text="RM 12"
    )
    assert (await system.stub.SubmitFeedback(request, timeout=5)).removed_count == 1
    assert system.memory.lessons[0].feedback == request


async def test_request_id_travels_to_both_services(system: Running) -> None:
    """A caller's request id comes back in the response."""
    call = system.stub.Answer(request_for(IMAGE, "x"), timeout=5, metadata=(("askonce-request-id", "abc-1"),))
    assert (await call).request_id == "abc-1"


async def test_expired_deadline_is_told(system: Running) -> None:
    """A request whose deadline passes ends with DEADLINE_EXCEEDED, and the gateway goes on."""
    system.model.gate.clear()
    fault = await failure(system.ask(IMAGE, timeout=0.2))
    assert fault.code is grpc.StatusCode.DEADLINE_EXCEEDED
    system.model.gate.set()
    assert (await system.ask(picture(3))).answer.text


async def test_full_gateway_says_no_early() -> None:
    """Requests beyond the bound are refused at once with GATEWAY_BUSY."""
    settings = Settings()
    async with running(replace(settings, bounds=replace(settings.bounds, requests=2))) as system:
        system.model.gate.clear()
        calls = [asyncio.create_task(system.ask(picture(number))) for number in range(2)]
        await until(lambda: system.model.running == 2)
        fault = await failure(system.ask(picture(9)))
        assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "GATEWAY_BUSY")
        system.model.gate.set()
        await asyncio.gather(*calls)


async def test_stop_waits_for_answers_on_their_way_into_memory() -> None:
    """An answer given just before the end is stored before the gateway ends."""
    async with running() as system:
        system.memory.remember_gate.clear()
        await system.ask(IMAGE)
        asyncio.get_running_loop().call_later(0.2, system.memory.remember_gate.set)
    assert len(system.memory.remembered) == 1
