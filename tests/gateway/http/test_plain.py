"""Bodies of the plainer routes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from askonce.faults import InvalidInput
from askonce.v1 import answer_pb2
from gateway.http.plain import Plain, read_feedback, read_plain
from tests.gateway.http.bodies import PNG


def infer(**fields: Any) -> Plain:
    """A body of /infer."""
    return read_plain(json.dumps({"image": PNG, "text": "Total?", **fields}).encode(), "text", "max_new_tokens")


def test_names_of_the_route() -> None:
    """Each route has its own names for text and tokens, and all parameters besides."""
    found = infer(max_new_tokens=9, temperature=0.5, user="u")
    assert (found.request.question.text, found.request.params.max_tokens) == ("Total?", 9)
    assert found.request.params.temperature == 0.5
    assert [each["field"] for each in found.warnings] == ["user"]
    assert infer(max_new_tokens=None).request == infer().request


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": None}, "IMAGE_REQUIRED"),
        ({"max_tokens": 5}, "FIELD_UNKNOWN"),
        ({"prompt": "x"}, "FIELD_UNKNOWN"),
        ({"messages": []}, "FIELD_UNKNOWN"),
        ({"max_new_tokens": "9"}, "BODY_INVALID"),
        ({"tools": [{}]}, "FIELD_UNSUPPORTED"),
    ],
)
def test_bad_bodies(fields: dict[str, Any], reason: str) -> None:
    """A name of another route is as unknown as a misspelt one."""
    with pytest.raises(InvalidInput) as caught:
        infer(**fields)
    assert caught.value.reason == reason


def test_feedback() -> None:
    """A verdict in a word; another word is none, and a misspelt field is told."""
    found = read_feedback(b'{"decision": "d", "verdict": "wrong", "correct_text": "5", "comment": null}')
    assert (found.decision, found.verdict, found.correct_text) == ("d", answer_pb2.VERDICT_WRONG, "5")
    assert read_feedback(b'{"decision": "d", "verdict": "maybe"}').verdict == answer_pb2.VERDICT_UNSPECIFIED
    with pytest.raises(InvalidInput) as caught:
        read_feedback(b'{"decision": "d", "verdict": "wrong", "corect_text": "5"}')
    assert caught.value.reason == "FIELD_UNKNOWN"
