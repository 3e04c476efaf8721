"""Generation parameters under the names that OpenAI's, vLLM's and Z.ai's clients use.

Every field of a request falls into one of four groups: it is read; it is harmless at the value it has; it is known and
can't be honoured (FIELD_UNSUPPORTED); or it has no effect on the answer and the reply lists it under `warnings`. What
belongs to none of them is FIELD_UNKNOWN: a misspelt setting never goes unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from askonce.faults import InvalidInput
from askonce.v1 import answer_pb2, content_pb2
from gateway.http.fields import Warnings, check_text, int32, only, take, texts, unsupported

READ = (
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "top_k", "min_p",
    "repetition_penalty", "presence_penalty", "frequency_penalty", "response_format", "guided_json",
    "structured_outputs", "thinking", "reasoning_effort", "chat_template_kwargs", "do_sample", "askonce",
)  # fmt: skip
"""Fields that set how an answer is generated or reused."""

HARMLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "modalities": (["text"], []),
    "audio": (),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0,),
    "logit_bias": ({},),
    "prediction": (),
    "web_search_options": (),
    "verbosity": ("medium",),
    "guided_choice": (),
    "guided_regex": (),
    "guided_grammar": (),
    "guided_decoding_backend": (),
    "guided_whitespace_pattern": (),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (False,),
    "use_beam_search": (False,),
    "length_penalty": (1, 1.0),
    "early_stopping": (False,),
    "truncate_prompt_tokens": (),
    "chat_template": (),
    "documents": ([],),
    "mm_processor_kwargs": ({},),
    "echo": (False,),
    "tool_stream": (False,),
}
"""Fields that would change the answer, with the values at which they do not; at any other they are refused."""

HINTS = {
    "n": "one choice is given; ask again for another",
    "mm_processor_kwargs": 'write "askonce": {"max_pixels": …} instead',
    "guided_choice": 'write a response_format with a JSON Schema instead, such as {"enum": […]}',
}

IGNORED = {
    "user": "it has no effect; the tenant is known by its key",
    "metadata": 'it has no effect; label entries with "askonce": {"tags": […]}',
    "store": 'it has no effect; whether an answer is kept is "askonce": {"cache_mode": …}',
    "service_tier": "it has no effect",
    "safety_identifier": "it has no effect",
    "prompt_cache_key": "it has no effect",
    "prompt_cache_retention": "it has no effect",
    "priority": "it has no effect",
    "request_id": "it has no effect; send the header askonce-request-id",
    "user_id": "it has no effect; the tenant is known by its key",
}
"""Fields that no answer depends on."""

LOW_DETAIL = 512 * 512
"""Pixels that "detail": "low" lets the model look at, as OpenAI's does."""

KINDS = 'write "text", "json_object" or "json_schema"'

EFFORTS = {"none": False, "minimal": False, "low": True, "medium": True, "high": True, "xhigh": True}

SAMPLED = ("top_p", "top_k", "min_p", "seed")
"""Parameters that greedy decoding does not look at."""


def read_params(fields: Mapping[str, Any], params: content_pb2.GenerationParams, warnings: Warnings) -> None:
    """Reads every generation parameter. Raises InvalidInput."""
    for name in ("max_tokens", "max_completion_tokens"):
        if fields.get(name) is not None:
            params.max_tokens = int32(take(fields, name, int, 0), name)
    for name in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
        if fields.get(name) is not None:
            setattr(params, name, take(fields, name, float, 0.0))
    if fields.get("top_k") is not None:
        params.top_k = max(0, int32(take(fields, "top_k", int, 0), "top_k"))  # some clients write -1 for all
    if fields.get("seed") is not None:
        seed = take(fields, "seed", int, 0)
        if not -(2**63) <= seed < 2**63:
            raise InvalidInput("OUT_OF_RANGE", "seed: write a 64-bit number.", field="seed")
        params.seed = seed
    stop = fields.get("stop")
    if isinstance(stop, str):
        check_text(stop, "stop")
        params.stop.append(stop)
    else:
        params.stop.extend(texts(fields, "stop"))
    read_do_sample(fields, params)
    read_thinking(fields, params, warnings)
    read_response_format(fields, params, warnings)
    if params.temperature == 0.0:
        for name in SAMPLED:
            if params.HasField(name):  # type: ignore[arg-type]
                warnings.add(name, "it has no effect at temperature 0, which is the default")


def read_do_sample(fields: Mapping[str, Any], params: content_pb2.GenerationParams) -> None:
    """False is greedy decoding; true says nothing about the temperature, which must then be given."""
    if fields.get("do_sample") is None:
        return
    if not take(fields, "do_sample", bool, False):
        params.temperature = 0.0
    elif params.temperature == 0.0:
        raise unsupported("do_sample", "set a temperature above 0 as well")


def read_thinking(fields: Mapping[str, Any], params: content_pb2.GenerationParams, warnings: Warnings) -> None:
    """Whether the model thinks first, under any of the names that clients have for it. Raises InvalidInput."""
    wishes: dict[str, bool] = {}
    template = take(fields, "chat_template_kwargs", dict, {})
    for name in template:
        if name not in ("enable_thinking", "thinking") and template[name] is not None:
            raise unsupported(f"chat_template_kwargs.{name}")
    for name in ("enable_thinking", "thinking"):
        if template.get(name) is not None:
            wishes[f"chat_template_kwargs.{name}"] = take(template, name, bool, False, "chat_template_kwargs.")
    if fields.get("thinking") is not None:
        thinking = take(fields, "thinking", dict, {})
        kind = take(thinking, "type", str, "", "thinking.")
        if kind not in ("enabled", "disabled"):
            message = 'thinking.type: write "enabled" or "disabled".'
            raise InvalidInput("ENUM_UNKNOWN", message, field="thinking.type")
        for name in thinking:
            if name != "type" and thinking[name] is not None:
                raise unsupported(f"thinking.{name}")
        wishes["thinking"] = kind == "enabled"
    effort = take(fields, "reasoning_effort", str, "")
    if effort:
        if effort not in EFFORTS:
            message = f"reasoning_effort: write one of {', '.join(EFFORTS)}."
            raise InvalidInput("ENUM_UNKNOWN", message, field="reasoning_effort")
        wishes["reasoning_effort"] = EFFORTS[effort]
        if effort not in ("none", "high"):
            warnings.add("reasoning_effort", "there are no degrees: the model thinks or does not")
    if len(set(wishes.values())) > 1:
        names = " and ".join(wishes)
        raise InvalidInput(
            "FIELDS_CONFLICT", f"{names}: they say the opposite of each other.", field=next(iter(wishes))
        )
    if True in wishes.values():
        params.thinking = True


def read_response_format(fields: Mapping[str, Any], params: content_pb2.GenerationParams, warnings: Warnings) -> None:
    """The form of the answer, in OpenAI's words or in vLLM's. Raises InvalidInput."""
    forms: dict[str, content_pb2.ResponseFormat | None] = {}
    if fields.get("response_format") is not None:
        forms["response_format"] = openai_format(take(fields, "response_format", dict, {}), warnings)
    if fields.get("guided_json") is not None:
        forms["guided_json"] = schema_format(fields["guided_json"], "guided_json")
    outputs = take(fields, "structured_outputs", dict, {})
    for name, value in outputs.items():
        if name == "json" and value is not None:
            forms["structured_outputs"] = schema_format(value, "structured_outputs.json")
        elif name == "json_object" and value:
            forms["structured_outputs"] = content_pb2.ResponseFormat(json_object=True)
        elif value:
            raise unsupported(f"structured_outputs.{name}", 'write "json" with a JSON Schema instead')
    wanted = [form for form in forms.values() if form is not None]
    if len(wanted) > 1:
        names = " and ".join(name for name, form in forms.items() if form is not None)
        raise InvalidInput("FIELDS_CONFLICT", f"{names}: ask for one form.", field=next(iter(forms)))
    if wanted:
        params.response_format.CopyFrom(wanted[0])


def openai_format(form: Mapping[str, Any], warnings: Warnings) -> content_pb2.ResponseFormat | None:
    """OpenAI's `response_format`; None for free text. Raises InvalidInput."""
    where = "response_format."
    kind = take(form, "type", str, "", where)
    match kind:
        case "text" | "":
            only(form, ("type",), where)
            if not kind and form:
                raise InvalidInput("RESPONSE_FORMAT_INVALID", f"{where}type: {KINDS}.", field=f"{where}type")
            return None
        case "json_object":
            only(form, ("type",), where)
            return content_pb2.ResponseFormat(json_object=True)
        case "json_schema":
            only(form, ("type", "json_schema"), where)
            described = take(form, "json_schema", dict, {}, where)
            only(described, ("name", "description", "schema", "strict"), f"{where}json_schema.")
            wanted = schema_format(described.get("schema"), f"{where}json_schema.schema")
            wanted.json_schema.strict = take(described, "strict", bool, False, f"{where}json_schema.")
            if described.get("description") is not None:
                warnings.add(f"{where}json_schema.description", "it has no effect; write it into the schema")
            return wanted
    raise unsupported(f"{where}type", KINDS)


def schema_format(schema: Any, field: str) -> content_pb2.ResponseFormat:
    """The form of a schema: an object, or, as vLLM takes it too, its text. Raises InvalidInput."""
    if isinstance(schema, dict):
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    elif isinstance(schema, str):
        text = schema
    else:
        raise InvalidInput("RESPONSE_FORMAT_INVALID", f"{field}: write a JSON Schema.", field=field)
    check_text(text, field)
    return content_pb2.ResponseFormat(json_schema=content_pb2.JsonSchema(schema=text))


def check_rest(fields: Mapping[str, Any], warnings: Warnings) -> None:
    """Passes what is harmless, notes what has no effect, refuses what can't be honoured. Raises InvalidInput."""
    for name, value in fields.items():
        if value is None:
            continue
        if name in IGNORED:
            warnings.add(name, IGNORED[name])
        elif name in HARMLESS and not any(same(value, harmless) for harmless in HARMLESS[name]):
            raise unsupported(name, HINTS.get(name, "it is not supported here; leave it out"))


def same(value: Any, harmless: Any) -> bool:
    """Whether a value is a harmless one; 1 is not true and 0 is not false."""
    return isinstance(value, bool) == isinstance(harmless, bool) and value == harmless


REUSE = (
    "cache_mode", "exact_only", "max_age_seconds", "min_image_score", "min_question_score", "tags",
    "answer_language_code", "max_pixels",
)  # fmt: skip
"""Members of the extension object "askonce"."""


def read_reuse(fields: Mapping[str, Any], request: answer_pb2.AnswerRequest) -> None:
    """The extension object "askonce": how memory is used, and what OpenAI's protocol has no word for."""
    where = "askonce."
    only(fields, REUSE, where)
    mode = take(fields, "cache_mode", str, "", where)
    if mode:
        name = "CACHE_MODE_" + mode.upper().replace("-", "_")
        if name not in answer_pb2.CacheMode.keys():  # noqa: SIM118 - an enum wrapper is no mapping
            message = "askonce.cache_mode: write default, bypass, refresh, only_if_cached or no_store."
            raise InvalidInput("ENUM_UNKNOWN", message, field="askonce.cache_mode")
        request.cache_mode = answer_pb2.CacheMode.Value(name)
    if take(fields, "exact_only", bool, False, where):
        request.limits.exact_only = True
    if fields.get("max_age_seconds") is not None:
        age = take(fields, "max_age_seconds", int, 0, where)
        if not 0 <= age < 2**63:
            field = "askonce.max_age_seconds"
            raise InvalidInput("OUT_OF_RANGE", f"{field}: write 0 or more.", field=field)
        request.limits.max_age_seconds = age
    for score in ("min_image_score", "min_question_score"):
        if fields.get(score) is not None:
            setattr(request.limits, score, take(fields, score, float, 0.0, where))
    if fields.get("max_pixels") is not None:
        request.params.max_pixels = int32(take(fields, "max_pixels", int, 0, where), "askonce.max_pixels")
    request.tags.extend(texts(fields, "tags", where))
    request.question.answer_language_code = take(fields, "answer_language_code", str, "", where)
