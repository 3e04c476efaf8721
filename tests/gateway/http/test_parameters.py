"""No parameter is dropped in silence: it is read, harmless, refused by name, or listed as having no effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from askonce.faults import InvalidInput
from askonce.v1 import answer_pb2, content_pb2
from gateway.http.fields import Warnings
from gateway.http.openai import read_chat
from gateway.http.parameters import HARMLESS, IGNORED, LOW_DETAIL, READ
from tests.gateway.http.bodies import DATA, body

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}}
TEXT = json.dumps(SCHEMA, separators=(",", ":"))


def read(**fields: Any) -> tuple[answer_pb2.AnswerRequest, list[str]]:
    """The request of a chat with these fields, and the fields that it was warned about."""
    chat = read_chat(json.dumps(body(**fields)).encode())
    return chat.request, [each["field"] for each in chat.warnings]


def params(**fields: Any) -> content_pb2.GenerationParams:
    """The generation parameters of a chat with these fields."""
    return read(**fields)[0].params


def refusal(**fields: Any) -> tuple[str, str]:
    """Reason and field of a refusal."""
    with pytest.raises(InvalidInput) as caught:
        read(**fields)
    return caught.value.reason, caught.value.field


@pytest.mark.parametrize("name", [*READ, *HARMLESS, *IGNORED, "stream", "stream_options", "model"])
def test_null_counts_as_absent(name: str) -> None:
    """A client that writes every field out, with null for what it has not set, asks the plain question."""
    assert read(**{name: None}) == read()


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"max_tokens": 7}, "max_tokens", 7),
        ({"max_completion_tokens": 7}, "max_tokens", 7),
        ({"temperature": 0.5}, "temperature", 0.5),
        ({"temperature": 1, "top_p": 0.5}, "top_p", 0.5),
        ({"temperature": 1, "top_k": 5}, "top_k", 5),
        ({"temperature": 1, "top_k": -1}, "top_k", 0),
        ({"temperature": 1, "min_p": 0.25}, "min_p", 0.25),
        ({"temperature": 1, "seed": -5}, "seed", -5),
        ({"repetition_penalty": 1.5}, "repetition_penalty", 1.5),
        ({"presence_penalty": 1.5}, "presence_penalty", 1.5),
        ({"frequency_penalty": -2}, "frequency_penalty", -2.0),
        ({"stop": "END"}, "stop", ["END"]),
        ({"stop": ["a", "b"]}, "stop", ["a", "b"]),
        ({"do_sample": False}, "temperature", 0.0),
        ({"askonce": {"max_pixels": 50_000}}, "max_pixels", 50_000),
    ],
)
def test_what_is_read_reaches_the_request(fields: dict[str, Any], name: str, value: Any) -> None:
    """OpenAI's names and those of vLLM and Z.ai."""
    found = getattr(params(**fields), name)
    assert (list(found) if name == "stop" else found) == value
    assert read(**fields)[1] == []


@pytest.mark.parametrize(
    ("fields", "thinking", "warned"),
    [
        ({"thinking": {"type": "enabled"}}, True, []),
        ({"thinking": {"type": "disabled"}}, False, []),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True, []),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, []),
        ({"reasoning_effort": "high"}, True, []),
        ({"reasoning_effort": "low"}, True, ["reasoning_effort"]),
        ({"reasoning_effort": "none"}, False, []),
        ({"reasoning_effort": "high", "thinking": {"type": "enabled"}}, True, []),
    ],
)
def test_every_word_for_thinking(fields: dict[str, Any], thinking: bool, warned: list[str]) -> None:
    """Whether the model thinks can be said in four ways; that there are no degrees is told."""
    request, warnings = read(**fields)
    assert (request.params.thinking, warnings) == (thinking, warned)


@pytest.mark.parametrize(
    ("fields", "schema"),
    [
        ({"response_format": {"type": "json_object"}}, None),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}, TEXT),
        ({"response_format": {"type": "json_schema", "json_schema": {"strict": True, "schema": SCHEMA}}}, TEXT),
        ({"guided_json": SCHEMA}, TEXT),
        ({"guided_json": TEXT}, TEXT),
        ({"structured_outputs": {"json": SCHEMA}}, TEXT),
        ({"structured_outputs": {"json_object": True}}, None),
    ],
)
def test_every_word_for_the_form(fields: dict[str, Any], schema: str | None) -> None:
    """A JSON object or a schema, in OpenAI's words or in vLLM's."""
    form = params(**fields).response_format
    assert form.json_object is (schema is None)
    assert form.json_schema.schema == (schema or "")


def test_strict_and_description_of_a_schema() -> None:
    """Whether the schema must be kept is passed on; a description has no effect, and the reply says so."""
    described = {"name": "n", "schema": SCHEMA, "strict": True, "description": "An invoice."}
    request, warned = read(response_format={"type": "json_schema", "json_schema": described})
    assert request.params.response_format.json_schema.strict
    assert warned == ["response_format.json_schema.description"]


def test_text_is_the_form_that_needs_none() -> None:
    """Asking for text asks for nothing."""
    assert not params(response_format={"type": "text"}).HasField("response_format")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HARMLESS.items() for value in values])
def test_harmless_values_change_nothing(name: str, value: Any) -> None:
    """What a client writes out at its default is accepted and makes no request of its own."""
    assert read(**{name: value}) == read()


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2}, {"best_of": 3}, {"tools": [{}]}, {"tool_choice": "required"}, {"function_call": {"name": "f"}},
        {"logprobs": True}, {"top_logprobs": 3}, {"logit_bias": {"1": 5}}, {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x"}}, {"guided_choice": ["yes", "no"]}, {"guided_regex": "a+"}, {"stop_token_ids": [13]},
        {"min_tokens": 50}, {"ignore_eos": True}, {"prediction": {"type": "content"}}, {"verbosity": "low"},
        {"skip_special_tokens": False}, {"bad_words": ["RM"]}, {"mm_processor_kwargs": {"max_pixels": 12544}},
        {"chat_template": "x"}, {"n": True}, {"logprobs": 0.5}, {"length_penalty": 2.0},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any]) -> None:
    """A known setting that would change the answer is refused, not dropped."""
    assert refusal(**fields) == ("FIELD_UNSUPPORTED", next(iter(fields)))


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"chat_template_kwargs": {"reasoning": True}}, "FIELD_UNSUPPORTED", "chat_template_kwargs.reasoning"),
        ({"structured_outputs": {"choice": ["a"]}}, "FIELD_UNSUPPORTED", "structured_outputs.choice"),
        ({"response_format": {"type": "xml"}}, "FIELD_UNSUPPORTED", "response_format.type"),
        ({"response_format": {"typ": "json_object"}}, "FIELD_UNKNOWN", "response_format.typ"),
        ({"response_format": {"type": "json_schema"}}, "RESPONSE_FORMAT_INVALID", "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schemas": {}}}}, "FIELD_UNKNOWN",
         "response_format.json_schema.schemas"),
        ({"thinking": {"type": "maybe"}}, "ENUM_UNKNOWN", "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "FIELD_UNSUPPORTED", "thinking.budget_tokens"),
        ({"reasoning_effort": "huge"}, "ENUM_UNKNOWN", "reasoning_effort"),
        ({"thinking": {"type": "enabled"}, "reasoning_effort": "none"}, "FIELDS_CONFLICT", "thinking"),
        ({"guided_json": {}, "response_format": {"type": "json_object"}}, "FIELDS_CONFLICT", "response_format"),
        ({"do_sample": True}, "FIELD_UNSUPPORTED", "do_sample"),
        ({"seed": 2**63}, "OUT_OF_RANGE", "seed"),
        ({"stop": [1]}, "BODY_INVALID", "stop"),
        ({"stop": "half \ud800"}, "BODY_INVALID", "stop"),
        ({"askonce": {"cache_mod": "bypass"}}, "FIELD_UNKNOWN", "askonce.cache_mod"),
        ({"askonce": {"tags": [1]}}, "BODY_INVALID", "askonce.tags"),
        ({"askonce": {"max_age_seconds": -1}}, "OUT_OF_RANGE", "askonce.max_age_seconds"),
        ({"frequency_penality": 1}, "FIELD_UNKNOWN", "frequency_penality"),
    ],
)  # fmt: skip
def test_errors_lead_to_the_field(fields: dict[str, Any], reason: str, field: str) -> None:
    """Whatever is wrong is told with its place."""
    assert refusal(**fields) == (reason, field)


@pytest.mark.parametrize("name", [*IGNORED])
def test_what_no_answer_depends_on_is_listed(name: str) -> None:
    """A field without effect is accepted and the reply says so."""
    request, warned = read(**{name: "x"})
    assert (request, warned) == (read()[0], [name])


def test_sampling_without_a_temperature_is_told() -> None:
    """At temperature 0 nothing is drawn, so what shapes the draw has no effect, and the reply says so."""
    assert sorted(read(top_k=5, min_p=0.1, seed=1, top_p=0.5)[1]) == ["min_p", "seed", "top_k", "top_p"]


def test_the_extension_object_tightens_reuse() -> None:
    """Everything that the wire has and OpenAI has no word for is in "askonce"."""
    request, _ = read(
        askonce={
            "cache_mode": "only-if-cached", "exact_only": True, "max_age_seconds": 9, "min_image_score": 0.99,
            "min_question_score": 0.98, "tags": ["a"], "answer_language_code": "zh",
        }
    )  # fmt: skip
    assert request.cache_mode == answer_pb2.CACHE_MODE_ONLY_IF_CACHED
    assert (request.limits.exact_only, request.limits.max_age_seconds) == (True, 9)
    assert (request.limits.min_image_score, request.limits.min_question_score) == (0.99, 0.98)
    assert (list(request.tags), request.question.answer_language_code) == (["a"], "zh")


@pytest.mark.parametrize(("detail", "pixels"), [("low", LOW_DETAIL), ("high", 0), ("auto", 0)])
def test_detail_is_a_number_of_pixels(detail: str, pixels: int) -> None:
    """ "low" lets the model look at few pixels, as OpenAI's does; the others leave it to the policy."""
    parts = [{"type": "image_url", "image_url": {"url": DATA, "detail": detail}}, {"type": "text", "text": "x"}]
    found = read(messages=[{"role": "user", "content": parts}])[0].params
    assert (found.max_pixels, found.HasField("max_pixels")) == (pixels, pixels > 0)


def test_warnings_name_field_and_reason() -> None:
    """A warning is for programs as well as for people."""
    warnings = Warnings()
    warnings.add("user", "it has no effect")
    assert warnings.items == [{"field": "user", "reason": "FIELD_IGNORED", "message": "user: it has no effect"}]
