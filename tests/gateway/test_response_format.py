"""The form of an answer: what is a form, what has it, and what is never stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from askonce.faults import InvalidInput
from askonce.v1 import content_pb2
from gateway.response_format import MAX_SCHEMA_BYTES, canonical, check, holds
from tests.gateway.doubles import IMAGE, Running

OBJECT = content_pb2.ResponseFormat(json_object=True)
TOTAL = {"type": "object", "properties": {"total": {"type": "number"}, "date": {"type": "string"}}}


def schema(value: Any) -> content_pb2.ResponseFormat:
    """The form of a schema; a text is taken as it is."""
    text = value if isinstance(value, str) else json.dumps(value)
    return content_pb2.ResponseFormat(json_schema=content_pb2.JsonSchema(schema=text))


def nested(levels: int) -> dict[str, Any]:
    """A schema of so many objects within one another."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"not": value}
    return value


@pytest.mark.parametrize("form", [OBJECT, schema({}), schema(TOTAL), schema({"title": "发票"}), schema(nested(64))])
def test_forms_are_taken(form: content_pb2.ResponseFormat) -> None:
    """A JSON object, and any schema that is one."""
    check(form, "f")


@pytest.mark.parametrize(
    ("form", "reason", "field"),
    [
        (content_pb2.ResponseFormat(), "RESPONSE_FORMAT_INVALID", "f"),
        (content_pb2.ResponseFormat(json_object=False), "RESPONSE_FORMAT_INVALID", "f"),
        (schema(""), "RESPONSE_FORMAT_INVALID", "f.json_schema.schema"),
        (schema("[]"), "RESPONSE_FORMAT_INVALID", "f.json_schema.schema"),
        (schema('{"a": NaN}'), "RESPONSE_FORMAT_INVALID", "f.json_schema.schema"),
        (schema("[" * 20_000), "RESPONSE_FORMAT_INVALID", "f.json_schema.schema"),
        (schema(nested(65)), "RESPONSE_FORMAT_INVALID", "f.json_schema.schema"),
        (schema({"title": "多" * MAX_SCHEMA_BYTES}), "SCHEMA_TOO_LONG", "f.json_schema.schema"),
    ],
)
def test_what_is_no_form_is_refused(form: content_pb2.ResponseFormat, reason: str, field: str) -> None:
    """A form that is not set, no JSON, no object, too deep or too long."""
    with pytest.raises(InvalidInput) as caught:
        check(form, "f")
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_white_space_makes_no_form_of_its_own_and_order_does() -> None:
    """Spacing does not part two forms; the order of properties, in which the answer is written, does."""
    assert canonical(schema(json.dumps(TOTAL, indent=2))) == canonical(schema(TOTAL))
    turned = {**TOTAL, "properties": dict(reversed(TOTAL["properties"].items()))}  # type: ignore[attr-defined]
    assert canonical(schema(turned)) != canonical(schema(TOTAL))


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (OBJECT, '{"total": 1}', True),
        (OBJECT, ' {"a": "价税合计"}\n', True),
        (OBJECT, "[1]", False),
        (OBJECT, 'Here it is: {"total": 1}', False),
        (OBJECT, "```json\n{}\n```", False),
        (OBJECT, '{"total": NaN}', False),
        (OBJECT, '{"total": 1', False),
        (OBJECT, "[" * 200_000, False),
        (schema(TOTAL), '{"total": 1}', True),
        (schema(TOTAL), "1", False),
        (schema({"type": "array"}), "[]", True),
        (schema({"type": "integer"}), "true", False),
        (schema({"enum": ["a"]}), '"a"', True),
        (schema({"enum": ["a"]}), "a", False),
    ],
)
def test_what_has_the_form(form: content_pb2.ResponseFormat, text: str, expected: bool) -> None:
    """An answer has the form when it is JSON of the schema's kind; prose around it is none."""
    assert holds(form, text) is expected


async def test_answer_without_its_form_is_not_stored(system: Running) -> None:
    """A model that ignores the form is heard, and not remembered."""
    params = content_pb2.GenerationParams(response_format=OBJECT)
    assert (await system.ask(IMAGE, params=params)).answer.text == "answer 1 to: What is the total?"
    await system.settled()
    assert system.memory.remembered == []
    await system.ask(IMAGE)
    await system.settled()
    assert len(system.memory.remembered) == 1
