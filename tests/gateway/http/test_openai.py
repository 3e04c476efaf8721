"""Bodies as OpenAI's clients send and expect them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from askonce.v1 import content_pb2
from tests.gateway.http.bodies import DATA, Web, body

pytestmark = pytest.mark.slow


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
