"""`askonce.v1.AnswerService` on top of the use case."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from askonce import telemetry
from askonce.interceptor import current_metadata
from askonce.v1 import answer_pb2, answer_pb2_grpc
from gateway.admission import FEEDBACK, Admission
from gateway.answering import Answering
from gateway.feedback import Feedback

NAME = "askonce.v1.AnswerService"

Context = grpc.aio.ServicerContext[Any, Any]


class AnswerService(answer_pb2_grpc.AnswerServiceServicer):
    """The gRPC face of the gateway."""

    def __init__(self, admission: Admission, answering: Answering, feedback: Feedback) -> None:
        self.admission = admission
        self.answering = answering
        self.feedback = feedback

    def add(self, server: grpc.aio.Server) -> None:
        """Adds this service to a server."""
        answer_pb2_grpc.add_AnswerServiceServicer_to_server(self, server)

    async def Answer(self, request: answer_pb2.AnswerRequest, context: Context) -> answer_pb2.AnswerResponse:
        async with self.admission.visit(current_metadata.get(), request.parent) as visit:
            return await self.answering.answer(visit.bounded(request), visit.tenant, context.time_remaining())

    async def StreamAnswer(
        self, request: answer_pb2.StreamAnswerRequest, context: Context
    ) -> AsyncIterator[answer_pb2.StreamAnswerResponse]:
        async with self.admission.visit(current_metadata.get(), request.request.parent) as visit:
            async for event in self.answering.stream(
                visit.bounded(request.request), visit.tenant, context.time_remaining()
            ):
                yield event

    async def SubmitFeedback(
        self, request: answer_pb2.SubmitFeedbackRequest, context: Context
    ) -> answer_pb2.SubmitFeedbackResponse:
        parent = self.feedback.tenant_of(request)
        async with self.admission.visit(current_metadata.get(), parent, FEEDBACK) as visit:
            telemetry.note(decision=request.decision, verdict=answer_pb2.Verdict.Name(request.verdict))
            return await self.feedback.submit(request, visit.tenant, context.time_remaining())
