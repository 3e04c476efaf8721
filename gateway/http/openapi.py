"""The OpenAPI document of this edge, and the same as a page. Made of the tables that requests are read by."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import cache
from typing import Any

from askonce.limits import DEFAULT_MAX_TOKENS, MAX_TOKENS
from gateway.http import openai, parameters, plain

VERSION = "1"
TOKENS = {"minimum": MAX_TOKENS[0], "maximum": MAX_TOKENS[1]}

FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"type": "string"}, 'The hosted model\'s name, or "askonce" for whichever is hosted.'),
    "messages": (
        {"type": "array", "items": {"$ref": "#/components/schemas/Message"}},
        "The conversation. The last message of the user's is the question; images and PDF files may stand in any.",
    ),
    "stream": ({"type": "boolean"}, "Whether the answer comes piece by piece, as server-sent events."),
    "stream_options": (
        {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        "include_usage: whether a last chunk counts tokens.",
    ),
    "max_tokens": ({"type": "integer", **TOKENS}, f"The most tokens to generate. Default {DEFAULT_MAX_TOKENS}."),
    "max_completion_tokens": ({"type": "integer", **TOKENS}, "The same as max_tokens."),
    "max_new_tokens": ({"type": "integer", **TOKENS}, "The same as max_tokens."),
    "temperature": ({"type": "number", "minimum": 0, "maximum": 2}, "Default 0, which is greedy decoding."),
    "top_p": ({"type": "number", "maximum": 1}, "Nucleus sampling. Default 1."),
    "top_k": ({"type": "integer", "minimum": -1}, "How many tokens sampling chooses from; 0 or -1 for all."),
    "min_p": ({"type": "number", "minimum": 0, "maximum": 1}, "The least share of the likeliest token's probability."),
    "seed": ({"type": "integer"}, "The seed of a sampled answer."),
    "stop": (
        {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 4}]},
        "Texts that end the answer.",
    ),
    "repetition_penalty": ({"type": "number", "maximum": 2}, "Above 0; default 1. Where the engine has it."),
    "presence_penalty": ({"type": "number", "minimum": -2, "maximum": 2}, "Default 0. Where the engine has it."),
    "frequency_penalty": ({"type": "number", "minimum": -2, "maximum": 2}, "Default 0. Where the engine has it."),
    "response_format": (
        {"type": "object", "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}}},
        "The form of the answer: text, json_object, or json_schema with a schema. Where the engine has it.",
    ),
    "guided_json": ({"type": "object"}, "A JSON Schema; the same as a response_format with it."),
    "structured_outputs": ({"type": "object"}, '{"json": a JSON Schema}; the same as a response_format with it.'),
    "thinking": ({"type": "object"}, '{"type": "enabled"} or {"type": "disabled"}: whether the model thinks first.'),
    "reasoning_effort": (
        {"enum": list(parameters.EFFORTS)},
        '"none" and "minimal" switch thinking off, all others on; there are no degrees.',
    ),
    "chat_template_kwargs": ({"type": "object"}, '{"enable_thinking": true}: whether the model thinks first.'),
    "do_sample": ({"type": "boolean"}, "false is temperature 0."),
    "askonce": ({"$ref": "#/components/schemas/Reuse"}, "How memory is used."),
    "image": ({"type": "string"}, "Base64, a data URI or an https address."),
    "prompt": ({"type": "string"}, "The question."),
    "text": ({"type": "string"}, "The question."),
    "decision": ({"type": "string"}, "The decision, from the reply's askonce.decision."),
    "verdict": ({"enum": list(plain.VERDICTS)}, "Whether the answer was right."),
    "correct_text": ({"type": "string"}, "The right answer, where it is known."),
    "comment": ({"type": "string"}, "Why."),
}
"""Every field that has an effect, with its schema and what it is for."""

REUSE: dict[str, tuple[dict[str, Any], str]] = {
    "cache_mode": ({"enum": ["default", "bypass", "refresh", "only_if_cached", "no_store"]}, "How memory is used."),
    "exact_only": ({"type": "boolean"}, "Whether only the same pixels with the same question may be served."),
    "max_age_seconds": ({"type": "integer", "minimum": 0}, "The oldest acceptable stored answer."),
    "min_image_score": ({"type": "number"}, "The least probability that the images are the same."),
    "min_question_score": ({"type": "number"}, "The least probability that the questions ask the same."),
    "tags": ({"type": "array", "items": {"type": "string"}}, "Labels for purges, at most 8."),
    "answer_language_code": ({"type": "string"}, 'The language to answer in, such as "en" or "zh".'),
    "max_pixels": ({"type": "integer"}, "The most pixels of each image that the model may look at."),
}

CHAT = (*openai.FRAME, *parameters.READ)
VISION = ("image", "prompt", "max_tokens", *parameters.READ[2:])
INFER = ("image", "text", "max_new_tokens", *parameters.READ[2:])

ROUTES: tuple[tuple[str, str, str, str | None], ...] = (
    ("post", "/v1/chat/completions", "Answers a question about images, as OpenAI's chat completions do.", "Chat"),
    ("post", "/v1/vision/completion", "Answers a question about one image.", "Vision"),
    ("post", "/infer", "Answers a question about one image with one text.", "Infer"),
    ("post", "/v1/feedback", "Says whether an answer was right; a wrong one is removed from memory.", "Feedback"),
    ("get", "/v1/jobs/{job}", "How far a queued question is, with its completion once it is done.", None),
    ("get", "/v1/models", "The hosted model, in a list.", None),
    ("get", "/v1/models/{model}", "The hosted model.", None),
    ("get", "/healthz", "Whether the edge is there, and which model is hosted.", None),
    ("get", "/metrics", "Prometheus metrics.", None),
    ("get", "/openapi.json", "This document.", None),
)

BODIES = {"Chat": CHAT, "Vision": VISION, "Infer": INFER, "Feedback": plain.FEEDBACK}
REQUIRED = {
    "Chat": ["messages"],
    "Vision": ["image", "prompt"],
    "Infer": ["image", "text"],
    "Feedback": ["decision", "verdict"],
}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document, version 3.1."""
    error = {"description": "An error in OpenAI's form; error.code is the reason.", "content": content("Error")}
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, body in ROUTES:
        operation: dict[str, Any] = {"summary": summary, "responses": {"200": {"description": "OK"}, "default": error}}
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        if body:
            operation["requestBody"] = {"required": True, "content": content(body)}
        paths.setdefault(path, {})[method] = operation
    schemas = {name: schema({each: FIELDS[each] for each in fields}) for name, fields in BODIES.items()}
    for name, required in REQUIRED.items():
        schemas[name]["required"] = required
    schemas |= {"Reuse": schema(REUSE), "Message": MESSAGE, "Error": ERROR}
    return {
        "openapi": "3.1.0",
        "info": {"title": "AskOnce", "version": VERSION, "description": "Questions about images, asked once."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def content(name: str) -> dict[str, Any]:
    """A JSON body of one of the schemas."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def schema(fields: Mapping[str, tuple[dict[str, Any], str]]) -> dict[str, Any]:
    """The schema of an object; what it does not list is refused, or has no effect and is listed under `warnings`."""
    described = {name: {**kind, "description": text} for name, (kind, text) in fields.items()}
    return {"type": "object", "properties": described}


MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": list(openai.ROLES)},
        "content": {
            "description": 'A text, or a list of parts: {"type": "text", "text"}, {"type": "image_url", "image_url": '
            '{"url", "detail"}}, {"type": "file", "file": {"file_data"}} for PDF files.',
        },
    },
}

ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault."},
                "code": {"type": "string", "description": "The reason, a stable UPPER_SNAKE word."},
                "metadata": {"type": "object"},
                "request_id": {"type": "string"},
            },
        }
    },
}


def page() -> str:
    """The document as a page."""
    parts = []
    for method, path, summary, body in ROUTES:
        parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(summary)}</p>")
        if body:
            parts.append(table({name: FIELDS[name] for name in BODIES[body]}, REQUIRED[body]))
    parts.append("<h2><code>askonce</code> in a request</h2>" + table(REUSE, []))
    harmless = ", ".join(f"<code>{name}</code>" for name in parameters.HARMLESS)
    ignored = ", ".join(f"<code>{name}</code>" for name in parameters.IGNORED)
    parts.append(
        "<h2>Other fields</h2><p>Accepted at the value that changes nothing, refused with <code>FIELD_UNSUPPORTED"
        f"</code> at any other: {harmless}.</p><p>Accepted without effect and listed in the reply's <code>warnings"
        f"</code>: {ignored}.</p><p>Any other field is refused with <code>FIELD_UNKNOWN</code>.</p>"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>AskOnce: the HTTP edge</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
        "margin:2rem auto;padding:0 1rem}dl{display:grid;grid-template-columns:14rem 1fr;column-gap:1rem}"
        "dt,dd{margin:0;padding:.25rem 0;border-top:1px solid #ddd}code{font-size:.9em;overflow-wrap:anywhere}"
        "@media(max-width:40rem){dl{display:block}dd{border:0;padding-top:0}}"
        "</style><h1>AskOnce: the HTTP edge</h1>" + "".join(parts) + "</html>"
    )


def table(fields: Mapping[str, tuple[dict[str, Any], str]], required: list[str]) -> str:
    """Fields with what they are for."""
    rows = "".join(
        f"<dt><code>{name}</code>{' (required)' if name in required else ''}</dt><dd>{html.escape(text)}</dd>"
        for name, (_, text) in fields.items()
    )
    return f"<dl>{rows}</dl>"


DOCS = page()
