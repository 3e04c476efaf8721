"""An inference service that answers at once, for benchmarks that measure everything but the model.

It speaks the same protocol over the same server as the real one. The answer names the image and the question, so that
whoever gets it can check that it is the right one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from askonce import serving, telemetry
from askonce.access import Access, Guard
from askonce.serving import Registration, Server, Serving
from askonce.settings import load
from askonce.v1 import content_pb2, inference_pb2, inference_pb2_grpc

NAME = "askonce.v1.InferenceService"


def right_answer(image_digest: bytes, question: str) -> str:
    """The only right answer to a question about an image here."""
    return f"{hashlib.sha256(image_digest + question.encode()).hexdigest()[:12]} is what {question!r} is about"


@dataclass(frozen=True, slots=True)
class Settings:
    """What this service can be told; section `inference`, as the real one."""

    delay: float = 0.0
    """Seconds before the answer."""
    serving: Serving = field(default_factory=Serving)
    access: Access = field(default_factory=Access)


class ReadyModel(inference_pb2_grpc.InferenceServiceServicer):
    """Answers after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        self.delay = delay

    async def Generate(  # noqa: N802 - the name is the protocol's
        self, request: inference_pb2.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        text = right_answer(request.image_digest, request.question.text)
        await asyncio.sleep(self.delay)
        yield inference_pb2.GenerateResponse(text=text)
        answer = content_pb2.Answer(text=text, finish_reason=content_pb2.FINISH_REASON_STOP, model="ready")
        answer.create_time.GetCurrentTime()
        yield inference_pb2.GenerateResponse(summary=inference_pb2.GenerateSummary(answer=answer))

    async def CompareQuestions(  # noqa: N802 - the name is the protocol's
        self, request: inference_pb2.CompareQuestionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inference_pb2.CompareQuestionsResponse:
        unsure = inference_pb2.QuestionJudgement(verdict=inference_pb2.QUESTION_VERDICT_UNSURE)
        return inference_pb2.CompareQuestionsResponse(judgements=[unsure] * len(request.pairs))

    async def GetInferenceInfo(  # noqa: N802 - the name is the protocol's
        self, request: inference_pb2.GetInferenceInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inference_pb2.GetInferenceInfoResponse:
        return inference_pb2.GetInferenceInfoResponse(engine="ready", model="ready")


async def serve(chosen: Settings) -> None:
    """Serves until a signal."""
    model = ReadyModel(chosen.delay)

    def add(server: grpc.aio.Server) -> None:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(model, server)

    guard = await asyncio.to_thread(Guard, chosen.access)
    await serving.run(Server("inference", chosen.serving, [Registration(NAME, add)], guard=guard))


def main() -> None:
    """Runs the service."""
    telemetry.configure("inference", telemetry.Telemetry(log_level="warning"))
    asyncio.run(serve(load(Settings, "inference")))


if __name__ == "__main__":
    main()
