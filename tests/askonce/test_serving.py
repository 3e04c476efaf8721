"""A served call ends in a clear status, with one line in the log, and the server ends without losing calls."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from askonce import dialing, faults, serving, telemetry
from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2

NAME = "askonce.v1.AnswerService"
CONTEXT = grpc.aio.ServicerContext[Any, Any]


class Sample(answer_pb2_grpc.AnswerServiceServicer):
    """Behaves as the question says."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.seen = ""

    async def Answer(self, request: answer_pb2.AnswerRequest, context: CONTEXT) -> answer_pb2.AnswerResponse:
        self.seen = telemetry.request_id()
        telemetry.note(source="CACHE")
        match request.question.text:
            case "fault":
                raise faults.Exhausted("FULL", "Try later.", metadata={"limit": "3"}, retry_after=1.5)
            case "field":
                raise faults.InvalidInput("QUESTION_EMPTY", "Ask something.", field="question.text")
            case "bug":
                raise KeyError("the secret detail")
            case "wait":
                await self.release.wait()
        return answer_pb2.AnswerResponse(request_id=telemetry.request_id())

    async def StreamAnswer(
        self, request: answer_pb2.StreamAnswerRequest, context: CONTEXT
    ) -> AsyncIterator[answer_pb2.StreamAnswerResponse]:
        yield answer_pb2.StreamAnswerResponse(text="one")
        if request.request.question.text == "fault":
            raise faults.Unreachable("MODEL_UNAVAILABLE", "The model is away.", retry_after=2)
        yield answer_pb2.StreamAnswerResponse(text="two")


@asynccontextmanager
async def served(**changes: Any) -> AsyncIterator[tuple[serving.Server, Sample, grpc.aio.Channel]]:
    sample = Sample()
    registration = serving.Registration(
        NAME, lambda server: answer_pb2_grpc.add_AnswerServiceServicer_to_server(sample, server)
    )
    server = serving.Server("sample", serving.Serving(**changes), [registration])
    await server.start()
    channel = dialing.dial(dialing.Dialing(target=server.address))
    try:
        yield server, sample, channel
    finally:
        await channel.close()
        await server.server.stop(0)


def ask(text: str) -> answer_pb2.AnswerRequest:
    return answer_pb2.AnswerRequest(question=content_pb2.Question(text=text))


async def failure(channel: grpc.aio.Channel, text: str) -> faults.Fault:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer_pb2_grpc.AnswerServiceStub(channel).Answer(ask(text), timeout=60)
    return faults.from_error(caught.value)


async def test_a_fault_reaches_the_client_whole() -> None:
    """Status code, reason, metadata and retry delay of a fault arrive as they were raised."""
    async with served() as (_, _, channel):
        fault = await failure(channel, "fault")
    assert (type(fault), fault.reason, fault.metadata) == (faults.Exhausted, "FULL", {"limit": "3"})
    assert fault.retry_after == 1.5
    assert fault.message == "Try later."


async def test_a_fault_names_the_field() -> None:
    """BadRequest names the field at fault."""
    async with served() as (_, _, channel):
        fault = await failure(channel, "field")
    assert (fault.code, fault.field) == (grpc.StatusCode.INVALID_ARGUMENT, "question.text")


async def test_a_bug_keeps_its_text() -> None:
    """An exception that nobody named becomes INTERNAL; its text goes to the log and not to the client."""
    async with served() as (_, sample, channel):
        with capture_logs() as logs:
            fault = await failure(channel, "bug")
        assert fault.code is grpc.StatusCode.INTERNAL
        assert "secret" not in fault.message
        assert sample.seen in fault.message
    assert any(line["event"] == "bug" for line in logs)


async def test_a_stream_ends_in_a_status() -> None:
    """An error after the first piece ends the stream as a status, not in-band."""
    async with served() as (_, _, channel):
        stub = answer_pb2_grpc.AnswerServiceStub(channel)
        pieces: list[str] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in stub.StreamAnswer(answer_pb2.StreamAnswerRequest(request=ask("fault")), timeout=5):
                pieces.append(event.text)
    assert pieces == ["one"]
    assert faults.reason_of(caught.value) == "MODEL_UNAVAILABLE"


async def test_one_line_a_request() -> None:
    """Each call writes one line with its id, code, duration and what the handler noted."""
    async with served() as (_, _, channel):
        with capture_logs() as logs:
            stub = answer_pb2_grpc.AnswerServiceStub(channel)
            metadata = ((telemetry.REQUEST_ID, "mine-1"),)
            response = await stub.Answer(ask("hello"), timeout=5, metadata=metadata)
    assert response.request_id == "mine-1"
    lines = [line for line in logs if line["event"] == "request"]
    assert len(lines) == 1
    assert {"request_id": "mine-1", "code": "OK", "source": "CACHE", "method": "Answer"}.items() <= lines[0].items()


@pytest.mark.parametrize("proposed", ["", "x" * 65, "two words", "line\u2028break"])
async def test_an_unsafe_request_id_is_replaced(proposed: str) -> None:
    """A caller can't write into the log through its request id."""
    accepted = telemetry.accept_request_id(proposed)
    assert accepted != proposed
    assert telemetry.SAFE_ID.fullmatch(accepted)


async def test_health_starts_not_serving() -> None:
    """Until it is announced a service is NOT_SERVING, each by name and as a whole."""
    async with served() as (server, _, channel):
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", NAME):
            status = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert status.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.announce()
        status = await health.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=5)
        assert status.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_message_above_the_limit_is_refused() -> None:
    """A message above the stated limit ends in RESOURCE_EXHAUSTED and the server lives on."""
    async with served(max_message_bytes=1000) as (_, _, channel):
        assert (await failure(channel, "x" * 2000)).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        stub = answer_pb2_grpc.AnswerServiceStub(channel)
        assert (await stub.Answer(ask("hello"), timeout=5)).request_id


async def test_run_drains_on_sigterm(tmp_path: Path) -> None:
    """On SIGTERM a call under way still gets its answer, and what was prepared is closed afterwards."""
    sample, closed = Sample(), []
    registration = serving.Registration(
        NAME, lambda server: answer_pb2_grpc.add_AnswerServiceServicer_to_server(sample, server)
    )
    port_file = tmp_path / "port"
    server = serving.Server("sample", serving.Serving(port_file=port_file), [registration])

    async def prepare(stack: AsyncExitStack) -> None:
        stack.callback(closed.append, "model")

    running = asyncio.create_task(serving.run(server, prepare))
    while not await asyncio.to_thread(port_file.exists):
        await asyncio.sleep(0.01)
    channel = dialing.dial(dialing.Dialing(target=await asyncio.to_thread(port_file.read_text)))
    call = asyncio.ensure_future(answer_pb2_grpc.AnswerServiceStub(channel).Answer(ask("wait"), timeout=5))
    while not sample.seen:
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)
    assert closed == []
    sample.release.set()
    assert (await call).request_id
    await running
    assert closed == ["model"]
    await channel.close()


def test_half_a_key_pair_is_refused() -> None:
    """TLS needs certificate and key together."""
    with pytest.raises(ValueError, match="both"):
        serving.server_credentials(serving.Tls(certificate=Path("c.pem")))


def test_an_empty_target_is_refused() -> None:
    """A peer must be named."""
    with pytest.raises(ValueError, match="target"):
        dialing.dial(dialing.Dialing())


@pytest.mark.parametrize("level", ["loud", ""])
def test_an_unknown_log_level_is_refused(level: str) -> None:
    """A wrong log level stops the start."""
    with pytest.raises(ValueError, match="log_level"):
        telemetry.configure("sample", telemetry.Telemetry(log_level=level))
    structlog.reset_defaults()
