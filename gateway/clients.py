"""The two services that the gateway calls: every call has a timeout, every failure is a fault."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc

from askonce import faults, telemetry
from askonce.faults import Fault, Unreachable
from askonce.v1 import dedup_pb2, dedup_pb2_grpc, inference_pb2, inference_pb2_grpc
from gateway.replicas import REST, Replicas

R = TypeVar("R")

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


class DedupClient:
    """The dedup service, whichever of its replicas answers."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas

    async def lookup(
        self, request: dedup_pb2.LookupRequest, timeout: float, key: bytes = b""
    ) -> dedup_pb2.LookupResponse:
        """Looks a request up at the replica for the image's digest. Raises DedupDown when dedup can't say, and the
        fault by which it refuses the request."""
        try:
            return await self.call(
                lambda stub, left: stub.Lookup(request, timeout=left, metadata=telemetry.outgoing()),
                key,
                timeout,
                request.parent,
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in BLAMELESS:
                raise faults.from_error(error) from error
            raise DedupDown(error.code().name) from error

    async def remember(
        self, request: dedup_pb2.RememberRequest, timeout: float, key: bytes = b""
    ) -> dedup_pb2.RememberResponse:
        """Stores an answer. Raises Fault."""
        return await self.ask(
            lambda stub, left: stub.Remember(request, timeout=left, metadata=telemetry.outgoing()),
            key,
            timeout,
            request.parent,
        )

    async def learn(self, request: dedup_pb2.LearnRequest, timeout: float) -> dedup_pb2.LearnResponse:
        """Reports evidence. Raises Fault."""
        return await self.ask(
            lambda stub, left: stub.Learn(request, timeout=left, metadata=telemetry.outgoing()),
            b"",
            timeout,
            request.parent,
        )

    async def removals(self, request: dedup_pb2.ListRemovalsRequest, timeout: float) -> dedup_pb2.ListRemovalsResponse:
        """What was purged lately. Raises Fault."""
        return await self.ask(
            lambda stub, left: stub.ListRemovals(request, timeout=left, metadata=telemetry.outgoing()), b"", timeout, ""
        )

    async def ask(
        self,
        method: Callable[[dedup_pb2_grpc.DedupServiceAsyncStub, float], Awaitable[R]],
        key: bytes,
        timeout: float,
        tenant: str,
    ) -> R:
        """As `call`, for what has to succeed. Raises Fault."""
        try:
            return await self.call(method, key, timeout, tenant)
        except DedupDown as down:
            raise unreachable("DEDUP_UNAVAILABLE") from down
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, "DEDUP_UNAVAILABLE") from error

    async def call(
        self,
        method: Callable[[dedup_pb2_grpc.DedupServiceAsyncStub, float], Awaitable[R]],
        key: bytes,
        timeout: float,
        tenant: str,
    ) -> R:
        """Calls a replica for a tenant; when it can't be reached, the next one. Raises DedupDown when none may be
        asked, and AioRpcError."""
        until = time.monotonic() + timeout
        tried: set[str] = set()
        failed: grpc.aio.AioRpcError | None = None
        while (left := until - time.monotonic()) > 0:
            replica = self.replicas.choose(key, tried, tenant)
            if replica is None:
                break
            tried.add(replica.name)
            replica.running += 1
            try:
                response = await method(replica.stub, left)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    replica.breaker.failed(
                        tenant
                    )  # only lateness costs anything: a refused connection is known at once
                elif error.code() in BLAMELESS:
                    replica.breaker.succeeded(tenant)
                if not is_transport(error):
                    raise
                failed = error
                replica.down_until = time.monotonic() + REST
            else:
                replica.breaker.succeeded(tenant)
                return response
            finally:
                replica.running -= 1
        if failed is not None:
            raise failed
        raise DedupDown("SKIPPED")


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

    async def compare(
        self,
        pairs: list[tuple[str, str]],
        timeout: float,
        on: inference_pb2.CompareQuestionsRequest | None = None,
    ) -> inference_pb2.CompareQuestionsResponse:
        """Has the model judge pairs of questions, `on` the image that a request without pairs names. Raises Fault."""
        request = inference_pb2.CompareQuestionsRequest(
            pairs=[inference_pb2.QuestionPair(left=left, right=right) for left, right in pairs]
        )
        if on is not None:
            request.MergeFrom(on)
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


def is_transport(error: grpc.aio.AioRpcError) -> bool:
    """Whether a peer could not be reached, rather than said something."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and faults.reason_of(error) == error.code().name


def fault_of(error: grpc.aio.AioRpcError, reason: str) -> Fault:
    """The fault that a peer sent; one of the transport's own gets the reason `reason` and a hint to retry."""
    return unreachable(reason) if is_transport(error) else faults.from_error(error)


def unreachable(reason: str) -> Unreachable:
    """The fault of a peer that can't be reached."""
    service = reason.removesuffix("_UNAVAILABLE").lower()
    return Unreachable(reason, f"The {service} service does not answer; try again shortly.", retry_after=1.0)
