"""Between the values of the engine port and OpenAI's protocol: bodies, events, errors. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from inference_service.answer_text import Shown
from inference_service.engine import (
    Ask,
    EngineError,
    EngineUnavailableError,
    Finish,
    Piece,
    ResponseFormat,
    Sampling,
    Usage,
)
from inference_service.judge_prompt import Put, Reading, meaning
from inference_service.openai.settings import OpenAISettings
from inference_service.sanitising import LANGUAGES, plain

MOST_ANSWER_CHARACTERS = 1_000_000
"""A stream that goes on beyond this is malformed."""

VENDOR_PARAMS = ("repetition_penalty", "top_k", "min_p")
"""Parameters that vLLM and SGLang take beside OpenAI's."""
PENALTIES = ("presence_penalty", "frequency_penalty")

FINISHES = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "content_filter": Finish.FILTERED,
    "sensitive": Finish.FILTERED,
    "safety": Finish.FILTERED,
    "repetition": Finish.REPETITION,
    "tool_calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
}
"""The words of servers for an end. Only "stop" says that an answer is whole; words not listed are interruptions."""

PLAIN_WORDS = frozenset({"stop", "length", "content_filter", "repetition", "tool_calls"})
"""Words that `Finish` says without a detail."""


def chat_body(ask: Ask, image_uris: Sequence[str], model: str, settings: OpenAISettings) -> dict[str, Any]:
    """The request in the OpenAI form; each image travels once, as a data URI, where it came in the conversation."""
    messages: list[dict[str, Any]] = []
    question = plain(ask.question)
    if ask.language:
        wish = LANGUAGES.get(ask.language.split("-")[0].lower(), f"Answer in the language {plain(ask.language)}.")
        question = f"{question}\n{wish}"
    turns = [(turn.role.value, plain(turn.text)) for turn in ask.history] + [("user", question)]
    waiting = iter(image_uris)
    for (role, text), images in zip(turns, ask.images_by_turn(), strict=True):
        pictures = [{"type": "image_url", "image_url": {"url": next(waiting)}} for _ in images]
        content = [*pictures, {"type": "text", "text": text}] if pictures else text
        messages.append({"role": role, "content": content})
    sampling = ask.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if settings.template_kwargs:
        body["chat_template_kwargs"] = {"enable_thinking": sampling.thinking}
    if settings.cache_salt and ask.scope:
        body["cache_salt"] = salt(ask.scope)
    plain_sampling = Sampling()
    for name in VENDOR_PARAMS + PENALTIES:
        if (value := getattr(sampling, name)) != getattr(plain_sampling, name):
            body[name] = value
    if sampling.response_format is not None:
        body["response_format"] = response_format(sampling.response_format)
    return body


def response_format(form: ResponseFormat) -> dict[str, Any]:
    """The form of an answer as OpenAI's protocol has it."""
    if not form.schema:
        return {"type": "json_object"}
    schema = json.loads(form.schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": form.strict, "schema": schema}}


def supported(settings: OpenAISettings) -> frozenset[str]:
    """The optional parameters that the servers honour."""
    vendor = VENDOR_PARAMS if settings.vendor_params else ()
    return frozenset((*PENALTIES, *vendor, *(("response_format",) if settings.response_format else ())))


def judge_body(put: Put, model: str, settings: OpenAISettings, image_uri: str = "", scope: str = "") -> dict[str, Any]:
    """One put of a pair, to be judged with one token and its log-probabilities; behind the image, if there is one."""
    text = put.text(plain)
    image = [{"type": "image_url", "image_url": {"url": image_uri}}] if image_uri else []
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": [*image, {"type": "text", "text": text}] if image else text}],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
    }
    if settings.template_kwargs:
        body["chat_template_kwargs"] = {"enable_thinking": False}
    if image and settings.cache_salt and scope:
        body["cache_salt"] = salt(scope)
    return body


def salt(scope: str) -> str:
    """What keeps one scope's prefixes apart from another's at a server."""
    return hashlib.sha256(b"askonce\0" + scope.encode()).hexdigest()


def malformed(message: str) -> EngineError:
    """The error for what can't be read."""
    return EngineUnavailableError("UPSTREAM_MALFORMED", message)


def parsed(text: str) -> Mapping[str, Any]:
    """A JSON object. Raises EngineError for anything else, and for an error object in a stream."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed("the upstream sent no JSON") from error
    if not isinstance(found, dict):
        raise malformed("the upstream sent JSON that is no object")
    if found.get("error"):
        raise EngineUnavailableError("UPSTREAM_FAILED", "the upstream reported an error in its stream")
    return found


def listed(event: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of objects in an event; empty when absent. Raises EngineError for anything else."""
    found = event.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise malformed(f"{name} is no list of objects")
    if not all(isinstance(each.get("delta") or {}, dict) for each in found):
        raise malformed("a delta is no object")
    return found


def pieces_of(shown: Shown) -> list[Piece]:
    """What one event shows, as items of the stream."""
    thinking = [Piece(shown.thinking, thinking=True)] if shown.thinking else []
    return [*thinking, Piece(shown.text)] if shown.text else thinking


def finish_of(word: str) -> Finish:
    """What a server's word for an end means."""
    return FINISHES.get(word.lower(), Finish.INTERRUPTED)


def detail_of(word: str) -> str:
    """A server's word for an end where `Finish` does not say it all: 1 to 32 characters of a-z, 0-9 and "_"."""
    if word.lower() in PLAIN_WORDS:
        return ""
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:32] or "unknown"


def usage_of(event: Mapping[str, Any], before: Usage) -> Usage:
    """The usage that an event states, else what was known before."""
    stated = event.get("usage")
    if not isinstance(stated, dict):
        return before
    details = stated.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    counts = (stated.get("prompt_tokens"), stated.get("completion_tokens"), cached)
    return Usage(*(each if isinstance(each, int) else 0 for each in counts))


def reading_of(answer: Mapping[str, Any]) -> Reading | None:
    """What a judge's reply says: the probabilities listed for its first token, summed over all words for a verdict.

    A verdict that is not listed is taken to have the probability of the least likely token listed. None where the reply
    holds no log-probabilities.
    """
    try:
        tokens = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        chances = [(meaning(str(each["token"])), float(each["logprob"])) for each in tokens]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    if not chances:
        return None
    floor = min(chance for _, chance in chances)
    sums = {word: sum(math.exp(chance) for said, chance in chances if said == word) for word in ("yes", "no")}
    yes, no = (math.log(total) if total > 0 else floor for total in sums.values())
    return Reading(yes, no)


def retry_after(value: str, now: float | None = None) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as a date; None for anything not sensible."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now))
        except (ValueError, TypeError):
            return None
    return seconds if 0 <= seconds <= 3600 else None
