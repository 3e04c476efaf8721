"""`askonce.v1.InferenceService`: admission, deadlines and errors around whichever engine is hosted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import grpc

from askonce import fair, faults, telemetry
from askonce.times import to_duration
from askonce.v1 import inference_pb2, inference_pb2_grpc
from inference_service import wire
from inference_service.admission import Admission
from inference_service.engine import (
    Ask,
    BadAskError,
    Completed,
    Engine,
    EngineBusyError,
    EngineError,
    EngineUnavailableError,
    Piece,
)
from inference_service.metrics import (
    ANSWERS,
    BUSY,
    CAPACITY,
    EXPECTED_WAIT,
    FIRST_TOKEN,
    JUDGEMENTS,
    QUEUED,
    RUNNING,
    TOKEN,
    TOKENS,
)
from inference_service.settings import Limits

T = TypeVar("T")

NAME = "askonce.v1.InferenceService"


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """Serves one engine through one admission queue."""

    def __init__(self, engine: Engine, admission: Admission, limits: Limits, timeout: float) -> None:
        self.engine = engine
        self.admission = admission
        self.limits = limits
        self.timeout = timeout
        QUEUED.set_function(lambda: admission.queued)
        RUNNING.set_function(lambda: admission.running)
        EXPECTED_WAIT.set_function(admission.expected_wait)
        CAPACITY.set(admission.capacity)

    def add(self, server: grpc.aio.Server) -> None:
        """Registers the service."""
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, server)

    async def Generate(
        self,
        request: inference_pb2.GenerateRequest,
        context: grpc.aio.ServicerContext[inference_pb2.GenerateRequest, inference_pb2.GenerateResponse],
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Waits for a place and streams the answer."""
        fair.share.set(request.cache_scope)
        deadline = self.deadline(context)
        ask = wire.from_generate(request, self.limits, self.engine.info(), telemetry.request_id(), deadline)
        async with aclosing(self.answer(ask, deadline)) as events:
            async for event in events:
                yield event

    async def answer(self, ask: Ask, deadline: float) -> AsyncGenerator[inference_pb2.GenerateResponse, None]:
        """The events of one answer. Engine errors leave as faults; at the deadline the engine's work is cancelled."""
        try:
            async with self.admission.place(background=ask.background, deadline=deadline) as wait:
                started, first = time.monotonic(), None
                items = self.engine.generate(ask)
                try:
                    async for item in until(items, deadline):
                        if isinstance(item, Completed):
                            completed = item if ask.sampling.thinking else replace(item, thinking_text="")
                        elif ask.sampling.thinking or not item.thinking:
                            if first is None:
                                first = time.monotonic()
                                FIRST_TOKEN.observe(first - started)
                            yield wire.to_piece(item)
                finally:
                    await close(items)
                    BUSY.inc(time.monotonic() - started)
        except EngineError as error:
            raise to_fault(error) from error
        ANSWERS.labels(completed.finish.value).inc()
        count_tokens(completed)
        telemetry.note(finish=completed.finish.value, queue_ms=round(wait * 1000, 1), background=ask.background)
        yield wire.to_summary(completed, self.engine.info(), wait, time.time())

    async def CompareQuestions(
        self,
        request: inference_pb2.CompareQuestionsRequest,
        context: grpc.aio.ServicerContext[
            inference_pb2.CompareQuestionsRequest, inference_pb2.CompareQuestionsResponse
        ],
    ) -> inference_pb2.CompareQuestionsResponse:
        """Has the engine judge pairs of questions; they take a place like any other work."""
        fair.share.set(request.cache_scope)
        pairs = wire.from_pairs(request, self.limits)
        on = wire.from_judged_on(request, self.limits)
        info = self.engine.info()
        if not info.can_judge:
            unsure = inference_pb2.QuestionJudgement(verdict=inference_pb2.QUESTION_VERDICT_UNSURE)
            return inference_pb2.CompareQuestionsResponse(judgements=[unsure] * len(pairs))
        deadline = self.deadline(context)
        try:
            async with self.admission.place(deadline=deadline):
                judgements = await in_time(self.engine.compare(pairs, deadline, on), deadline)
        except EngineError as error:
            raise to_fault(error) from error
        telemetry.note(pairs=len(pairs), on_image=on is not None)
        for each in judgements:
            JUDGEMENTS.labels(each.verdict).inc()
        return inference_pb2.CompareQuestionsResponse(
            judgements=[wire.to_judgement(each) for each in judgements], model=info.model
        )

    async def GetInferenceInfo(
        self,
        request: inference_pb2.GetInferenceInfoRequest,
        context: grpc.aio.ServicerContext[
            inference_pb2.GetInferenceInfoRequest, inference_pb2.GetInferenceInfoResponse
        ],
    ) -> inference_pb2.GetInferenceInfoResponse:
        """Describes engine and queue."""
        sizes = wire.from_sizes(request)
        info = self.engine.info()
        counts = [self.engine.image_tokens(width, height) for width, height in sizes]
        return inference_pb2.GetInferenceInfoResponse(
            engine=info.engine,
            model=info.model,
            model_revision=info.revision,
            dtype=info.dtype,
            queue_limit=self.admission.limit,
            queued_count=self.admission.queued,
            running_count=self.admission.running,
            expected_wait=to_duration(self.admission.expected_wait()),
            max_tokens_limit=info.max_tokens_limit,
            max_pixels_limit=info.max_pixels_limit,
            image_token_counts=[count for count in counts if count is not None],
            caches=[wire.to_cache(state) for state in info.caches],
            can_judge=info.can_judge,
            versions=info.versions,
            supported_params=sorted(info.supported_params),
            max_images=info.max_images,
        )

    def deadline(self, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        """The moment, on the monotonic clock, at which the call must have ended."""
        remaining = context.time_remaining()
        return time.monotonic() + (self.timeout if remaining is None else min(remaining, self.timeout))


def count_tokens(completed: Completed) -> None:
    """Counts the tokens of an answer and how fast they came."""
    usage, times = completed.usage, completed.times
    for kind, count in (
        ("input", usage.input_tokens),
        ("output", usage.output_tokens),
        ("cached", usage.cached_tokens),
    ):
        TOKENS.labels(kind).inc(count)
    if usage.output_tokens > 1 and times.decode is not None:
        TOKEN.observe(times.decode / (usage.output_tokens - 1))


class Alarm:
    """Ends waiting at a deadline, with one timer for all the waiting of a call."""

    def __init__(self, deadline: float) -> None:
        self.late = False
        self.waiting: asyncio.Task[Any] | None = None
        self.timer = asyncio.get_running_loop().call_later(max(0.0, deadline - time.monotonic()), self.ring)

    def ring(self) -> None:
        """The deadline is there: what is being waited for just now is cancelled."""
        self.late = True
        if self.waiting is not None:
            self.waiting.cancel()

    async def wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """Begins `work` and waits for it. Raises TooLate from the deadline on."""
        if self.late:
            raise too_late()
        return await self.watched(work)

    async def watched(self, work: Callable[[], Awaitable[T]]) -> T:
        """Waits for `work` and tells the alarm's cancelling from everybody else's."""
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self.waiting = task
        try:
            return await work()
        except asyncio.CancelledError as error:
            if self.late and task.uncancel() <= cancelling:  # ours alone: whoever else cancels the call has the say
                raise too_late() from error
            raise
        finally:
            self.waiting = None


def too_late() -> faults.TooLate:
    """The fault of a passed deadline."""
    return faults.TooLate("DEADLINE_EXCEEDED", "The deadline passed before the answer was complete.")


async def until(items: AsyncIterator[Piece | Completed], deadline: float) -> AsyncIterator[Piece | Completed]:
    """The items up to and including the Completed, each in time."""
    alarm = Alarm(deadline)
    try:
        while True:
            item = await alarm.wait(items.__anext__)
            yield item
            if isinstance(item, Completed):
                return
    finally:
        alarm.timer.cancel()


async def in_time(work: Awaitable[T], deadline: float) -> T:
    """Awaits `work` until the deadline, then cancels it and raises TooLate."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await work
    except TimeoutError as error:
        raise too_late() from error


async def close(items: AsyncIterator[Piece | Completed]) -> None:
    """Ends an engine's stream, which cancels what is left of its work."""
    ending = getattr(items, "aclose", None)
    if ending is not None:
        await ending()


def to_fault(error: EngineError) -> faults.Fault:
    """The fault that a client sees for an engine's error."""
    if error.reason == "DEADLINE_EXCEEDED":
        return faults.TooLate(error.reason, str(error), retry_after=error.retry_after)
    kinds: dict[type[EngineError], type[faults.Fault]] = {
        EngineBusyError: faults.Exhausted,
        EngineUnavailableError: faults.Unreachable,
        BadAskError: faults.InvalidInput,
    }
    kind = next((fault for engine, fault in kinds.items() if isinstance(error, engine)), faults.Fault)
    return kind(error.reason, str(error), retry_after=error.retry_after)
