"""The HTTP edge over real sockets: OpenAI's form, the plainer routes, errors, health and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from askonce.faults import Exhausted
from askonce.v1 import content_pb2, job_pb2
from gateway.auth import Registered
from gateway.settings import Edge, Settings
from gateway.settings import Jobs as JobSettings
from tests.gateway.doubles import running, until
from tests.gateway.http.bodies import DATA, JSON, PNG, Web, body
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow


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


async def test_feedback_over_http(web: Web) -> None:
    """POST /v1/feedback reports a verdict."""
    system, client = web
    answer = (await client.post("/v1/chat/completions", json=body())).json()
    sent = {"decision": answer["askonce"]["decision"], "verdict": "wrong"}
    assert (await client.post("/v1/feedback", json=sent)).json() == {"removed_count": 1}
    assert system.memory.learned[0].feedback.decision == sent["decision"]
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


async def test_stranger_uploads_nothing() -> None:
    """A caller without a key is refused before its body is read, and told how to authenticate."""
    async with running(Settings(edge=Edge(listen="127.0.0.1:0")), Registered({})) as system:
        assert system.gateway.http is not None

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield bytes(100_000)
                await asyncio.sleep(0.01)

        async with httpx.AsyncClient(trust_env=False) as client:
            reply = await client.post(f"http://{system.gateway.http.address}/infer", content=endless(), headers=JSON)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "CREDENTIALS_MISSING")
    assert reply.headers["www-authenticate"] == "Bearer"


async def test_small_body_limit() -> None:
    """The limit of the body is the settings'."""
    settings = Settings(edge=Edge(listen="127.0.0.1:0"))
    async with running(replace(settings, edge=replace(settings.edge, max_body_bytes=100))) as system:
        assert system.gateway.http is not None
        async with httpx.AsyncClient(trust_env=False) as client:
            reply = await client.post(f"http://{system.gateway.http.address}/infer", content=b"x" * 101, headers=JSON)
    assert reply.status_code == 413


@pytest.mark.slow
async def test_client_that_goes_away_frees_the_model(web: Web) -> None:
    """When an HTTP client disconnects nobody waits any more, and the generation ends after the linger."""
    system, client = web
    system.model.gate.clear()
    call = asyncio.create_task(client.post("/v1/chat/completions", json=body()))
    await until(lambda: system.model.running == 1)
    call.cancel()
    await until(lambda: system.model.cancelled == 1, timeout=6)


async def test_http_client_prefers_to_wait_elsewhere(tmp_path: Path) -> None:
    """With "Prefer: respond-async" a busy model means 202 and a place to look; without it 429."""
    settings = Settings(jobs=JobSettings(folder=tmp_path), edge=Edge(listen="127.0.0.1:0"))
    async with running(settings) as system:
        assert system.gateway.http is not None
        assert system.gateway.jobs is not None
        jobs = system.gateway.jobs
        system.model.fault = Exhausted("QUEUE_FULL", "busy", retry_after=0.1)
        async with httpx.AsyncClient(base_url=f"http://{system.gateway.http.address}", trust_env=False) as client:
            assert (await client.post("/v1/chat/completions", json=body())).status_code == 429
            reply = await client.post("/v1/chat/completions", json=body(), headers={"Prefer": "respond-async"})
            assert (reply.status_code, reply.json()["status"]) == (202, "queued")
            system.model.fault = None
            name = f"tenants/default/jobs/{reply.json()['id']}"
            async with asyncio.timeout(10):
                while (await jobs.get(name)).state != job_pb2.JOB_STATE_SUCCEEDED:
                    await asyncio.sleep(0.01)
            found = (await client.get(reply.headers["location"])).json()
            assert found["status"] == "succeeded"
            assert found["completion"]["choices"][0]["message"]["content"].endswith("What is the total?")
            assert (await client.get("/v1/jobs/none")).status_code == 404


async def test_a_model_is_described_by_its_name(web: Web) -> None:
    """The list and the model by itself agree, also by the name that always means the hosted one."""
    _, client = web
    (listed,) = (await client.get("/v1/models")).json()["data"]
    assert (await client.get("/v1/models/counting-1")).json() == listed
    assert (await client.get("/v1/models/askonce")).json() == listed
    assert isinstance(listed["created"], int)


async def test_a_hit_says_what_it_saved(web: Web) -> None:
    """What a hit saved has a field of its own; `usage` counts what the answer took when the model wrote it."""
    system, client = web
    system.model.usage = content_pb2.Usage(input_token_count=1000, output_token_count=40)
    first = (await client.post("/v1/chat/completions", json=body())).json()
    await system.settled()
    second = (await client.post("/v1/chat/completions", json=body())).json()
    assert "saved" not in first["askonce"]
    assert second["askonce"]["saved"]["prompt_tokens"] == 1000
    assert second["askonce"]["saved"]["completion_tokens"] == 40
    assert second["askonce"]["saved"]["seconds"] == 1.5
    assert first["usage"] == second["usage"]
    assert second["usage"]["prompt_tokens"] == 1000


async def test_hits_need_not_be_billed() -> None:
    """Where the operator says so, `usage` counts nothing for a hit, streamed or whole."""
    async with running(Settings(edge=Edge(listen="127.0.0.1:0", bill_hits=False))) as system:
        assert system.gateway.http is not None
        system.model.usage = content_pb2.Usage(input_token_count=1000, output_token_count=40)
        async with httpx.AsyncClient(base_url=f"http://{system.gateway.http.address}", trust_env=False) as client:
            first = (await client.post("/v1/chat/completions", json=body())).json()
            await system.settled()
            second = (await client.post("/v1/chat/completions", json=body())).json()
            asked = body(stream=True, stream_options={"include_usage": True})
            lines = (await client.post("/v1/chat/completions", json=asked)).text.split("\n\n")
    streamed = json.loads(lines[-3].removeprefix("data: "))
    assert first["usage"]["total_tokens"] == 1040
    assert second["usage"]["total_tokens"] == streamed["usage"]["total_tokens"] == 0
    assert second["askonce"]["saved"]["prompt_tokens"] == 1000


async def test_what_has_no_effect_is_listed_in_the_reply(web: Web) -> None:
    """Warnings come with the reply, whole or streamed, and only where there is something to say."""
    _, client = web
    plain = (await client.post("/v1/chat/completions", json=body())).json()
    warned = (await client.post("/v1/chat/completions", json=body(user="u"))).json()
    streamed = (await client.post("/v1/chat/completions", json=body(user="u", stream=True))).text
    assert "warnings" not in plain
    assert [each["field"] for each in warned["warnings"]] == ["user"]
    assert '"warnings": [{"field": "user"' in streamed.split("\n\n")[-3]
