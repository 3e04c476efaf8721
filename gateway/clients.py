"""The two services that the gateway calls: every call has a timeout, every failure is a fault."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import grpc

from askonce import faults, telemetry
from askonce.faults import Fault, Unreachable
from askonce.v1 import dedup_pb2, dedup_pb2_grpc, inference_pb2, inference_pb2_grpc

BLAMELESS = frozenset(
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    )
)
"""Codes by which dedup refuses the request itself; every other failure is its own and the gateway goes on without."""


class DedupDown(Exception):  # noqa: N818 - a state, not a fault that a client sees
    """Dedup did not answer properly; `reason` says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Breaker:
    """Stops asking a peer that keeps being late: after `failures` in a row one call in `rest` seconds goes through."""

    def __init__(self, failures: int = 5, rest: float = 1.0) -> None:
        self.failures = failures
        self.rest = rest
        self.count = 0
        self.next = 0.0

    def closed(self) -> bool:
        """Whether a call may go through now."""
        if self.count < self.failures:
            return True
        now = time.monotonic()
        if now < self.next:
            return False
        self.next = now + self.rest
        return True

    def succeeded(self) -> None:
        """Notes a call that was answered."""
        self.count = 0

    def failed(self) -> None:
        """Notes a call that was not answered in time."""
        self.count += 1
        if self.count == self.failures:
            self.next = time.monotonic() + self.rest


class DedupClient:
    """The dedup service."""

    def __init__(self, channel: grpc.aio.Channel, breaker: Breaker | None = None) -> None:
        self.stub: dedup_pb2_grpc.DedupServiceAsyncStub = dedup_pb2_grpc.DedupServiceStub(channel)
        self.breaker = breaker or Breaker()

    async def lookup(self, request: dedup_pb2.LookupRequest, timeout: float) -> dedup_pb2.LookupResponse:
        """Looks a request up. Raises DedupDown when dedup can't say, and the fault by which it refuses the request."""
        if not self.breaker.closed():
            raise DedupDown("SKIPPED")
        try:
            response = await self.stub.Lookup(request, timeout=timeout, metadata=telemetry.outgoing())
        except grpc.aio.AioRpcError as error:
            if error.code() in BLAMELESS:
                self.breaker.succeeded()
                raise faults.from_error(error) from error
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self.breaker.failed()  # only lateness costs anything: a refused connection is known at once
            raise DedupDown(error.code().name) from error
        self.breaker.succeeded()
        return response

    async def remember(self, request: dedup_pb2.RememberRequest, timeout: float) -> dedup_pb2.RememberResponse:
        """Stores an answer. Raises Fault."""
        try:
            return await self.stub.Remember(request, timeout=timeout, metadata=telemetry.outgoing())
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, "DEDUP_UNAVAILABLE") from error

    async def learn(self, request: dedup_pb2.LearnRequest, timeout: float) -> dedup_pb2.LearnResponse:
        """Reports evidence. Raises Fault."""
        try:
            return await self.stub.Learn(request, timeout=timeout, metadata=telemetry.outgoing())
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, "DEDUP_UNAVAILABLE") from error


class InferenceClient:
    """The inference service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)

    async def generate(
        self, request: inference_pb2.GenerateRequest, timeout: float
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Yields the events of a generation; closing the iterator cancels it. Raises Fault."""
        call = self.stub.Generate(request, timeout=timeout, metadata=telemetry.outgoing())
        try:
            async for event in call:
                yield event
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, "INFERENCE_UNAVAILABLE") from error
        finally:
            call.cancel()

    async def compare(self, pairs: list[tuple[str, str]], timeout: float) -> inference_pb2.CompareQuestionsResponse:
        """Has the model judge pairs of questions. Raises Fault."""
        request = inference_pb2.CompareQuestionsRequest(
            pairs=[inference_pb2.QuestionPair(left=left, right=right) for left, right in pairs]
        )
        try:
            return await self.stub.CompareQuestions(request, timeout=timeout, metadata=telemetry.outgoing())
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, "INFERENCE_UNAVAILABLE") from error

    async def info(self, timeout: float) -> inference_pb2.GetInferenceInfoResponse:
        """Describes the engine. Raises Fault."""
        try:
            request = inference_pb2.GetInferenceInfoRequest()
            return await self.stub.GetInferenceInfo(request, timeout=timeout, metadata=telemetry.outgoing())
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, "INFERENCE_UNAVAILABLE") from error


def fault_of(error: grpc.aio.AioRpcError, unreachable: str) -> Fault:
    """The fault that a peer sent; one of the transport's own gets the reason `unreachable` and a hint to retry."""
    fault = faults.from_error(error)
    if isinstance(fault, Unreachable) and fault.reason == error.code().name:
        service = unreachable.removesuffix("_UNAVAILABLE").lower()
        return Unreachable(unreachable, f"The {service} service does not answer; try again shortly.", retry_after=1.0)
    return fault
