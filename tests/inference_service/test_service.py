"""The inference service over a real gRPC server on port 0."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from askonce.dialing import Dialing, dial
from askonce.faults import from_error
from askonce.serving import Registration, Server, Serving
from askonce.v1 import content_pb2, inference_pb2, inference_pb2_grpc
from inference_service.admission import Admission
from inference_service.engine import OPTIONAL_PARAMS, BadAskError, EngineUnavailableError, Sampling
from inference_service.service import NAME, InferenceService
from inference_service.settings import Limits
from tests.inference_service.engines import EchoEngine

CONTENT = b"not looked at by this engine"


@asynccontextmanager
async def serving(engine: EchoEngine, queue: int = 4, timeout: float = 10.0) -> AsyncIterator[Any]:
    """A stub of a running service."""
    service = InferenceService(engine, Admission(engine.capacity, queue), Limits(), timeout)
    server = Server("inference", Serving(), [Registration(NAME, service.add)])
    address = await server.start()
    channel = dial(Dialing(target=address))
    try:
        yield inference_pb2_grpc.InferenceServiceStub(channel)
    finally:
        await channel.close()
        await server.server.stop(0)


def request(text: str = "what?", **fields: Any) -> inference_pb2.GenerateRequest:
    """A request that is right unless fields make it wrong."""
    fields.setdefault("image", content_pb2.Image(content=CONTENT))
    fields.setdefault("question", content_pb2.Question(text=text))
    return inference_pb2.GenerateRequest(**fields)


async def ask(stub: Any, message: inference_pb2.GenerateRequest, timeout: float = 5.0) -> list[Any]:
    """All events of an answer."""
    return [event async for event in stub.Generate(message, timeout=timeout)]


async def refusal(
    stub: Any, message: inference_pb2.GenerateRequest, timeout: float = 5.0
) -> tuple[grpc.StatusCode, Any]:
    """The code and the fault of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await ask(stub, message, timeout)
    return failed.value.code(), from_error(failed.value)


async def test_streams_pieces_and_ends_with_the_summary() -> None:
    """The pieces joined are the answer; the summary carries model, usage, both queues and the time."""
    async with serving(EchoEngine()) as stub:
        *pieces, last = await ask(stub, request("total", params=content_pb2.GenerationParams(thinking=True)))
    assert "".join(piece.text for piece in pieces) == "total!"
    assert "".join(piece.thinking_text for piece in pieces) == "hm"
    answer = last.summary.answer
    assert (answer.text, answer.model, answer.model_revision) == ("total!", "echo-1", "r2")
    assert answer.finish_reason == content_pb2.FINISH_REASON_STOP
    assert (answer.usage.input_token_count, answer.usage.output_token_count, answer.usage.cached_token_count) == (
        3,
        2,
        1,
    )
    assert last.summary.timings.queue.ToTimedelta().total_seconds() >= 0.5
    assert not last.summary.timings.HasField("vision")
    assert answer.create_time.seconds > 1_700_000_000


async def test_thinking_that_was_not_asked_for_is_not_shown() -> None:
    """A model that thinks all the same keeps its thoughts to itself."""
    async with serving(EchoEngine()) as stub:
        events = await ask(stub, request("total"))
    assert not any(event.thinking_text for event in events)
    assert events[-1].summary.answer.thinking_text == ""
    assert events[-1].summary.answer.text == "total!"


async def test_everything_of_the_request_reaches_the_engine() -> None:
    """Digest, history, language, sampling and priority arrive; a missing digest is computed."""
    engine = EchoEngine()
    async with serving(engine) as stub:
        await ask(stub, request())
        await ask(
            stub,
            request(
                image_digest=b"d" * 32,
                question=content_pb2.Question(
                    text="and?",
                    history=[content_pb2.Turn(role=content_pb2.ROLE_ASSISTANT, text="so")],
                    answer_language_code="zh",
                ),
                params=content_pb2.GenerationParams(max_tokens=9, top_p=0.9, seed=0, stop=["x"], max_pixels=20_000),
                priority=inference_pb2.PRIORITY_BACKGROUND,
            ),
        )  # fmt: skip
    plain, full = engine.asks
    assert plain.image_digest == hashlib.sha256(CONTENT).digest()
    assert (plain.sampling.max_tokens, plain.sampling.temperature, plain.sampling.seed) == (128, 0.0, None)
    assert full.image_digest == b"d" * 32
    assert (full.history[0].role.value, full.history[0].text, full.language) == ("assistant", "so", "zh")
    assert (full.sampling.max_tokens, full.sampling.seed, full.sampling.stop) == (9, 0, ("x",))
    assert full.sampling.max_pixels == 20_000
    assert full.background
    assert full.deadline is not None


BAD: list[tuple[str, dict[str, Any]]] = [
    ("IMAGE_EMPTY", {"image": content_pb2.Image()}),
    ("IMAGE_EMPTY", {"image": content_pb2.Image(uri="https://example.com/a.png")}),
    ("IMAGE_TOO_LARGE", {"image": content_pb2.Image(content=b"x" * (5 * 2**20 + 1))}),
    ("DIGEST_INVALID", {"image_digest": b"short"}),
    ("QUESTION_EMPTY", {"question": content_pb2.Question(text="  ")}),
    ("QUESTION_TOO_LONG", {"question": content_pb2.Question(text="x" * 20_000)}),
    (
        "HISTORY_TOO_LONG",
        {"question": content_pb2.Question(text="x", history=[content_pb2.Turn(role=1, text="x")] * 17)},
    ),
    ("ENUM_UNKNOWN", {"question": content_pb2.Question(text="x", history=[content_pb2.Turn(text="x")])}),
    ("ENUM_UNKNOWN", {"priority": 77}),
    ("PARAMETER_OUT_OF_RANGE", {"params": content_pb2.GenerationParams(max_tokens=0)}),
    ("PARAMETER_OUT_OF_RANGE", {"params": content_pb2.GenerationParams(max_tokens=257)}),
    ("PARAMETER_OUT_OF_RANGE", {"params": content_pb2.GenerationParams(temperature=-0.1)}),
    ("PARAMETER_OUT_OF_RANGE", {"params": content_pb2.GenerationParams(temperature=float("nan"))}),
    ("PARAMETER_OUT_OF_RANGE", {"params": content_pb2.GenerationParams(top_p=0)}),
    ("PARAMETER_OUT_OF_RANGE", {"params": content_pb2.GenerationParams(max_pixels=10)}),
    ("PARAMETER_OUT_OF_RANGE", {"params": content_pb2.GenerationParams(stop=[""])}),
]


@pytest.mark.parametrize(
    ("reason", "fields"), BAD, ids=[f"{number}-{reason}" for number, (reason, _) in enumerate(BAD)]
)
async def test_bad_input_is_refused_with_a_reason(reason: str, fields: dict[str, Any]) -> None:
    """A request that can never work is INVALID_ARGUMENT with a stable reason and the field, and reaches no engine."""
    engine = EchoEngine()
    async with serving(engine) as stub:
        code, fault = await refusal(stub, request(**fields))
        assert (code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert fault.field
        assert not engine.asks
        assert len(await ask(stub, request())) == 3


@pytest.mark.parametrize(
    "params",
    [
        {"repetition_penalty": 1.5},
        {"top_k": 3},
        {"min_p": 0.5},
        {"presence_penalty": 1.0},
        {"frequency_penalty": 1.0},
        {"response_format": content_pb2.ResponseFormat(json_object=True)},
    ],
    ids=lambda params: next(iter(params)),
)
async def test_what_the_engine_cannot_honour_is_refused(params: dict[str, Any]) -> None:
    """A parameter that would change the answer is never dropped in silence: the engine has it, or the request fails."""
    message = request(params=content_pb2.GenerationParams(**params))
    name = next(iter(params))
    async with serving(EchoEngine()) as stub:
        code, fault = await refusal(stub, message)
        assert (code, fault.reason, fault.field) == (
            grpc.StatusCode.INVALID_ARGUMENT, "FIELD_UNSUPPORTED", f"params.{name}",
        )  # fmt: skip
        harmless = content_pb2.GenerationParams(repetition_penalty=1.0, top_k=0, min_p=0.0)
        await ask(stub, request(params=harmless))
    engine = EchoEngine(params=frozenset(OPTIONAL_PARAMS))
    async with serving(engine) as stub:
        await ask(stub, message)
    assert getattr(engine.asks[0].sampling, name) != getattr(Sampling(), name)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (BadAskError("IMAGE_UNREADABLE", "no"), grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE"),
        (EngineUnavailableError("GONE", "no", 7.0), grpc.StatusCode.UNAVAILABLE, "GONE"),
        (KeyError("secret"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
async def test_errors_of_the_engine_have_one_status_each(error: Exception, code: grpc.StatusCode, reason: str) -> None:
    """Named errors keep their reason; an unnamed one tells nothing but the request id. The place is given back."""
    engine = EchoEngine(error=error)
    async with serving(engine, queue=0) as stub:
        for _ in range(2):
            found, fault = await refusal(stub, request())
            assert (found, fault.reason) == (code, reason)
            assert "secret" not in fault.message
        assert fault.retry_after == getattr(error, "retry_after", None)
        engine.error = None
        assert len(await ask(stub, request())) == 3


async def test_a_full_queue_is_resource_exhausted_with_retry_info() -> None:
    """What finds no place is told so at once, with the time after which to come back."""
    engine = EchoEngine()
    engine.release.clear()
    async with serving(engine, queue=1) as stub:
        waiting = [asyncio.create_task(ask(stub, request())) for _ in range(2)]
        while not engine.asks:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        code, fault = await refusal(stub, request())
        assert (code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert fault.retry_after is not None
        assert fault.retry_after > 0
        background = request(priority=inference_pb2.PRIORITY_BACKGROUND)
        assert (await refusal(stub, background))[1].reason == "ENGINE_BUSY"
        info = await stub.GetInferenceInfo(inference_pb2.GetInferenceInfoRequest(), timeout=5)
        assert (info.queue_limit, info.queued_count, info.running_count) == (1, 1, 1)
        assert info.expected_wait.ToTimedelta().total_seconds() > 0
        engine.release.set()
        await asyncio.gather(*waiting)
    assert engine.most == 1


async def test_a_caller_that_leaves_cancels_the_work_and_frees_the_place() -> None:
    """Nobody computes an answer that nobody waits for."""
    engine = EchoEngine(delay=30.0)
    async with serving(engine, queue=0) as stub:
        call = stub.Generate(request(), timeout=30)
        reading = asyncio.create_task(call.read())
        while not engine.running:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        while engine.running:
            await asyncio.sleep(0.01)
        assert engine.cancelled == 1
        engine.delay = 0.0
        assert len(await ask(stub, request())) == 3


async def test_the_deadline_ends_the_work() -> None:
    """At the client's deadline, or the service's own where the client has none, the engine's work is cancelled."""
    engine = EchoEngine(delay=30.0)
    async with serving(engine, timeout=0.1) as stub:
        code, fault = await refusal(stub, request(), timeout=20)
        assert (code, fault.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    async with serving(engine) as stub:
        code, _ = await refusal(stub, request(), timeout=0.1)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        while engine.running:
            await asyncio.sleep(0.01)
    assert engine.cancelled == 2


async def test_pairs_are_judged_in_order() -> None:
    """CompareQuestions gives one verdict a pair, with the model's name; a model that can't judge is always unsure."""
    pairs = [inference_pb2.QuestionPair(left="a", right="a"), inference_pb2.QuestionPair(left="a", right="b")]
    message = inference_pb2.CompareQuestionsRequest(pairs=pairs)
    async with serving(EchoEngine()) as stub:
        judged = await stub.CompareQuestions(message, timeout=5)
    assert [each.verdict for each in judged.judgements] == [
        inference_pb2.QUESTION_VERDICT_SAME,
        inference_pb2.QUESTION_VERDICT_DIFFERENT,
    ]
    assert judged.judgements[0].same_probability == pytest.approx(0.9)
    assert judged.model == "echo-1"
    async with serving(EchoEngine(judge=False)) as stub:
        judged = await stub.CompareQuestions(message, timeout=5)
    assert [each.verdict for each in judged.judgements] == [inference_pb2.QUESTION_VERDICT_UNSURE] * 2
    assert not judged.judgements[0].HasField("same_probability")
    assert judged.model == ""


async def test_pairs_are_judged_on_an_image_where_one_is_named() -> None:
    """The image arrives with its pixels, its scope and the key under which the engine keeps what it saw of it."""
    engine = EchoEngine()
    message = inference_pb2.CompareQuestionsRequest(
        pairs=[inference_pb2.QuestionPair(left="a", right="a")],
        image=content_pb2.Image(content=b"picture"),
        max_pixels=500_000,
        cache_scope="tenants/a",
    )
    async with serving(engine) as stub:
        await stub.CompareQuestions(message, timeout=5)
        await ask(stub, request("total", image=content_pb2.Image(content=b"picture"), cache_scope="tenants/a"))
        message.max_pixels = 1
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.CompareQuestions(message, timeout=5)
    assert from_error(failed.value).reason == "PARAMETER_OUT_OF_RANGE"
    (on,) = engine.judged_on
    assert on is not None
    assert (on.image.content, on.max_pixels, on.scope) == (b"picture", 500_000, "tenants/a")
    assert on.image.digest == engine.asks[0].image_digest


@pytest.mark.parametrize("count", [0, 33])
async def test_a_senseless_number_of_pairs_is_refused(count: int) -> None:
    """1 to 32 pairs."""
    pairs = [inference_pb2.QuestionPair(left="a", right="b")] * count
    async with serving(EchoEngine()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.CompareQuestions(inference_pb2.CompareQuestionsRequest(pairs=pairs), timeout=5)
    assert from_error(failed.value).reason == "PAIRS_OUT_OF_RANGE"


async def test_describes_engine_and_caches() -> None:
    """GetInferenceInfo says what clients and the gateway need to know of the model."""
    sizes = [inference_pb2.ImageSize(width=560, height=280)]
    async with serving(EchoEngine()) as stub:
        info = await stub.GetInferenceInfo(inference_pb2.GetInferenceInfoRequest(sizes=sizes), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.GetInferenceInfo(inference_pb2.GetInferenceInfoRequest(sizes=sizes * 17), timeout=5)
    assert (info.engine, info.model, info.model_revision, info.dtype) == ("echo", "echo-1", "r2", "text")
    assert list(info.image_token_counts) == [200]
    assert (info.max_tokens_limit, info.can_judge, list(info.versions)) == (256, True, ["echo 1.0"])
    cache = info.caches[0]
    assert (cache.bytes_used, cache.bytes_limit, cache.entry_count, cache.hit_count, cache.miss_count) == (
        1,
        2,
        3,
        4,
        5,
    )
    assert from_error(failed.value).reason == "SIZES_OUT_OF_RANGE"


async def test_scopes_never_share_a_cache_key() -> None:
    """The same image has another cache key in every scope, and its own digest without; a scope has a limit."""
    engine = EchoEngine()
    async with serving(engine) as stub:
        for scope in ("", "tenants/a", "tenants/b", "tenants/a"):
            await ask(stub, request(cache_scope=scope))
        code, fault = await refusal(stub, request(cache_scope="x" * 201))
    keys = [each.image_digest for each in engine.asks]
    assert keys[0] == hashlib.sha256(CONTENT).digest()
    assert len(set(keys)) == 3
    assert keys[1] == keys[3]
    assert (code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TEXT_TOO_LONG")


def pages(*contents: bytes, **fields: Any) -> inference_pb2.GenerateRequest:
    """A request about several images."""
    images = [content_pb2.Image(content=content) for content in contents]
    return inference_pb2.GenerateRequest(images=images, question=content_pb2.Question(text="what?"), **fields)


async def test_several_images_reach_an_engine_that_takes_them() -> None:
    """Contents and digests arrive in order; missing digests are computed; one in a list is that one."""
    engine = EchoEngine(images=3)
    turns = [content_pb2.Turn(role=content_pb2.ROLE_USER, text="so", image_count=1)]
    async with serving(engine) as stub:
        message = pages(b"a", b"b", b"c")
        message.question.history.extend(turns)
        await ask(stub, message)
        await ask(stub, pages(b"a", b"b", image_digests=[b"1" * 32, b"2" * 32]))
        await ask(stub, pages(b"a"))
    first, second, third = engine.asks
    assert [image.content for image in first.images] == [b"a", b"b", b"c"]
    assert first.images[2].digest == hashlib.sha256(b"c").digest()
    assert [len(each) for each in first.images_by_turn()] == [1, 2]
    assert [image.digest for image in second.images] == [b"1" * 32, b"2" * 32]
    assert (third.image, third.more_images) == (b"a", ())


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (pages(b"a", b"b", b"c"), "IMAGES_TOO_MANY", "images"),
        (pages(b"a", b""), "IMAGE_EMPTY", "images[1].content"),
        (pages(b"a", b"x" * (5 * 2**20 + 1)), "IMAGE_TOO_LARGE", "images[1].content"),
        (pages(b"a", b"b", image_digests=[b"1" * 32]), "DIGEST_INVALID", "image_digests"),
    ],
)
async def test_bad_sequences_are_refused(message: inference_pb2.GenerateRequest, reason: str, field: str) -> None:
    """Too many for the engine, or one that is no image: told with its place."""
    async with serving(EchoEngine(images=2)) as stub:
        _, fault = await refusal(stub, message)
    assert (fault.reason, fault.field) == (reason, field)


def sample(name: str, **labels: str) -> float:
    """The present value of a metric."""
    return REGISTRY.get_sample_value(f"askonce_engine_{name}", labels) or 0.0


async def test_what_an_operator_watches_is_counted() -> None:
    """Queue, places, first token, time a token, tokens of each kind, how answers end, and verdicts."""
    counted = (
        ("tokens_total", {"kind": "input"}, 3.0),
        ("tokens_total", {"kind": "output"}, 2.0),
        ("tokens_total", {"kind": "cached"}, 1.0),
        ("answers_total", {"finish": "stop"}, 1.0),
        ("first_token_seconds_count", {}, 1.0),
        ("token_seconds_count", {}, 1.0),
        ("token_seconds_sum", {}, 0.25),
        ("judgements_total", {"verdict": "same"}, 1.0),
    )
    before = [sample(name, **labels) for name, labels, _ in counted]
    engine = EchoEngine()
    engine.release.clear()
    async with serving(engine) as stub:
        calls = [asyncio.create_task(ask(stub, request("total")))]
        while not engine.running:
            await asyncio.sleep(0.01)
        late = stub.CompareQuestions(PAIR, timeout=5)
        while not sample("queued"):
            await asyncio.sleep(0.01)
        assert (sample("running"), sample("queued"), sample("capacity")) == (1, 1, 1)
        engine.release.set()
        await asyncio.gather(*calls, late)
        assert (sample("running"), sample("queued")) == (0, 0)
    after = [sample(name, **labels) for name, labels, _ in counted]
    assert [now - then for now, then in zip(after, before, strict=True)] == [each for _, _, each in counted]
    assert sample("busy_seconds_total") > 0


PAIR = inference_pb2.CompareQuestionsRequest(pairs=[inference_pb2.QuestionPair(left="a", right="a")])
