"""Translates between JSON bodies and `askonce.v1`: OpenAI's chat completions and two plainer forms. Pure functions."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from askonce.faults import InvalidInput
from askonce.v1 import answer_pb2, content_pb2, job_pb2

T = TypeVar("T")

ROLES = {
    "system": content_pb2.ROLE_USER,
    "developer": content_pb2.ROLE_USER,
    "user": content_pb2.ROLE_USER,
    "assistant": content_pb2.ROLE_ASSISTANT,
}
"""The wire knows two roles; what a system message says comes first in the conversation."""

FINISH = {
    content_pb2.FINISH_REASON_STOP: "stop",
    content_pb2.FINISH_REASON_LENGTH: "length",
    content_pb2.FINISH_REASON_FILTERED: "content_filter",
    content_pb2.FINISH_REASON_UNANSWERABLE: "stop",
}

UNSUPPORTED = ("tools", "functions", "logprobs", "audio", "modalities", "logit_bias")
"""Fields of OpenAI's that would change the answer and can't be honoured."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A request for a chat completion."""

    request: answer_pb2.AnswerRequest
    model: str
    """The model that the client named; empty for none."""
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends with a chunk that counts tokens."""


def read_body(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises InvalidInput."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("BODY_INVALID", "Send a JSON object in UTF-8.") from error
    if not isinstance(value, dict):
        raise InvalidInput("BODY_INVALID", "Send a JSON object.")
    return value


def read_chat(body: bytes) -> Chat:
    """A body as sent to /v1/chat/completions. Raises InvalidInput."""
    fields = read_body(body)
    for name in UNSUPPORTED:
        if fields.get(name):
            raise InvalidInput("FIELD_UNSUPPORTED", f"{name}: leave it out; it is not supported here.", field=name)
    if take(fields, "n", int, 1) != 1:
        raise InvalidInput("FIELD_UNSUPPORTED", "n: one choice is given; ask again for another.", field="n")
    kind = take(take(fields, "response_format", dict, {}), "type", str, "text")
    if kind != "text":
        raise InvalidInput("FIELD_UNSUPPORTED", 'response_format: only "text" is supported.', field="response_format")
    request = answer_pb2.AnswerRequest()
    read_messages(take(fields, "messages", list, []), request)
    read_params(fields, request.params)
    if "max_completion_tokens" in fields:
        request.params.max_tokens = int32(take(fields, "max_completion_tokens", int, 0), "max_completion_tokens")
    read_reuse(take(fields, "askonce", dict, {}), request)
    options = take(fields, "stream_options", dict, {})
    return Chat(
        request=request,
        model=take(fields, "model", str, ""),
        stream=take(fields, "stream", bool, False),
        include_usage=take(options, "include_usage", bool, False),
    )


def read_messages(messages: list[Any], request: answer_pb2.AnswerRequest) -> None:
    """Turns messages into a question with its history and one image, wherever in the conversation it was sent."""
    images: dict[str, str] = {}
    turns: list[content_pb2.Turn] = []
    for number, message in enumerate(messages):
        field = f"messages[{number}]"
        if not isinstance(message, dict):
            raise InvalidInput("BODY_INVALID", f"{field}: write an object with role and content.", field=field)
        role = take(message, "role", str, "")
        if role not in ROLES:
            known = ", ".join(ROLES)
            raise InvalidInput("ROLE_UNSUPPORTED", f"{field}.role: write one of {known}.", field=f"{field}.role")
        text = read_content(message.get("content"), f"{field}.content", images)
        if text:
            turns.append(content_pb2.Turn(role=ROLES[role], text=text))
        elif number == len(messages) - 1:
            raise InvalidInput("QUESTION_EMPTY", f"{field}.content: ask something.", field=f"{field}.content")
    if not turns or turns[-1].role != content_pb2.ROLE_USER:
        raise InvalidInput(
            "QUESTION_EMPTY", "messages: the last message must be the user's question.", field="messages"
        )
    if len(images) != 1:
        reason = "IMAGES_TOO_MANY" if images else "IMAGE_REQUIRED"
        raise InvalidInput(reason, f"messages: send one image; found {len(images)}.", field="messages")
    request.question.text = turns[-1].text
    request.question.history.extend(turns[:-1])
    ((url, field),) = images.items()
    read_image(url, field, request.image)


def read_content(content: Any, field: str, images: dict[str, str]) -> str:
    """The text of one message; images found in it are added to `images`, each with its field."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput("BODY_INVALID", f"{field}: write a text or a list of parts.", field=field)
    texts = []
    for number, part in enumerate(content):
        where = f"{field}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(take(part, "text", str, ""))
        elif kind == "image_url":
            link = part.get("image_url")
            url = link.get("url") if isinstance(link, dict) else link
            if not isinstance(url, str) or not url:
                raise InvalidInput("IMAGE_REQUIRED", f"{where}.image_url: write the image's url.", field=where)
            images.setdefault(url, f"{where}.image_url")
        else:
            raise InvalidInput("FIELD_UNSUPPORTED", f'{where}.type: write "text" or "image_url".', field=where)
    return "\n".join(texts)


def read_image(url: str, field: str, image: content_pb2.Image) -> None:
    """An image from a data URI, bare base64, or an https address."""
    if url.startswith(("http://", "https://")):
        image.uri = url
        return
    encoded = url
    if url.startswith("data:"):
        head, comma, encoded = url.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidInput("IMAGE_ENCODING", f'{field}: write "data:image/…;base64,…".', field=field)
    try:
        image.content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("IMAGE_ENCODING", f"{field}: this is neither an address nor base64.", field=field) from error


def read_params(fields: Mapping[str, Any], params: content_pb2.GenerationParams) -> None:
    """Generation parameters under OpenAI's names."""
    if "max_tokens" in fields and fields["max_tokens"] is not None:
        params.max_tokens = int32(take(fields, "max_tokens", int, 0), "max_tokens")
    for name in ("temperature", "top_p"):
        if fields.get(name) is not None:
            setattr(params, name, take(fields, name, float, 0.0))
    if fields.get("seed") is not None:
        seed = take(fields, "seed", int, 0)
        if not -(2**63) <= seed < 2**63:
            raise InvalidInput("OUT_OF_RANGE", "seed: write a 64-bit number.", field="seed")
        params.seed = seed
    stop = fields.get("stop")
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
            raise InvalidInput("BODY_INVALID", "stop: write a string or a list of strings.", field="stop")
        params.stop.extend(stops)
    template = take(fields, "chat_template_kwargs", dict, {})
    if take(template, "enable_thinking", bool, False):
        params.thinking = True


def read_reuse(fields: Mapping[str, Any], request: answer_pb2.AnswerRequest) -> None:
    """The extension object "askonce": cache_mode, exact_only, max_age_seconds, tags, answer_language_code."""
    mode = take(fields, "cache_mode", str, "")
    if mode:
        name = "CACHE_MODE_" + mode.upper().replace("-", "_")
        if name not in answer_pb2.CacheMode.keys():  # noqa: SIM118 - an enum wrapper is no mapping
            message = "askonce.cache_mode: write default, bypass, refresh, only_if_cached or no_store."
            raise InvalidInput("ENUM_UNKNOWN", message, field="askonce.cache_mode")
        request.cache_mode = answer_pb2.CacheMode.Value(name)
    if take(fields, "exact_only", bool, False):
        request.limits.exact_only = True
    if fields.get("max_age_seconds") is not None:
        age = take(fields, "max_age_seconds", int, 0)
        if not 0 <= age < 2**63:
            raise InvalidInput("OUT_OF_RANGE", "askonce.max_age_seconds: write 0 or more.", field="max_age_seconds")
        request.limits.max_age_seconds = age
    tags = take(fields, "tags", list, [])
    if not all(isinstance(tag, str) for tag in tags):
        raise InvalidInput("BODY_INVALID", "askonce.tags: write a list of strings.", field="askonce.tags")
    request.tags.extend(tags)
    request.question.answer_language_code = take(fields, "answer_language_code", str, "")


def read_plain(body: bytes, text: str, max_tokens: str) -> answer_pb2.AnswerRequest:
    """A body with `image` (base64, data URI or https address) and a text field; names differ between routes."""
    fields = read_body(body)
    request = answer_pb2.AnswerRequest()
    image = take(fields, "image", str, "")
    if not image:
        raise InvalidInput("IMAGE_REQUIRED", "image: send base64, a data URI or an https address.", field="image")
    read_image(image, "image", request.image)
    request.question.text = take(fields, text, str, "")
    renamed = dict(fields)
    if max_tokens != "max_tokens":
        renamed.pop("max_tokens", None)
        if max_tokens in fields:
            renamed["max_tokens"] = take(fields, max_tokens, int, 0)
    read_params(renamed, request.params)
    read_reuse(take(fields, "askonce", dict, {}), request)
    return request


def read_feedback(body: bytes) -> answer_pb2.SubmitFeedbackRequest:
    """A body with `decision`, `verdict` ("right" or "wrong"), and optionally `correct_text` and `comment`."""
    fields = read_body(body)
    verdicts = {"right": answer_pb2.VERDICT_RIGHT, "wrong": answer_pb2.VERDICT_WRONG}
    return answer_pb2.SubmitFeedbackRequest(
        decision=take(fields, "decision", str, ""),
        verdict=verdicts.get(take(fields, "verdict", str, ""), answer_pb2.VERDICT_UNSPECIFIED),
        correct_text=take(fields, "correct_text", str, ""),
        comment=take(fields, "comment", str, ""),
    )


def take(fields: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    """One field of a body, strictly typed; null counts as absent. Raises InvalidInput."""
    value = fields.get(name)
    if value is None:
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else float("nan")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
        raise InvalidInput("BODY_INVALID", f"{name}: write {words.get(kind, 'an object')}.", field=name)
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidInput("BODY_INVALID", f"{name}: lone surrogates are no text.", field=name)
    return value


def int32(value: int, field: str) -> int:
    """A number that fits the wire. Raises InvalidInput."""
    if not -(2**31) <= value < 2**31:
        raise InvalidInput("OUT_OF_RANGE", f"{field}: {value} is far out of range.", field=field)
    return value


def completion(response: answer_pb2.AnswerResponse, created: int) -> dict[str, Any]:
    """A whole chat completion."""
    answer = response.answer
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.thinking_text:
        message["reasoning_content"] = answer.thinking_text
    return {
        "id": f"chatcmpl-{response.request_id}",
        "object": "chat.completion",
        "created": created,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": FINISH.get(answer.finish_reason, "stop")}],
        "usage": usage(answer),
        "askonce": provenance(response),
    }


def queued(job: job_pb2.Job) -> dict[str, Any]:
    """A job: how far it is, and its completion or error once there is one."""
    state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
    body: dict[str, Any] = {"id": job.name.rpartition("/")[2], "object": "job", "status": state}
    if job.HasField("response"):
        body["completion"] = completion(job.response, job.end_time.seconds)
    if job.HasField("error"):
        body["error"] = {"message": job.error.message}
    return body


def chunk(
    request_id: str, created: int, model: str, delta: dict[str, Any], finish: str | None = None
) -> dict[str, Any]:
    """One piece of a streamed chat completion."""
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def usage(answer: content_pb2.Answer) -> dict[str, Any]:
    """Token counts under OpenAI's names."""
    count = answer.usage
    return {
        "prompt_tokens": count.input_token_count,
        "completion_tokens": count.output_token_count,
        "total_tokens": count.input_token_count + count.output_token_count,
        "prompt_tokens_details": {"cached_tokens": count.cached_token_count},
    }


def provenance(response: answer_pb2.AnswerResponse) -> dict[str, Any]:
    """Where the answer came from and why, in the extension object of a reply."""
    found = response.provenance
    return {
        "source": "cache" if found.source == content_pb2.SOURCE_CACHE else "model",
        "reason": found.reason,
        "entry": found.entry,
        "decision": found.decision,
        "policy_revision": found.policy_revision,
        "coalesced": found.coalesced,
        "request_id": response.request_id,
        "total_ms": round(found.timings.total.ToNanoseconds() / 1e6, 2),
    }
