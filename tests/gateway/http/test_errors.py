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
