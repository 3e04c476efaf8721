"""The OpenAPI document says what is true of this edge."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.http import openapi, parameters, plain
from gateway.http.openai import read_chat
from tests.gateway.http.bodies import Web, body


def test_every_field_that_is_read_is_described() -> None:
    """What a body may hold is in its schema, and nothing else is."""
    schemas = openapi.document()["components"]["schemas"]
    assert set(schemas["Chat"]["properties"]) == {"model", "messages", "stream", "stream_options", *parameters.READ}
    assert set(schemas["Reuse"]["properties"]) == set(parameters.REUSE)
    assert set(schemas["Feedback"]["properties"]) == set(plain.FEEDBACK)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tokens", 9), ("temperature", 0.5), ("top_k", 3), ("stop", "x"), ("guided_json", {}),
     ("reasoning_effort", "none"), ("thinking", {"type": "enabled"}), ("askonce", {"tags": ["a"]})],
)  # fmt: skip
def test_described_fields_are_accepted(name: str, value: Any) -> None:
    """A body written after the document is read."""
    assert name in openapi.document()["components"]["schemas"]["Chat"]["properties"]
    read_chat(json.dumps(body(**{name: value})).encode())


def test_references_lead_somewhere() -> None:
    """Every $ref names a schema of the document."""
    document = openapi.document()
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    assert {"Chat", "Error"} <= named


@pytest.mark.slow
async def test_document_and_page_are_served(web: Web) -> None:
    """Every path of the document is there, and the page lists them; it loads nothing from elsewhere."""
    _, client = web
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method in operations:
            reply = await client.request(method.upper(), path.format(job="x", model="counting-1"))
            codes = (405, "ROUTE_UNKNOWN")
            code = reply.json().get("error", {}).get("code") if "json" in reply.headers["content-type"] else ""
            assert reply.status_code != codes[0]
            assert code != codes[1]
    page = await client.get("/docs")
    assert "/v1/chat/completions" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "://" not in page.text
