"""Every HTTP request leaves one line and counts once, whatever was asked for."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.gateway.http.bodies import Web, body

pytestmark = pytest.mark.slow


async def test_one_line_a_request(web: Web) -> None:
    """The line has id, route, status and where the answer came from."""
    _, client = web
    with capture_logs() as logs:
        await client.post("/v1/chat/completions", json=body(), headers={"askonce-request-id": "r-9"})
    lines = [each for each in logs if each["event"] == "request" and each["request_id"] == "r-9"]
    (line,) = [each for each in lines if each["method"] == "POST /v1/chat/completions"]
    assert (line["code"], line["source"]) == ("200", "model")


async def test_unknown_paths_share_one_label(web: Web) -> None:
    """A scanner can't fill the metrics with names of its own."""
    _, client = web
    for path in ("/wp-login.php", "/.env", "/v1/jobs/a", "/v1/jobs/b"):
        await client.get(path)
    metrics = (await client.get("/metrics")).text
    assert 'method="GET other"' in metrics
    assert 'method="GET /v1/jobs/{job}"' in metrics
    assert "wp-login" not in metrics
    assert "/v1/jobs/a" not in metrics
