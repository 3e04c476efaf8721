"""Whatever arrives ends in a status with a reason from the catalogue, and nothing of it is stored."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest

from askonce import faults, reasons
from askonce.v1 import answer_pb2, content_pb2, job_pb2
from gateway.settings import Edge, Settings
from tests.gateway.doubles import Running, running
from tests.gateway.pictures import picture

TRIES = int(os.environ.get("ASKONCE_FUZZ_TRIES", "450"))
"""Requests of each kind; the long study takes 10,000."""
SEED = int(os.environ.get("ASKONCE_FUZZ_SEED", "20261125"))
PIECES = ["", "x", "总额？", "\ud800", "\x00", "\u202e", "ﷺ" * 30, "a" * 5_000, "tenants/../x", "tenants/acme",
          "💥" * 50, "-1", "1e309", "<|image|>", "https://a..example.com/x", "file:///etc/passwd", "http://[::1]/",
          "data:image/png;base64,%%%"]  # fmt: skip
METHODS = [f"/askonce.v1.{name}" for name in (
    "AnswerService/Answer", "AnswerService/StreamAnswer", "AnswerService/SubmitFeedback", "JobService/CreateJob",
    "JobService/GetJob", "JobService/ListJobs", "JobService/CancelJob")]  # fmt: skip
KEYS = ["model", "messages", "role", "content", "type", "text", "image_url", "url", "stream", "max_tokens", "stop", "n",
        "temperature", "askonce", "cache_mode", "tags", "image", "prompt", "response_format", "json_schema", "tools",
        "decision", "verdict", "seed", "modalities", "detail"]  # fmt: skip
LISTED = reasons.errors().keys()


def value(chance: random.Random, depth: int = 0) -> Any:
    """Any JSON, often one that resembles a request."""
    kind = chance.randrange(9 if depth < 4 else 6)
    if kind < 2:
        return chance.choice(PIECES)
    if kind == 2:
        return chance.choice([0, -1, 2**63, 1.5, 1e308, -0.0])
    if kind < 6:
        return chance.choice([None, True, False, "", [], {}])
    if kind == 6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice([*KEYS, *PIECES]): value(chance, depth + 1) for _ in range(chance.randrange(6))}


def chat(chance: random.Random) -> Any:
    """A chat completion as a client sends it, with some parts exchanged for anything."""
    address = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": chance.choice([address, address, *PIECES])}}
    text: dict[str, Any] = {"type": "text", "text": chance.choice(["What is the total?", *PIECES])}
    whose: dict[str, Any] = {"role": "user", "content": [text, part]}
    body: dict[str, Any] = {"model": "askonce", "messages": [whose]}
    for _ in range(chance.randrange(4)):
        body[chance.choice(KEYS)] = value(chance, 3)
    if chance.random() < 0.3:
        chance.choice([whose, part, text])[chance.choice(KEYS)] = value(chance, 3)
    return body


def message(chance: random.Random, method: str) -> bytes:
    """Bytes that are the method's message, nearly so, or nothing of the kind."""
    kind = chance.randrange(8)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    clean = [piece for piece in PIECES if "\ud800" not in piece]
    request = answer_pb2.AnswerRequest(
        parent=chance.choice(["", *clean]),
        image=content_pb2.Image(content=chance.choice([b"", picture(), chance.randbytes(64)])),
        question=content_pb2.Question(text=chance.choice(clean), answer_language_code=chance.choice(clean)[:40]),
        cache_mode=chance.choice([0, 1, 5, 99, -1]),  # type: ignore[arg-type]
        tags=[chance.choice(clean) for _ in range(chance.randrange(3))],
    )
    request.params.temperature = chance.choice([0.0, -1.0, float("nan"), float("inf"), 2.0])
    request.params.max_tokens = chance.choice([1, 0, -5, 2**31 - 1])
    if chance.random() < 0.3:
        request.question.history.add(role=chance.choice([0, 1, 7]), text=chance.choice(clean))  # type: ignore[arg-type]
    forms: dict[str, Any] = {
        "Answer": request,
        "StreamAnswer": answer_pb2.StreamAnswerRequest(request=request),
        "CreateJob": job_pb2.CreateJobRequest(request=request, job_id=chance.choice(clean)),
        "SubmitFeedback": answer_pb2.SubmitFeedbackRequest(
            decision=chance.choice([*clean, "tenants/acme/decisions/1"]),
            verdict=chance.choice([0, 1, 9]),  # type: ignore[arg-type]
        ),
        "GetJob": job_pb2.GetJobRequest(name=chance.choice([*clean, "tenants/acme/jobs/1"])),
    }
    fitting = forms.get(method.rpartition("/")[2], forms["GetJob"])
    found = (fitting if chance.random() < 0.8 else chance.choice([*forms.values()])).SerializeToString()
    if kind == 1 and found:
        broken = bytearray(found)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        return bytes(broken)
    return found[: chance.randrange(len(found) + 1)] if kind == 2 else found


async def send(system: Running, method: str, body: bytes) -> tuple[str, str]:
    """The status and reason of a call with these bytes."""
    streams = method.endswith("StreamAnswer")
    make = system.channel.unary_stream if streams else system.channel.unary_unary
    call = make(method, request_serializer=None, response_deserializer=None)(body, timeout=30)
    try:
        if streams:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, faults.from_error(error).reason
    return "OK", ""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_any_bytes_over_grpc() -> None:
    """No call ends INTERNAL or UNKNOWN, each refusal has a listed reason, and nothing unasked is remembered."""
    chance = random.Random(SEED)
    async with running() as system:
        seen: dict[tuple[str, str], int] = {}
        for start in range(0, TRIES, 50):
            methods = [chance.choice(METHODS) for _ in range(min(50, TRIES - start))]
            calls = [(method, message(chance, method)) for method in methods]
            for outcome in await asyncio.gather(*(send(system, *each) for each in calls)):
                seen[outcome] = seen.get(outcome, 0) + 1
        bad = {each: count for each, count in seen.items() if each[0] in ("INTERNAL", "UNKNOWN")}
        assert bad == {}
        assert {reason for code, reason in seen if code != "OK" and reason not in LISTED} == set()
        assert len(seen) > 8, "the fuzzer reached little"
        await system.settled()
        answered = seen.get(("OK", ""), 0)
        assert len(system.memory.remembered) <= answered


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_any_json_over_http() -> None:
    """No request gets a 500; each refusal names a listed reason."""
    chance = random.Random(SEED)
    settings = replace(Settings(), edge=Edge(listen="127.0.0.1:0"))
    async with running(settings) as system, httpx.AsyncClient(timeout=30) as client:
        assert system.gateway.http is not None
        base = f"http://{system.gateway.http.address}"
        routes = ["/v1/chat/completions", "/v1/vision/completion", "/infer", "/v1/feedback"]
        statuses: dict[int, int] = {}
        for _ in range(TRIES // 3):
            body = json.dumps(chat(chance) if chance.random() < 0.7 else value(chance)).encode("utf-8", "surrogatepass")
            if chance.random() < 0.1:
                body = chance.randbytes(chance.randrange(100))
            answer = await client.post(
                base + chance.choice([routes[0], *routes]), content=body, headers={"content-type": "application/json"}
            )
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500 or answer.status_code in (501, 503), (body, answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"]["code"] in LISTED, answer.text
        assert len(statuses) >= 2
