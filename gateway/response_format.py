"""The form of an answer that a program reads: checked when it is asked for, and again before it is remembered.

A schema is the engine's to enforce, token by token. Here it is only made sure that it is one JSON object of bounded
size, and that what is remembered is JSON of the kind that was asked for: an endpoint that ignores the form answers in
prose, and prose is never stored under it.
"""

from __future__ import annotations

import json
from typing import Any

from askonce.faults import InvalidInput
from askonce.v1 import content_pb2

MAX_SCHEMA_BYTES = 32_768
MAX_DEPTH = 64
"""Objects and lists within one another."""

KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def check(form: content_pb2.ResponseFormat, field: str) -> None:
    """Checks a form. Raises InvalidInput with RESPONSE_FORMAT_INVALID or SCHEMA_TOO_LONG."""
    match form.WhichOneof("format"):
        case "json_object" if form.json_object:
            return
        case "json_schema":
            check_schema(form.json_schema.schema, f"{field}.json_schema.schema")
        case _:
            raise invalid(field, "set json_object to true, or a json_schema")


def check_schema(text: str, field: str) -> None:
    """Checks the text of a JSON Schema. Raises InvalidInput."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_SCHEMA_BYTES:
        raise InvalidInput(
            "SCHEMA_TOO_LONG",
            f"{field}: {size:,} bytes are too many; at most {MAX_SCHEMA_BYTES:,} are accepted.",
            field=field,
            metadata={"limit": str(MAX_SCHEMA_BYTES), "actual": str(size)},
        )
    try:
        schema = parse(text)
    except (ValueError, RecursionError) as error:
        raise invalid(field, "this is no JSON") from error
    if not isinstance(schema, dict):
        raise invalid(field, "write a JSON object")
    if depth(schema) > MAX_DEPTH:
        raise invalid(field, f"more than {MAX_DEPTH} objects within one another")


def depth(value: Any) -> int:
    """How many objects and lists stand within one another."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        part, level = waiting.pop()
        if isinstance(part, dict | list):
            deepest = max(deepest, level)
            waiting.extend((each, level + 1) for each in (part.values() if isinstance(part, dict) else part))
    return deepest


def invalid(field: str, what: str) -> InvalidInput:
    """The fault of a form that is none."""
    return InvalidInput("RESPONSE_FORMAT_INVALID", f"{field}: {what}.", field=field)


def canonical(form: content_pb2.ResponseFormat) -> content_pb2.ResponseFormat:
    """The form without needless white space; the order of properties is that of the answer and stays."""
    if form.WhichOneof("format") != "json_schema":
        return form
    schema = json.dumps(parse(form.json_schema.schema), ensure_ascii=False, separators=(",", ":"))
    return content_pb2.ResponseFormat(json_schema=content_pb2.JsonSchema(schema=schema, strict=form.json_schema.strict))


def holds(form: content_pb2.ResponseFormat, text: str) -> bool:
    """Whether an answer is JSON of the kind that was asked for."""
    try:
        value = parse(text)
        kind = "object" if form.WhichOneof("format") == "json_object" else parse(form.json_schema.schema).get("type")
    except (ValueError, RecursionError):
        return False
    if not isinstance(kind, str) or kind not in KINDS:
        return True
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def parse(text: str) -> Any:
    """JSON as the standard has it. Raises ValueError, also for NaN and Infinity, and RecursionError."""
    return json.loads(text, parse_constant=refuse)


def refuse(word: str) -> None:
    """NaN and Infinity are no JSON, whatever Python says."""
    raise ValueError(word)
