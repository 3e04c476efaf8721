"""Whatever JSON comes, it is read or refused with a reason; nothing else ever happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from askonce.faults import InvalidInput
from gateway.http import openapi, parameters, plain
from gateway.http.errors import error_response
from gateway.http.openai import read_chat
from tests.gateway.http.bodies import DATA, Web, body

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
"""Characters include halves of surrogate pairs."""
VALUES: SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([*openapi.FIELDS, *parameters.HARMLESS, *parameters.IGNORED])
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image_url", "input_image", "file", "input_file", "refusal"]) | VALUES,
        "text": VALUES,
        "image_url": st.just(DATA) | st.fixed_dictionaries({"url": st.just(DATA) | VALUES}) | VALUES,
        "file": st.fixed_dictionaries({}, optional={"file_data": st.just(DATA) | VALUES, "file_id": VALUES}) | VALUES,
        "detail": VALUES,
    },
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"]) | VALUES},
        optional={"content": st.lists(PARTS, max_size=3) | VALUES, "tool_calls": VALUES, "name": VALUES},
    ),
    max_size=4,
)


def refused(read: Any, value: Any) -> None:
    """Reads a body; a refusal can be sent as a response."""
    fault: InvalidInput | None = None
    try:
        read(json.dumps(value).encode())
    except InvalidInput as error:
        fault = error
    assert fault is None or (fault.reason and error_response(fault).status_code == 400)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES | st.text(st.characters(), max_size=8), VALUES, max_size=4))
def test_any_field_with_any_value(fields: dict[str, Any]) -> None:
    """A good body with fields of any kind beside it, on every route."""
    refused(read_chat, {**body(), **fields})
    refused(lambda raw: plain.read_plain(raw, "text", "max_new_tokens"), {"image": DATA, "text": "x", **fields})
    refused(plain.read_feedback, {"decision": "d", "verdict": "wrong", **fields})


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(MESSAGES)
def test_any_conversation(messages: list[Any]) -> None:
    """Messages and parts of any shape."""
    refused(read_chat, {"messages": messages})


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes(raw: bytes) -> None:
    """A body that may be no JSON at all."""
    with pytest.raises(InvalidInput):
        read_chat(raw)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"stop": ["\ud800"]},
        {"thinking": {"type": "enabled", "\ud800": 1}},
        {"chat_template_kwargs": {"\udfff": 1}},
        {"askonce": {"tags": ["\ud800"]}},
        {"\ud800": 1},
        {"model": "\ud800"},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://\ud800"}]}]},
    ],
)
async def test_halves_of_characters_over_http(web: Web, change: dict[str, Any]) -> None:
    """What is no text is refused like everything else that is wrong, wherever it stands."""
    _, client = web
    raw = json.dumps({**body(), **change}).encode()
    reply = await client.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"]
