"""The official `openai` client against a running edge: what it sends is understood, what it gets it understands."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletion

from askonce.faults import Exhausted, Unreachable
from askonce.v1 import content_pb2
from gateway.auth import Registered
from gateway.settings import Bounds, Edge, Settings, Timeouts
from tests.gateway.doubles import Running, running
from tests.gateway.http.bodies import DATA
from tests.gateway.pdfs import locked, pdf
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow
T = TypeVar("T")
MODEL = "counting-1"
SETTINGS = Settings(edge=Edge(listen="127.0.0.1:0"))


class Client:
    """The client, used from a thread as most programs use it."""

    def __init__(self, system: Running) -> None:
        assert system.gateway.http is not None
        self.system = system
        self.client = openai.OpenAI(
            base_url=f"http://{system.gateway.http.address}/v1",
            api_key="sk-test",
            max_retries=0,
            timeout=10.0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )

    async def run(self, call: Callable[[openai.OpenAI], T]) -> T:
        """Makes one call."""
        return await asyncio.to_thread(call, self.client)

    async def chat(self, *parts: dict[str, Any], text: str = "What is the total?", **more: Any) -> ChatCompletion:
        """One chat completion about some parts, one picture where none are given."""
        content: Any = [*(parts or (image(DATA),)), {"type": "text", "text": text}]
        found: Any = await self.run(
            lambda client: client.chat.completions.create(
                model=more.pop("model", MODEL), messages=[{"role": "user", "content": content}], **more
            )
        )
        assert isinstance(found, ChatCompletion)
        return found


def image(url: str) -> dict[str, Any]:
    """An image part."""
    return {"type": "image_url", "image_url": {"url": url}}


def uri(content: bytes, kind: str = "image/png") -> str:
    """A file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def file(content: bytes) -> dict[str, Any]:
    """A PDF file as the client documents it."""
    return {"type": "file", "file": {"filename": "invoice.pdf", "file_data": uri(content, "application/pdf")}}


@asynccontextmanager
async def connected(settings: Settings = SETTINGS, **more: Any) -> AsyncIterator[Client]:
    """A client of a gateway between two doubles."""
    async with running(settings, **more) as system:
        client = Client(system)
        try:
            yield client
        finally:
            await asyncio.to_thread(client.client.close)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a gateway with the default settings."""
    async with connected() as client:
        yield client


async def test_chat(client: Client) -> None:
    """A completion, then the same from memory; the extension object is at hand on both."""
    client.system.model.usage = content_pb2.Usage(input_token_count=900, output_token_count=12)
    first = await client.chat(temperature=0, max_tokens=64, user="someone")
    await client.system.settled()
    second = await client.chat(temperature=0, max_tokens=64, user="someone")
    assert first.choices[0].message.content == second.choices[0].message.content == "answer 1 to: What is the total?"
    assert (first.choices[0].finish_reason, first.model) == ("stop", MODEL)
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (900, 12)
    extra: Any = second.model_extra
    assert extra["askonce"]["source"] == "cache"
    assert extra["askonce"]["saved"]["prompt_tokens"] == 900
    assert [each["field"] for each in extra["warnings"]] == ["user"]


async def test_stream(client: Client) -> None:
    """Chunks with a role, pieces, an end and the usage; joined they are the answer."""

    def call(sender: openai.OpenAI) -> list[Any]:
        content: Any = [image(DATA), {"type": "text", "text": "What is the total?"}]
        chunks: Any = sender.chat.completions.create(
            model="askonce",
            messages=[{"role": "user", "content": content}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return list(chunks)

    client.system.model.usage = content_pb2.Usage(input_token_count=900, output_token_count=12)
    chunks = await client.run(call)
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "answer 1 to: What is the total?"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 912)


async def test_several_images_in_their_order(client: Client) -> None:
    """Two pictures reach the model in order; turned round they are another question."""
    parts = image(uri(picture(1))), image(uri(picture(2)))
    await client.chat(*parts)
    await client.system.settled()
    again, turned = await client.chat(*parts), await client.chat(*reversed(parts))
    assert [each.content for each in client.system.model.requests[0].images] == [picture(1), picture(2)]
    assert [found.model_extra["askonce"]["source"] for found in (again, turned) if found.model_extra] == [
        "cache",
        "model",
    ]


async def test_a_pdf_file(client: Client) -> None:
    """A file part is its pages."""
    await client.chat(file(pdf(3)))
    assert len(client.system.model.requests[0].images) == 3


async def test_json_schema_and_its_parsed_form(client: Client) -> None:
    """The schema reaches the engine as it was written; the answer is parsed by the client."""
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    client.system.model.text = '{"total": 138.9}'
    form: Any = {"type": "json_schema", "json_schema": {"name": "invoice", "strict": True, "schema": schema}}
    answer = await client.chat(response_format=form)
    sent = client.system.model.requests[0].params.response_format.json_schema.schema
    assert json.loads(sent) == schema
    assert client.system.model.requests[0].params.response_format.json_schema.strict
    assert json.loads(answer.choices[0].message.content or "") == {"total": 138.9}
    await client.system.settled()
    assert len(client.system.memory.remembered) == 1
    free = await client.chat(response_format={"type": "json_object"})
    assert free.model_extra is not None
    assert free.model_extra["askonce"]["source"] == "model"
    assert client.system.model.requests[1].params.response_format.json_object


async def test_models(client: Client) -> None:
    """The list has the hosted model, which can be asked for by its name."""
    listed = await client.run(lambda sender: list(sender.models.list()))
    found = await client.run(lambda sender: sender.models.retrieve(MODEL))
    assert [each.id for each in listed] == [found.id] == [MODEL]


@pytest.mark.parametrize(
    ("parts", "more", "reason", "param"),
    [
        ((), {"extra_body": {"temprature": 0.5}}, "FIELD_UNKNOWN", "temprature"),
        ((), {"extra_body": {"askonce": {"cache_mod": "bypass"}}}, "FIELD_UNKNOWN", "askonce.cache_mod"),
        ((), {"n": 2}, "FIELD_UNSUPPORTED", "n"),
        ((), {"logprobs": True}, "FIELD_UNSUPPORTED", "logprobs"),
        ((), {"max_tokens": 0}, "OUT_OF_RANGE", "params.max_tokens"),
        ((), {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": "{"}}},
         "RESPONSE_FORMAT_INVALID", "params.response_format.json_schema.schema"),
        ((file(locked()),), {}, "PDF_ENCRYPTED", "image.content"),
        ((file(pdf(17)),), {}, "IMAGES_TOO_MANY", "image.content"),
        ((image("data:image/png;base64,@@@"),), {}, "IMAGE_ENCODING", "messages[0].content[0].image_url"),
        ((image("https://example.com/a.png"),), {}, "URI_NOT_ALLOWED", "image.uri"),
    ],
)  # fmt: skip
async def test_bad_requests(
    client: Client, parts: tuple[dict[str, Any], ...], more: dict[str, Any], reason: str, param: str
) -> None:
    """400 is the client's BadRequestError, with the reason as its code and the field as its param."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat(*parts, **more)
    assert (caught.value.code, caught.value.param, caught.value.type) == (reason, param, "invalid_request_error")
    assert client.system.model.requests == []


async def test_unknown_key() -> None:
    """401 is the client's AuthenticationError."""
    async with connected(authenticator=Registered({})) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat()
    assert caught.value.code == "CREDENTIALS_UNKNOWN"


async def test_foreign_page(client: Client) -> None:
    """403 is the client's PermissionDeniedError."""
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await client.chat(extra_headers={"Origin": "https://evil.example"})
    assert caught.value.code == "ORIGIN_NOT_ALLOWED"


async def test_what_is_not_there(client: Client) -> None:
    """404 is the client's NotFoundError, for a model, an answer that is not stored, and a route."""
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: client.chat(model="other"), "MODEL_NOT_FOUND"),
        (lambda: client.chat(extra_body={"askonce": {"cache_mode": "only_if_cached"}}), "NOT_CACHED"),
        (lambda: client.run(lambda sender: sender.models.retrieve("other")), "MODEL_NOT_FOUND"),
        (lambda: client.run(lambda sender: sender.responses.create(model=MODEL, input="x")), "ROUTE_UNKNOWN"),
        (lambda: client.run(lambda sender: sender.completions.create(model=MODEL, prompt="x")), "ROUTE_UNKNOWN"),
    ]
    for call, reason in calls:
        with pytest.raises(openai.NotFoundError) as caught:
            await call()
        assert caught.value.code == reason


async def test_busy_and_down(client: Client) -> None:
    """429 is the client's RateLimitError, everything from 500 on its InternalServerError; when to try again is said."""
    client.system.model.fault = Exhausted("QUEUE_FULL", "busy", retry_after=3.0)
    with pytest.raises(openai.RateLimitError) as busy:
        await client.chat()
    assert (busy.value.code, busy.value.response.headers["retry-after"]) == ("QUEUE_FULL", "3")
    client.system.model.fault = Unreachable("ENGINE_DOWN", "down", retry_after=1.0)
    with pytest.raises(openai.InternalServerError) as down:
        await client.chat()
    assert (down.value.status_code, down.value.code) == (503, "ENGINE_DOWN")


async def test_full_gateway_and_late_answer() -> None:
    """A full gateway is a RateLimitError; a deadline of the gateway's that passes is an InternalServerError (504)."""
    settings = replace(SETTINGS, bounds=Bounds(requests=0))
    async with connected(settings) as client:
        with pytest.raises(openai.RateLimitError) as full:
            await client.chat()
        assert full.value.code == "GATEWAY_BUSY"
    async with connected(replace(SETTINGS, timeouts=Timeouts(request=0.3))) as client:
        client.system.model.gate.clear()
        with pytest.raises(openai.InternalServerError) as late:
            await client.chat()
        assert (late.value.status_code, late.value.code) == (504, "DEADLINE_EXCEEDED")


async def test_failure_in_the_middle_of_a_stream(client: Client) -> None:
    """A stream that breaks raises the client's APIError with the reason."""
    client.system.model.broken = Unreachable("ENGINE_DOWN", "down")

    def call(sender: openai.OpenAI) -> None:
        content: Any = [image(DATA), {"type": "text", "text": "x"}]
        chunks: Any = sender.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], stream=True
        )
        list(chunks)

    with pytest.raises(openai.APIError) as caught:
        await client.run(call)
    assert caught.value.code == "ENGINE_DOWN"


async def test_body_beyond_the_limit() -> None:
    """413 is an APIStatusError with its reason."""
    async with connected(Settings(edge=Edge(listen="127.0.0.1:0", max_body_bytes=1_000))) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat(image(uri(bytes(2_000))))
        assert (caught.value.status_code, caught.value.code) == (413, "BODY_TOO_LARGE")
