"""The HTTP edge over real sockets: OpenAI's form, the plainer routes, errors, health and metrics."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from askonce.faults import Exhausted
from askonce.v1 import content_pb2
from gateway.auth import Registered
from gateway.settings import Edge, Settings
from tests.gateway.doubles import Running, running, until
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow
PNG = base64.b64encode(picture()).decode()
DATA = f"data:image/png;base64,{PNG}"


def body(text: str = "What is the total?", **fields: Any) -> dict[str, Any]:
    """A chat completion request about one picture."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": DATA}}]
    return {"model": "counting-1", "messages": [{"role": "user", "content": parts}], **fields}


@pytest_asyncio.fixture
async def web() -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A gateway with its HTTP edge, and a client."""
    async with running(Settings(edge=Edge(listen="127.0.0.1:0"))) as system:
        assert system.gateway.http is not None
        base = f"http://{system.gateway.http.address}"
        async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as client:
            yield system, client


Web = tuple[Running, httpx.AsyncClient]


async def test_chat_completion_twice(web: Web) -> None:
    """An OpenAI client gets a completion; the second time it comes from memory, and headers say so."""
    system, client = web
    first = await client.post("/v1/chat/completions", json=body())
    await system.settled()
    second = await client.post("/v1/chat/completions", json=body())
    assert first.status_code == second.status_code == 200
    assert (first.headers["x-askonce-source"], second.headers["x-askonce-source"]) == ("model", "cache")
    choice = second.json()["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "answer 1 to: What is the total?"}
    assert choice["finish_reason"] == "stop"
    assert second.json()["askonce"]["reason"] == "EXACT"


async def test_grpc_and_http_share_one_memory(web: Web) -> None:
    """What was asked over gRPC is a hit over HTTP."""
    system, client = web
    await system.ask(picture())
    await system.settled()
    assert (await client.post("/v1/chat/completions", json=body())).headers["x-askonce-source"] == "cache"


async def test_stream_sends_events_as_openai_does(web: Web) -> None:
    """Chunks, a finish reason, usage where asked for, and [DONE]; the pieces joined are the answer."""
    _, client = web
    asked = body(stream=True, stream_options={"include_usage": True})
    reply = await client.post("/v1/chat/completions", json=asked)
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(each["choices"][0]["delta"].get("content", "") for each in chunks if each["choices"])
    assert text == "answer 1 to: What is the total?"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 0


async def test_first_piece_arrives_before_the_last(web: Web) -> None:
    """A stream hands each piece on at once."""
    system, client = web
    system.model.gate.clear()
    async with client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as reply:
        parts = reply.aiter_text()
        assert "answer 1 to" in await anext(parts)
        assert system.model.running == 1
        system.model.gate.set()
        assert "[DONE]" in "".join([part async for part in parts])


async def test_error_before_the_first_piece_has_a_status(web: Web) -> None:
    """A stream that fails at once is a plain error with status, reason and Retry-After."""
    system, client = web
    system.model.fault = Exhausted("QUEUE_FULL", "busy", retry_after=3.0)
    reply = await client.post("/v1/chat/completions", json=body(stream=True))
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "QUEUE_FULL")
    assert reply.headers["retry-after"] == "3"


async def test_conversation_becomes_history(web: Web) -> None:
    """System message and earlier turns are part of the question; the image may be in the first message."""
    system, client = web
    asked = body()
    asked["messages"] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": DATA}}, {"type": "text", "text": "Hi"}],
        },
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "What is the total?"},
    ]
    await client.post("/v1/chat/completions", json=asked)
    question = system.model.requests[0].question
    assert question.text == "What is the total?"
    assert [(turn.role, turn.text) for turn in question.history] == [
        (content_pb2.ROLE_USER, "Be brief."),
        (content_pb2.ROLE_USER, "Hi"),
        (content_pb2.ROLE_ASSISTANT, "Hello"),
    ]


async def test_parameters_and_cache_mode_are_passed_on(web: Web) -> None:
    """OpenAI's parameters and the extension object reach the wire."""
    system, client = web
    asked = body(max_tokens=7, temperature=0.5, seed=3, stop="END", askonce={"cache_mode": "no_store"})
    assert (await client.post("/v1/chat/completions", json=asked)).status_code == 200
    params = system.model.requests[0].params
    assert (params.max_tokens, params.temperature, params.seed, list(params.stop)) == (7, 0.5, 3, ["END"])
    await system.settled()
    assert system.memory.remembered == []


async def test_infer_route(web: Web) -> None:
    """POST /infer takes bare base64 and answers with `response`."""
    system, client = web
    reply = await client.post("/infer", json={"image": PNG, "text": "Total?", "max_new_tokens": 64})
    assert reply.json()["response"] == "answer 1 to: Total?"
    assert system.model.requests[0].params.max_tokens == 64


async def test_vision_route(web: Web) -> None:
    """POST /v1/vision/completion answers in choices[0].message.content."""
    _, client = web
    reply = await client.post(
        "/v1/vision/completion", json={"image": DATA, "prompt": "总额?", "max_tokens": 9, "temperature": 0}
    )
    assert reply.json()["choices"][0]["message"]["content"] == "answer 1 to: 总额?"


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"messages": []}, 400, "QUESTION_EMPTY"),
        ({"messages": [{"role": "user", "content": "no image"}]}, 400, "IMAGE_REQUIRED"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "ROLE_UNSUPPORTED"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "BODY_INVALID"),
        ({"model": "other"}, 404, "MODEL_NOT_FOUND"),
        ({"n": 2}, 400, "FIELD_UNSUPPORTED"),
        ({"tools": [{}]}, 400, "FIELD_UNSUPPORTED"),
        ({"max_tokens": 0}, 400, "OUT_OF_RANGE"),
        ({"max_tokens": 10**12}, 400, "OUT_OF_RANGE"),
        ({"temperature": "hot"}, 400, "BODY_INVALID"),
        ({"temperature": 3}, 400, "OUT_OF_RANGE"),
        ({"askonce": {"cache_mode": "sometimes"}}, 400, "ENUM_UNKNOWN"),
        ({"askonce": {"cache_mode": "only-if-cached"}}, 404, "NOT_CACHED"),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(web: Web, change: dict[str, Any], status: int, reason: str) -> None:
    """Every bad body gets a status and a stable reason, and the model is not asked."""
    system, client = web
    reply = await client.post("/v1/chat/completions", json={**body(), **change})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, reason)
    assert system.model.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "status", "reason"),
    [
        ("data:image/png;base64,@@@", 400, "IMAGE_ENCODING"),
        ("data:image/png,plain", 400, "IMAGE_ENCODING"),
        ("data:image/png;base64," + base64.b64encode(b"GIF89a....").decode(), 400, "IMAGE_TYPE_UNSUPPORTED"),
        ("https://example.com/a.png", 400, "URI_NOT_ALLOWED"),
        ("http://example.com/a.png", 400, "URI_SCHEME_UNSUPPORTED"),
        ("file:///etc/passwd", 400, "IMAGE_ENCODING"),
        ("data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" * 800_000).decode(), 413, "IMAGE_TOO_LARGE"),
        ("A" * 10_000_000, 413, "BODY_TOO_LARGE"),
    ],
)
async def test_bad_images_over_http(web: Web, image: str, status: int, reason: str) -> None:
    """Images that are no images, too large, or somewhere else, are refused as over gRPC."""
    _, client = web
    reply = await client.post("/v1/vision/completion", json={"image": image, "prompt": "x"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, reason)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000, b'{"image": "\\ud800"}'])
async def test_what_is_no_json_object_is_refused(web: Web, raw: bytes) -> None:
    """Broken bodies are 400 BODY_INVALID."""
    _, client = web
    reply = await client.post("/infer", content=raw)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BODY_INVALID")


@pytest.mark.slow
async def test_client_that_goes_away_frees_the_model(web: Web) -> None:
    """When an HTTP client disconnects nobody waits any more, and the generation ends after the linger."""
    system, client = web
    system.model.gate.clear()
    call = asyncio.create_task(client.post("/v1/chat/completions", json=body()))
    await until(lambda: system.model.running == 1)
    call.cancel()
    await until(lambda: system.model.cancelled == 1, timeout=6)


async def test_feedback_over_http(web: Web) -> None:
    """POST /v1/feedback reports a verdict."""
    system, client = web
    answer = (await client.post("/v1/chat/completions", json=body())).json()
    sent = {"decision": answer["askonce"]["decision"], "verdict": "wrong"}
    assert (await client.post("/v1/feedback", json=sent)).json() == {"removed_count": 1}
    assert system.memory.lessons[0].feedback.decision == sent["decision"]
    bad = await client.post("/v1/feedback", json={"decision": sent["decision"], "verdict": "maybe"})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "ENUM_UNKNOWN")


async def test_health_metrics_models_and_page(web: Web) -> None:
    """Health, Prometheus metrics, the model list and the page are there."""
    _, client = web
    await client.post("/v1/chat/completions", json=body())
    assert (await client.get("/healthz")).json() == {"status": "serving", "model": "counting-1"}
    metrics = (await client.get("/metrics")).text
    assert 'askonce_gateway_answers_total{reason="QUESTION_UNKNOWN",source="model"}' in metrics
    assert (await client.get("/v1/models")).json()["data"][0]["id"] == "counting-1"
    page = await client.get("/")
    assert "AskOnce" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (await client.get("/nothing")).status_code == 404


async def test_bug_is_hidden(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody named is a 500 with a fixed text and the request id."""
    system, client = web

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(system.gateway.answering.screen, "screen", fail)
    with capture_logs() as logs:
        reply = await client.post("/v1/chat/completions", json=body(), headers={"askonce-request-id": "r-1"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "INTERNAL")
    assert [each["request_id"] for each in logs if each["event"] == "bug"] == ["r-1"]
    assert "secret" not in reply.text
    assert "r-1" in reply.text


async def test_small_body_limit() -> None:
    """The limit of the body is the settings'."""
    settings = Settings(edge=Edge(listen="127.0.0.1:0"))
    async with running(replace(settings, edge=replace(settings.edge, max_body_bytes=100))) as system:
        assert system.gateway.http is not None
        async with httpx.AsyncClient(trust_env=False) as client:
            reply = await client.post(f"http://{system.gateway.http.address}/infer", content=b"x" * 101)
    assert reply.status_code == 413


async def test_stranger_uploads_nothing() -> None:
    """A caller without a key is refused before its body is read, and told how to authenticate."""
    async with running(Settings(edge=Edge(listen="127.0.0.1:0")), Registered({})) as system:
        assert system.gateway.http is not None

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(1_000):
                yield bytes(10_000)
                await asyncio.sleep(0.01)

        async with httpx.AsyncClient(trust_env=False) as client:
            reply = await client.post(f"http://{system.gateway.http.address}/infer", content=endless())
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "CREDENTIALS_MISSING")
    assert reply.headers["www-authenticate"] == "Bearer"
