"""What fails has a status, a stable reason and the request id."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from askonce.faults import Exhausted
from tests.gateway.http.bodies import Web, body

pytestmark = pytest.mark.slow


async def test_bug_is_hidden(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody named is a 500 with a fixed text and the request id."""
    system, client = web

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(system.gateway.answering.guardrails, "screen", fail)
    with capture_logs() as logs:
        reply = await client.post("/v1/chat/completions", json=body(), headers={"askonce-request-id": "r-1"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "INTERNAL")
    assert [each["request_id"] for each in logs if each["event"] == "bug"] == ["r-1"]
    assert "secret" not in reply.text
    assert "r-1" in reply.text


async def test_error_before_the_first_piece_has_a_status(web: Web) -> None:
    """A stream that fails at once is a plain error with status, reason and Retry-After."""
    system, client = web
    system.model.fault = Exhausted("QUEUE_FULL", "busy", retry_after=3.0)
    reply = await client.post("/v1/chat/completions", json=body(stream=True))
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "QUEUE_FULL")
    assert reply.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nothing", 404, "ROUTE_UNKNOWN"),
        ("POST", "/v1/completions", 404, "ROUTE_UNKNOWN"),
        ("POST", "/v1/responses", 404, "ROUTE_UNKNOWN"),
        ("POST", "/v1/chat/completions/", 404, "ROUTE_UNKNOWN"),
        ("GET", "/v1/chat/completions", 405, "METHOD_UNKNOWN"),
        ("DELETE", "/v1/models", 405, "METHOD_UNKNOWN"),
        ("GET", "/v1/models/other", 404, "MODEL_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_told_in_openais_form(
    web: Web, method: str, path: str, status: int, reason: str
) -> None:
    """An unknown path or method is an error like any other, with the request id."""
    _, client = web
    reply = await client.request(method, path)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (status, reason, "invalid_request_error")
    assert reply.headers["x-request-id"] == error["request_id"]
    if status == 405:
        assert reply.headers["allow"]
