"""Small real peers for the gateway's tests: a memory that knows exact repeats, and a model that counts its work."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from askonce import faults
from askonce.dialing import Dialing
from askonce.faults import Fault, Unsupported
from askonce.serving import Registration, Server, Serving
from askonce.v1 import (
    answer_pb2,
    answer_pb2_grpc,
    content_pb2,
    dedup_pb2,
    dedup_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
)
from gateway.__main__ import Gateway
from gateway.auth import Authenticator, Everybody
from gateway.settings import Settings
from tests.gateway.pictures import picture

MODEL = "counting-1"
IMAGE = picture()
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class ExactMemory(dedup_pb2_grpc.DedupServiceServicer):
    """A dedup service with the exact tier only, and switches for what a test wants to see."""

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[str, content_pb2.Answer]] = {}
        self.images: set[bytes] = set()
        self.tickets: dict[bytes, bytes] = {}
        self.lookups: list[dedup_pb2.LookupRequest] = []
        self.remembered: list[dedup_pb2.RememberRequest] = []
        self.learned: list[dedup_pb2.LearnRequest] = []
        self.removals: list[dedup_pb2.Removal] = []
        self.fault: Fault | None = None
        self.delay = 0.0
        self.remember_gate = asyncio.Event()
        self.remember_gate.set()
        self.explore = False
        self.max_pixels = 0
        self.wanted_pair: tuple[str, str] | None = None
        self.on_image = False
        """Whether the wanted pair is to be judged on the image."""
        self.near_pair: tuple[str, str] | None = None
        self.further: list[tuple[str, str]] = []
        self.meaning: Callable[[str], str] | None = None
        """Groups questions that may wait for one another's answers; None for none."""
        self.same_answers = False
        """Whether what was stored for one question of a group answers the others."""
        self.flights: dict[str, list[bytes]] = {}
        self.numbers = itertools.count(1)

    def key(self, request: dedup_pb2.LookupRequest) -> bytes:
        parts = [
            request.parent.encode(),
            request.image_digest + b"".join(request.page_digests),
            request.question.SerializeToString(deterministic=True),
            request.space.SerializeToString(deterministic=True),
        ]
        return hashlib.sha256(b"\0".join(parts)).digest()

    async def Lookup(
        self, request: dedup_pb2.LookupRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> dedup_pb2.LookupResponse:
        self.lookups.append(request)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.fault is not None:
            raise self.fault
        key, number = self.key(request), next(self.numbers)
        if self.same_answers and self.meaning is not None:
            beside = self.flights.get(self.meaning(request.question.text), [])
            key = next((each for each in beside if each in self.entries), key)
        response = dedup_pb2.LookupResponse(
            policy_revision=f"{request.parent}/policy@1",
            decision=f"{request.parent}/decisions/{number}",
            max_pixels=self.max_pixels,
        )
        reads = request.cache_mode not in (answer_pb2.CACHE_MODE_BYPASS, answer_pb2.CACHE_MODE_REFRESH)
        if reads and key in self.entries:
            entry, answer = self.entries[key]
            stored = Timestamp(seconds=1)
            response.hit.MergeFrom(
                dedup_pb2.Hit(answer=answer, entry=entry, reason="EXACT", store_time=stored, explore=self.explore)
            )
            response.hit.generate_duration.FromMilliseconds(1500)
            response.evidence.image_tier = content_pb2.IMAGE_TIER_BYTES
            response.evidence.question_tier = content_pb2.QUESTION_TIER_EXACT
            return response
        image = request.image_digest + b"".join(request.page_digests)
        if image not in self.images and not (request.image_content or request.page_contents):
            response.content_wanted.SetInParent()
            return response
        miss = dedup_pb2.Miss(ticket=f"ticket {number}".encode(), reason="QUESTION_UNKNOWN", flight_key=key)
        if self.near_pair is not None:
            miss.judge.left, miss.judge.right = self.near_pair
            miss.further_pairs.extend(dedup_pb2.QuestionPairRef(left=one, right=other) for one, other in self.further)
        if self.meaning is not None:
            beside = self.flights.setdefault(self.meaning(request.question.text), [])
            miss.joinable_flight_keys.extend(each for each in beside if each != key)
            beside.append(key)
        self.tickets[miss.ticket] = key
        self.images.add(image)
        if self.wanted_pair is not None and request.judge_available and not request.HasField("judged"):
            left, right = self.wanted_pair
            response.judgement_wanted.pair.left, response.judgement_wanted.pair.right = left, right
            response.judgement_wanted.miss.CopyFrom(miss)
            response.judgement_wanted.on_image = self.on_image
            return response
        if request.judged.same_probability > 0.9:
            response.hit.answer.text = "as judged"
            response.hit.answer.finish_reason = content_pb2.FINISH_REASON_STOP
            response.hit.reason = "JUDGED"
            return response
        response.miss.CopyFrom(miss)
        return response

    async def Remember(
        self, request: dedup_pb2.RememberRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> dedup_pb2.RememberResponse:
        await self.remember_gate.wait()
        if self.fault is not None:
            raise self.fault
        self.remembered.append(request)
        key = self.tickets[request.ticket]
        entry = f"{request.parent}/entries/{len(self.remembered)}"
        if request.replace or key not in self.entries:
            self.entries[key] = (entry, request.answer)
        return dedup_pb2.RememberResponse(entry=entry, stored=True)

    async def Learn(
        self, request: dedup_pb2.LearnRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> dedup_pb2.LearnResponse:
        if self.fault is not None:
            raise self.fault
        self.learned.append(request)
        return dedup_pb2.LearnResponse(removed_count=1, labelled=True)

    async def Forget(
        self, request: dedup_pb2.ForgetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> dedup_pb2.ForgetResponse:
        raise Unsupported("NOT_HERE", "The gateway never asks for this.")

    async def ListRemovals(
        self, request: dedup_pb2.ListRemovalsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> dedup_pb2.ListRemovalsResponse:
        if self.fault is not None:
            raise self.fault
        start = int(request.page_token or 0)
        page = self.removals[start : start + 2]
        return dedup_pb2.ListRemovalsResponse(removals=page, next_page_token=str(start + len(page)))

    async def GetDedupInfo(
        self, request: dedup_pb2.GetDedupInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> dedup_pb2.GetDedupInfoResponse:
        raise Unsupported("NOT_HERE", "The gateway never asks for this.")


class CountingModel(inference_pb2_grpc.InferenceServiceServicer):
    """A model that says how often it was asked, word by word."""

    def __init__(self) -> None:
        self.requests: list[inference_pb2.GenerateRequest] = []
        self.compared: list[tuple[str, str]] = []
        self.comparisons: list[inference_pb2.CompareQuestionsRequest] = []
        self.gate = asyncio.Event()
        """Closed, it holds every answer back after its first piece."""
        self.gate.set()
        self.fault: Fault | None = None
        self.passing: list[Fault] = []
        """Faults that the next calls meet, one each."""
        self.finish = content_pb2.FINISH_REASON_STOP
        self.unfit = ""
        self.probability: float | None = 0.97
        self.can_judge = True
        self.model = MODEL
        self.running = 0
        self.cancelled = 0
        self.usage: content_pb2.Usage | None = None
        self.text: str | None = None
        """What it answers; None for the count and the question."""
        self.broken: Fault | None = None
        """The fault in the middle of an answer."""

    async def Generate(
        self, request: inference_pb2.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        self.requests.append(request)
        count = len(self.requests)
        self.running += 1
        try:
            if self.passing:
                raise self.passing.pop(0)
            if self.fault is not None:
                raise self.fault
            pieces = [f"answer {count} to: ", request.question.text]
            if self.text is not None:
                pieces = [self.text[:3], self.text[3:]]
            yield inference_pb2.GenerateResponse(text=pieces[0])
            await self.gate.wait()
            if self.broken is not None:
                raise self.broken
            yield inference_pb2.GenerateResponse(text=pieces[1])
            if request.params.thinking:
                yield inference_pb2.GenerateResponse(thinking_text="hm")
            answer = content_pb2.Answer(
                text="".join(pieces), finish_reason=self.finish, model=self.model, usage=self.usage
            )
            summary = inference_pb2.GenerateSummary(answer=answer, unfit_reason=self.unfit)
            summary.timings.decode.nanos = 5_000_000
            yield inference_pb2.GenerateResponse(summary=summary)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def CompareQuestions(
        self, request: inference_pb2.CompareQuestionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inference_pb2.CompareQuestionsResponse:
        if self.fault is not None:
            raise self.fault
        self.comparisons.append(request)
        self.compared.extend((pair.left, pair.right) for pair in request.pairs)
        verdict = inference_pb2.QUESTION_VERDICT_SAME if self.probability else inference_pb2.QUESTION_VERDICT_UNSURE
        return inference_pb2.CompareQuestionsResponse(
            judgements=[inference_pb2.QuestionJudgement(verdict=verdict, same_probability=self.probability)]
            * len(request.pairs),
            model=self.model,
        )

    async def GetInferenceInfo(
        self, request: inference_pb2.GetInferenceInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inference_pb2.GetInferenceInfoResponse:
        return inference_pb2.GetInferenceInfoResponse(engine="double", model=self.model, can_judge=self.can_judge)


@dataclass
class Running:
    """A gateway between two doubles."""

    memory: ExactMemory
    model: CountingModel
    gateway: Gateway
    channel: grpc.aio.Channel
    stub: answer_pb2_grpc.AnswerServiceAsyncStub
    dedup_server: Server
    inference_server: Server
    background: list[asyncio.Task[Any]] = field(default_factory=list)

    async def ask(
        self, image: bytes, text: str = "What is the total?", timeout: float = 10.0, **fields: Any
    ) -> answer_pb2.AnswerResponse:
        """One unary answer."""
        return await self.stub.Answer(request_for(image, text, **fields), timeout=timeout)

    async def stream(
        self, image: bytes, text: str = "What is the total?", timeout: float = 10.0, **fields: Any
    ) -> list[answer_pb2.StreamAnswerResponse]:
        """All events of one streamed answer."""
        request = answer_pb2.StreamAnswerRequest(request=request_for(image, text, **fields))
        return [event async for event in self.stub.StreamAnswer(request, timeout=timeout)]

    async def settled(self) -> None:
        """Waits until answers are stored and queues are worked off."""
        await until(lambda: not self.gateway.background.tasks)


def request_for(image: bytes, text: str, **fields: Any) -> answer_pb2.AnswerRequest:
    """A request for an answer about image bytes."""
    history = fields.pop("history", ())
    question = content_pb2.Question(text=text, history=history)
    return answer_pb2.AnswerRequest(image=content_pb2.Image(content=image), question=question, **fields)


async def until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    """Waits for a condition, checking often. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


async def serve_double(stack: AsyncExitStack, name: str, add: Callable[[grpc.aio.Server], None]) -> Server:
    """Starts a double on a free port."""
    server = Server(name, Serving(listen="127.0.0.1:0", grace=0.2), [Registration(f"askonce.v1.{name}", add)])
    await server.start()
    stack.push_async_callback(server.server.stop, 0)
    return server


@asynccontextmanager
async def running(
    settings: Settings | None = None,
    authenticator: Authenticator | None = None,
    beside: Running | None = None,
    dedup: str = "",
) -> AsyncIterator[Running]:
    """A gateway over gRPC with both its peers, with those of another gateway, or with a dedup of the caller's."""
    memory, model = (ExactMemory(), CountingModel()) if beside is None else (beside.memory, beside.model)
    async with AsyncExitStack() as stack:
        memories = await serve_double(
            stack, "DedupService", lambda server: dedup_pb2_grpc.add_DedupServiceServicer_to_server(memory, server)
        )
        inference = await serve_double(
            stack,
            "InferenceService",
            lambda server: inference_pb2_grpc.add_InferenceServiceServicer_to_server(model, server),
        )
        settings = replace(
            settings or Settings(),
            serving=Serving(listen="127.0.0.1:0", grace=0.5),
            dedup=Dialing(target=dedup or memories.address),
            inference=Dialing(target=inference.address),
        )
        gateway = Gateway(settings, authenticator or Everybody(), [])
        await gateway.server.start()
        # As in `serving.run`: what `prepare` started ends after the last call.
        await gateway.prepare(stack)
        stack.push_async_callback(gateway.server.server.stop, 0.5)
        await gateway.server.announce()
        channel = grpc.aio.insecure_channel(
            gateway.server.address, options=[("grpc.max_send_message_length", 32 * 2**20)]
        )
        stack.push_async_callback(channel.close)
        stub: answer_pb2_grpc.AnswerServiceAsyncStub = answer_pb2_grpc.AnswerServiceStub(channel)
        yield Running(memory, model, gateway, channel, stub, memories, inference)


async def failure(call: Any) -> faults.Fault:
    """The fault that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return faults.from_error(caught.value)


async def refused(system: Running, request: answer_pb2.AnswerRequest) -> faults.Fault:
    """The fault of a refused request; nothing was stored or asked, and the gateway still answers."""
    await system.settled()
    asked, stored = len(system.model.requests), len(system.memory.remembered)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.stub.Answer(request, timeout=10)
    fault = faults.from_error(caught.value)
    assert len(system.model.requests) == asked
    await system.settled()
    assert len(system.memory.remembered) == stored
    alive = await system.ask(picture(), "Is anybody there?")
    assert alive.answer.text
    await system.settled()
    return fault
