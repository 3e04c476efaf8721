"""No page of another origin asks in its visitor's name, and no name that was made to point here leads anywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from askonce.faults import Fault
from gateway.http.browsers import check_host, check_json, check_origin
from gateway.settings import Edge, Settings
from tests.gateway.doubles import running
from tests.gateway.http.bodies import JSON, Web, body

LOCAL = Edge(listen="127.0.0.1:8080")
OPEN = Edge(listen="0.0.0.0:8080")
NAMED = replace(OPEN, allowed_hosts=("ask.example.com", ".internal"), allowed_origins=("https://app.example.com",))


def refused(check: Any, *arguments: Any) -> str:
    """The reason of a refusal; empty for none."""
    try:
        check(*arguments)
    except Fault as fault:
        return fault.reason
    return ""


@pytest.mark.parametrize(
    ("settings", "headers", "reason"),
    [
        (LOCAL, {"host": "127.0.0.1:8080"}, ""),
        (LOCAL, {"host": "localhost:8080"}, ""),
        (LOCAL, {"host": "LOCALHOST"}, ""),
        (LOCAL, {"host": "[::1]:8080"}, ""),
        (LOCAL, {"host": "evil.example"}, "HOST_NOT_ALLOWED"),
        (LOCAL, {"host": "localhost.evil.example"}, "HOST_NOT_ALLOWED"),
        (LOCAL, {"host": "127.0.0.1.evil.example"}, "HOST_NOT_ALLOWED"),
        (LOCAL, {}, "HOST_NOT_ALLOWED"),
        (replace(LOCAL, allowed_hosts=("ask.example.com",)), {"host": "ask.example.com"}, ""),
        (OPEN, {"host": "10.0.0.5:8080"}, ""),
        (OPEN, {"host": "gateway:8080"}, ""),
        (OPEN, {"host": "gateway:8080", "origin": "http://gateway:8080"}, "HOST_NOT_ALLOWED"),
        (OPEN, {"host": "evil.example", "sec-fetch-site": "same-origin"}, "HOST_NOT_ALLOWED"),
        (NAMED, {"host": "ask.example.com:443", "origin": "https://ask.example.com"}, ""),
        (NAMED, {"host": "ASK.example.com."}, ""),
        (NAMED, {"host": "a.b.internal"}, ""),
        (NAMED, {"host": "example.com"}, "HOST_NOT_ALLOWED"),
        (NAMED, {"host": "notinternal"}, "HOST_NOT_ALLOWED"),
    ],
)
def test_names_of_the_edge(settings: Edge, headers: dict[str, str], reason: str) -> None:
    """An address is always right; a name only where it is listed or nothing is at stake."""
    assert refused(check_host, headers, settings) == reason


@pytest.mark.parametrize(
    ("settings", "headers", "reason"),
    [
        (LOCAL, {"host": "127.0.0.1:8080"}, ""),
        (LOCAL, {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, ""),
        (LOCAL, {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:3000"}, "ORIGIN_NOT_ALLOWED"),
        (LOCAL, {"host": "127.0.0.1:8080", "origin": "https://evil.example"}, "ORIGIN_NOT_ALLOWED"),
        (LOCAL, {"host": "127.0.0.1:8080", "origin": "null"}, "ORIGIN_NOT_ALLOWED"),
        (LOCAL, {"host": "127.0.0.1:8080", "origin": "http://[broken"}, "ORIGIN_NOT_ALLOWED"),
        (NAMED, {"host": "ask.example.com", "origin": "https://app.example.com"}, ""),
        (NAMED, {"host": "ask.example.com", "origin": "https://app.example.com.evil"}, "ORIGIN_NOT_ALLOWED"),
        (replace(LOCAL, allowed_origins=("*",)), {"host": "127.0.0.1", "origin": "https://any.example"}, ""),
    ],
)
def test_pages_that_may_ask(settings: Edge, headers: dict[str, str], reason: str) -> None:
    """A page may ask where it came from here or is on the list; who is no browser sends no Origin."""
    assert refused(check_origin, headers, settings) == reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"content-type": "application/json"}, ""),
        ({"content-type": "Application/JSON; charset=utf-8"}, ""),
        ({"content-type": "application/problem+json"}, ""),
        ({"content-type": "text/plain"}, "CONTENT_TYPE_UNSUPPORTED"),
        ({"content-type": "application/x-www-form-urlencoded"}, "CONTENT_TYPE_UNSUPPORTED"),
        ({"content-type": "multipart/form-data; boundary=x"}, "CONTENT_TYPE_UNSUPPORTED"),
        ({"content-type": "text/plain; application/json"}, "CONTENT_TYPE_UNSUPPORTED"),
        ({}, "CONTENT_TYPE_UNSUPPORTED"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "CONTENT_ENCODING_UNSUPPORTED"),
    ],
)
def test_bodies_are_declared_as_json(headers: dict[str, str], reason: str) -> None:
    """What a page of another origin may send without asking is no JSON."""
    assert refused(check_json, headers) == reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"content-type": "text/plain"}, 415, "CONTENT_TYPE_UNSUPPORTED"),
        ({**JSON, "host": "evil.example"}, 403, "HOST_NOT_ALLOWED"),
        ({**JSON, "origin": "https://evil.example"}, 403, "ORIGIN_NOT_ALLOWED"),
    ],
)
async def test_refusals_over_http(web: Web, headers: dict[str, str], status: int, reason: str) -> None:
    """A refusal has OpenAI's form; nothing is asked."""
    system, client = web
    reply = await client.post("/v1/chat/completions", json=body(), headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, reason)
    assert "access-control-allow-origin" not in reply.headers
    assert system.model.requests == []


@pytest.mark.slow
async def test_listed_pages_may_ask_and_read() -> None:
    """With CORS set up a listed page may ask first (preflight), ask, and read the reply; another may not."""
    origin = "https://app.example.com"
    async with running(Settings(edge=Edge(listen="127.0.0.1:0", allowed_origins=(origin,)))) as system:
        assert system.gateway.http is not None
        async with httpx.AsyncClient(base_url=f"http://{system.gateway.http.address}", trust_env=False) as client:
            asks = {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            }
            path = "/v1/chat/completions"
            first = await client.options(path, headers={"Origin": origin, **asks})
            assert (first.status_code, first.headers["access-control-allow-origin"]) == (200, origin)
            assert "authorization" in first.headers["access-control-allow-headers"].lower()
            reply = await client.post(path, json=body(), headers={"Origin": origin})
            assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, origin)
            assert "X-Askonce-Source" in reply.headers["access-control-expose-headers"]
            other = await client.options(path, headers={"Origin": "https://evil.example", **asks})
            assert other.status_code == 403
