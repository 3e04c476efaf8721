"""Both clients against a running gateway: answers, streams, feedback, jobs, and errors that say what to do."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

import askonce
from askonce.client.blocking import Client
from askonce.faults import Exhausted, Unreachable
from gateway.settings import Jobs, Settings
from tests.gateway.doubles import Running, running
from tests.gateway.pictures import picture

Call = Callable[..., Any]


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which client the test uses."""
    return str(request.param)


async def using(kind: str, system: Running, work: Call, **settings: Any) -> Any:
    """Runs `work(call)` where `call(method, …)` awaits the method of either client."""
    address = system.gateway.server.address
    if kind == "asyncio":
        async with askonce.AsyncClient(address, **settings) as client:

            async def call(method: str, *arguments: Any, **named: Any) -> Any:
                found = getattr(client, method)(*arguments, **named)
                if method == "stream":
                    return [piece async for piece in found], found.answer
                return [job async for job in found] if method == "jobs" else await found

            return await work(call)
    with Client(address, **settings) as blocking:

        def waited(method: str, *arguments: Any, **named: Any) -> Any:
            found = getattr(blocking, method)(*arguments, **named)
            if method == "stream":
                return list(found), found.answer
            return list(found) if isinstance(found, Iterator) else found

        async def threaded(method: str, *arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(waited, method, *arguments, **named)

        return await work(threaded)


async def stored(system: Running) -> None:
    """Waits until the gateway's background work is done."""
    await system.gateway.background.drain(10)


async def test_ask_twice(system: Running, kind: str, tmp_path: Path) -> None:
    """The first answer is the model's, the second comes from memory, whichever way the image is given."""
    path = tmp_path / "page.png"
    path.write_bytes(picture())

    async def work(call: Call) -> None:
        first = await call("ask", path, "What is the total?", tenant="acme")
        await stored(system)
        second = await call("ask", picture(), "What is the total?", tenant="acme")
        assert (first.source, second.source, second.cached) == ("model", "cache", True)
        assert first.text == second.text
        assert second.reason == "EXACT"
        assert first.finish_reason == "STOP"
        assert first.request_id != second.request_id

    await using(kind, system, work)


async def test_stream(system: Running, kind: str) -> None:
    """The pieces joined are the answer, which is there whole when they have ended."""

    async def work(call: Call) -> None:
        pieces, answer = await call("stream", picture(), "What is the date?")
        assert "".join(pieces) == answer.text
        assert answer.source == "model"

    await using(kind, system, work)


async def test_feedback(system: Running, kind: str) -> None:
    """A verdict reaches memory with its text; a wrong answer is reported as removed."""

    async def work(call: Call) -> None:
        answer = await call("ask", picture(), "What is the tax?")
        await stored(system)
        await call("feedback", answer, right=False, correct_text="3.20")
        assert system.memory.learned[-1].feedback.correct_text == "3.20"
        await call("feedback", answer.decision, right=True)

    await using(kind, system, work)


async def test_jobs(kind: str, tmp_path: Path) -> None:
    """A queued question is answered, listed, and safe to submit twice; a job that is done can't be cancelled away."""
    async with running(Settings(jobs=Jobs(folder=tmp_path / "jobs"))) as system:

        async def work(call: Call) -> None:
            job = await call("submit", picture(), "What is the total?", job_id="mine")
            again = await call("submit", picture(), "What is the total?", job_id="mine")
            assert job.name == again.name
            done = await call("wait", job, timeout=60, poll=0.02)
            assert (done.state, done.done) == ("SUCCEEDED", True)
            assert done.answer.text.startswith("answer")
            assert [each.name for each in await call("jobs")] == [job.name]
            assert (await call("cancel", job.name)).state == "SUCCEEDED"

        await using(kind, system, work)


async def test_errors_say_what_to_do(system: Running, kind: str) -> None:
    """A refused call is an exception of its kind with reason, field, limits, and the id to ask about."""

    async def work(call: Call) -> None:
        with pytest.raises(askonce.InvalidRequestError) as refused:
            await call("ask", picture(), "x" * 5_000)
        error = refused.value
        assert (error.reason, error.field) == ("QUESTION_TOO_LONG", "question.text")
        assert len(error.request_id) == 16
        assert error.request_id in str(error)
        with pytest.raises(askonce.NotFoundError) as missing:
            await call("ask", picture(), "never asked", cache_mode="only_if_cached")
        assert missing.value.reason == "NOT_CACHED"
        with pytest.raises(TypeError):
            await call("ask", 3, "x")
        with pytest.raises(FileNotFoundError):
            await call("ask", "no/such/file.png", "x")

    await using(kind, system, work)


async def test_what_may_succeed_is_tried_again(system: Running, kind: str) -> None:
    """After UNAVAILABLE and RESOURCE_EXHAUSTED the call is repeated, as late as the server asks and no oftener than
    allowed; the error of the last attempt is raised."""
    system.model.passing.extend([Exhausted("QUEUE_FULL", "full", retry_after=0.01)] * 2)

    async def work(call: Call) -> None:
        assert (await call("ask", picture(2), "What is the total?")).source == "model"
        system.model.fault = Unreachable("ENGINE_STUCK", "stuck")
        with pytest.raises(askonce.UnavailableError):
            await call("ask", picture(3), "What is the total?")

    await using(kind, system, work, retries=2)


async def test_a_deadline_is_kept(system: Running, kind: str) -> None:
    """A call ends with its deadline, its retries included."""
    system.model.gate.clear()

    async def work(call: Call) -> None:
        with pytest.raises(askonce.DeadlineError):
            await call("ask", picture(4), "What is the total?", timeout=0.3)

    try:
        await using(kind, system, work)
    finally:
        system.model.gate.set()


async def test_pictures_of_pillow(system: Running, kind: str) -> None:
    """A picture in memory is sent as PNG, which keeps its pixels."""

    async def work(call: Call) -> None:
        shown = Image.open(io.BytesIO(picture(5)))
        assert (await call("ask", shown, "What is the total?")).source == "model"

    await using(kind, system, work)


def test_half_a_key_pair_is_refused(tmp_path: Path) -> None:
    """A certificate without its key is an error when the client is made."""
    with pytest.raises(ValueError, match="both"):
        Client(certificate=tmp_path / "x.pem")


def test_unknown_settings_are_refused() -> None:
    """A misspelt setting or option is an error, not silence."""
    with pytest.raises(TypeError):
        Client(api_kee="x")
    with Client() as client, pytest.raises(TypeError):
        client.ask(b"x", "x", cache_mod="bypass")


def test_credentials_travel_as_metadata() -> None:
    """A key goes as x-api-key, a token as a bearer, fresh for each call when it is a function; neither is printed."""
    tokens = iter(["one", "two"])
    client = Client(api_key="secret", token=lambda: next(tokens))
    assert dict(client.connection.metadata("id"))["x-api-key"] == "secret"
    assert dict(client.connection.metadata("id"))["authorization"] == "Bearer two"
    assert "secret" not in repr(client.connection)
    client.close()


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_what_can_not_succeed_is_not_tried_again(code: grpc.StatusCode) -> None:
    """Only UNAVAILABLE and RESOURCE_EXHAUSTED are worth another attempt, and none that the deadline forbids."""
    from askonce.client.connection import Connection
    from askonce.faults import Fault

    connection = Connection()
    assert connection.pause(askonce.AskOnceError(Fault("X", "x"), code), 0, 60.0) is None
    late = askonce.AskOnceError(Fault("X", "x", retry_after=30.0), grpc.StatusCode.UNAVAILABLE)
    assert connection.pause(late, 0, 10.0) is None
    assert connection.pause(late, 3, 60.0) is None
    wait = connection.pause(late, 0, 60.0)
    assert wait is not None
    assert 30.0 <= wait < 31.0
