"""Checks every field of a request; an error names the field and the limit that it broke.

Enums are open in proto3: a number that this version does not know arrives as it is and is refused here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from askonce.faults import InvalidInput
from askonce.limits import DEFAULT_MAX_TOKENS, MAX_PIXELS, MAX_TOKENS, STOP_CHARACTERS, STOPS, TAG_CHARACTERS, TAGS
from askonce.names import split_child, tenant_id, tenant_name
from askonce.v1 import answer_pb2, content_pb2
from askonce.visible import visible
from gateway import response_format
from gateway.settings import TextLimits

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}")
# Control characters (Cc) other than tab, line feed and carriage return, and the marks that reorder text on a screen.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

MODES = frozenset(answer_pb2.CacheMode.values())
VERDICTS = frozenset((answer_pb2.VERDICT_RIGHT, answer_pb2.VERDICT_WRONG))
ROLES = frozenset((content_pb2.ROLE_USER, content_pb2.ROLE_ASSISTANT, content_pb2.ROLE_SYSTEM))

TOP_K = (0, 1_000_000)
PENALTY = (-2.0, 2.0)
MAX_AGE_SECONDS = 10 * 365 * 24 * 3600


def check_request(
    request: answer_pb2.AnswerRequest, limits: TextLimits, max_images: int = 16, prefix: str = ""
) -> None:
    """Checks everything but the image's content. Raises InvalidInput; `prefix` leads to the request's fields."""
    if request.parent:
        tenant_id(request.parent, f"{prefix}parent")
    check_sources(request, max_images, prefix)
    check_question(request.question, limits, f"{prefix}question")
    if request.HasField("params"):
        check_params(request.params, f"{prefix}params")
    if request.cache_mode not in MODES:
        raise unknown_enum(f"{prefix}cache_mode", request.cache_mode)
    if request.HasField("limits"):
        check_reuse(request.limits, f"{prefix}limits")
    if request.tags:
        check_tags(request.tags, f"{prefix}tags")


def check_sources(request: answer_pb2.AnswerRequest, max_images: int, prefix: str = "") -> None:
    """Checks that a request has one image or several, each with a source, and not too many."""
    if request.images:
        if request.HasField("image"):
            message = f"{prefix}image: leave it out where there are images."
            raise InvalidInput("FIELDS_CONFLICT", message, field=f"{prefix}image")
        if len(request.images) > max_images:
            raise too_long("IMAGES_TOO_MANY", f"{prefix}images", len(request.images), max_images, "images")
        for number, image in enumerate(request.images):
            if image.WhichOneof("source") is None:
                where = f"{prefix}images[{number}]"
                raise InvalidInput("IMAGE_REQUIRED", f"{where}: set content or uri.", field=where)
    elif request.image.WhichOneof("source") is None:
        raise InvalidInput("IMAGE_REQUIRED", "Set image.content or image.uri.", field=f"{prefix}image")


def check_question(question: content_pb2.Question, limits: TextLimits, field: str = "question") -> None:
    """Checks a question with its history, and takes marks that show nothing out of its texts: what both services get
    is the same text."""
    question.text = visible(question.text, f"{field}.text")
    check_text(question.text, "QUESTION", f"{field}.text", limits.max_question_chars)
    if question.answer_language_code and not LANGUAGE.fullmatch(question.answer_language_code):
        where = f"{field}.answer_language_code"
        raise InvalidInput("LANGUAGE_INVALID", f'{where}: write a BCP 47 code such as "en" or "zh".', field=where)
    if not question.history:
        return
    if len(question.history) > limits.max_history_turns:
        raise too_long("HISTORY_TOO_LONG", f"{field}.history", len(question.history), limits.max_history_turns, "turns")
    total = 0
    for number, turn in enumerate(question.history):
        where = f"{field}.history[{number}]"
        if turn.role not in ROLES:
            raise unknown_enum(f"{where}.role", turn.role)
        turn.text = visible(turn.text, f"{where}.text")
        check_range(turn.image_count, 0, 1_000, f"{where}.image_count")
        if turn.image_count and turn.role != content_pb2.ROLE_USER:
            field = f"{where}.image_count"
            raise InvalidInput("OUT_OF_RANGE", f"{field}: images come with the user's turns.", field=field)
        check_text(turn.text, "TURN", f"{where}.text", limits.max_turn_chars)
        total += len(turn.text)
    if total > limits.max_history_chars:
        raise too_long("HISTORY_TOO_LONG", f"{field}.history", total, limits.max_history_chars, "characters in all")


def check_text(text: str, noun: str, field: str, limit: int) -> None:
    """Checks one text: something to read, not too long, no control characters."""
    if len(text) > limit:
        raise too_long(f"{noun}_TOO_LONG", field, len(text), limit, "characters")
    if not text.strip() or not readable(text):
        raise InvalidInput(f"{noun}_EMPTY", f"{field}: write 1 to {limit} characters.", field=field)
    if CONTROL.search(text):
        raise InvalidInput(
            f"{noun}_CONTROL_CHARACTERS",
            f"{field}: remove the control characters; only tabs and line breaks are allowed.",
            field=field,
        )


def readable(text: str) -> bool:
    """Whether a text holds anything besides spaces and invisible marks."""
    if text.isascii():
        return True
    return any(unicodedata.category(char) not in ("Cf", "Zs", "Zl", "Zp", "Cc", "Cn") for char in text)


def check_params(params: content_pb2.GenerationParams, field: str = "params") -> None:
    """Checks the generation parameters that are set."""
    if params.HasField("max_tokens"):
        check_range(params.max_tokens, *MAX_TOKENS, f"{field}.max_tokens")
    if params.HasField("temperature"):
        check_range(params.temperature, 0.0, 2.0, f"{field}.temperature")
    if params.HasField("top_p") and not 0.0 < params.top_p <= 1.0:
        raise out_of_range(f"{field}.top_p", params.top_p, "above 0", 1.0)
    if params.HasField("max_pixels"):
        check_range(params.max_pixels, *MAX_PIXELS, f"{field}.max_pixels")
    if params.HasField("repetition_penalty") and not 0.0 < params.repetition_penalty <= 2.0:
        raise out_of_range(f"{field}.repetition_penalty", params.repetition_penalty, "above 0", 2.0)
    if params.HasField("top_k"):
        check_range(params.top_k, *TOP_K, f"{field}.top_k")
    if params.HasField("min_p"):
        check_range(params.min_p, 0.0, 1.0, f"{field}.min_p")
    if params.HasField("presence_penalty"):
        check_range(params.presence_penalty, *PENALTY, f"{field}.presence_penalty")
    if params.HasField("frequency_penalty"):
        check_range(params.frequency_penalty, *PENALTY, f"{field}.frequency_penalty")
    if params.HasField("response_format"):
        response_format.check(params.response_format, f"{field}.response_format")
    if len(params.stop) > STOPS:
        raise too_long("STOP_TOO_MANY", f"{field}.stop", len(params.stop), STOPS, "strings")
    for number, stop in enumerate(params.stop):
        if not 1 <= len(stop) <= STOP_CHARACTERS or CONTROL.search(stop):
            where = f"{field}.stop[{number}]"
            message = f"{where}: write 1 to {STOP_CHARACTERS} characters, none a control character."
            raise InvalidInput("STOP_INVALID", message, field=where)


def check_reuse(limits: answer_pb2.ReuseLimits, field: str = "limits") -> None:
    """Checks the limits that a caller sets for reuse. Whether they loosen the policy is dedup's to say."""
    if limits.HasField("min_image_score"):
        check_range(limits.min_image_score, 0.0, 1.0, f"{field}.min_image_score")
    if limits.HasField("min_question_score"):
        check_range(limits.min_question_score, 0.0, 1.0, f"{field}.min_question_score")
    if limits.HasField("max_age_seconds"):
        check_range(limits.max_age_seconds, 0, MAX_AGE_SECONDS, f"{field}.max_age_seconds")


def check_tags(tags: Any, field: str = "tags") -> None:
    """Checks the labels of an entry."""
    if len(tags) > TAGS:
        raise too_long("TAGS_TOO_MANY", field, len(tags), TAGS, "labels")
    for number, tag in enumerate(tags):
        if not 1 <= len(tag) <= TAG_CHARACTERS or CONTROL.search(tag):
            where = f"{field}[{number}]"
            message = f"{where}: write 1 to {TAG_CHARACTERS} characters, none a control character."
            raise InvalidInput("TAG_INVALID", message, field=where)


def check_feedback(request: answer_pb2.SubmitFeedbackRequest) -> str:
    """Checks feedback and returns the tenant that its decision belongs to, "tenants/{tenant}"."""
    tenant, _ = split_child(request.decision, "decisions", "decision")
    if request.verdict not in VERDICTS:
        raise unknown_enum("verdict", request.verdict)
    for name, text, limit in (("correct_text", request.correct_text, 4_000), ("comment", request.comment, 1_000)):
        if len(text) > limit:
            raise too_long("TEXT_TOO_LONG", name, len(text), limit, "characters")
        if CONTROL.search(text):
            raise InvalidInput("TEXT_CONTROL_CHARACTERS", f"{name}: remove the control characters.", field=name)
    return tenant_name(tenant)


def check_range(value: float, low: float, high: float, field: str) -> None:
    """Checks a number; NaN is out of every range."""
    if math.isnan(value) or not low <= value <= high:
        raise out_of_range(field, value, low, high)


def out_of_range(field: str, value: float, low: float | str, high: float) -> InvalidInput:
    """The fault of a number that is too small or too large."""
    return InvalidInput(
        "OUT_OF_RANGE",
        f"{field}: {value:g} is not within {low} to {high}.",
        field=field,
        metadata={"min": str(low), "max": str(high)},
    )


def too_long(reason: str, field: str, count: int, limit: int, unit: str) -> InvalidInput:
    """The fault of too much of something."""
    message = f"{field}: {count:,} {unit} are too many; at most {limit:,} are accepted."
    return InvalidInput(reason, message, field=field, metadata={"limit": str(limit), "actual": str(count)})


def unknown_enum(field: str, value: int) -> InvalidInput:
    """The fault of an enum value that is not set or not known."""
    return InvalidInput("ENUM_UNKNOWN", f"{field}: {value} is not a value of this enum.", field=field)


def canonical(params: content_pb2.GenerationParams) -> content_pb2.GenerationParams:
    """The parameters with every default written out, so that equal settings are equal messages.

    Greedy decoding (temperature 0) looks at neither `top_p`, `top_k`, `min_p` nor `seed`. What changes nothing is left
    out.
    """
    temperature = params.temperature if params.HasField("temperature") else 0.0
    plain = content_pb2.GenerationParams(
        max_tokens=params.max_tokens if params.HasField("max_tokens") else DEFAULT_MAX_TOKENS,
        temperature=temperature + 0.0,
        top_p=params.top_p if temperature and params.HasField("top_p") else 1.0,
        stop=sorted(set(params.stop)),
        thinking=params.thinking,
    )
    if temperature and params.HasField("seed"):
        plain.seed = params.seed
    if params.HasField("max_pixels"):
        plain.max_pixels = params.max_pixels
    if params.HasField("repetition_penalty") and params.repetition_penalty != 1.0:
        plain.repetition_penalty = params.repetition_penalty
    for name in ("presence_penalty", "frequency_penalty", *(("top_k", "min_p") if temperature else ())):
        if getattr(params, name):  # 0, set or not, changes nothing
            setattr(plain, name, getattr(params, name))
    if params.HasField("response_format"):
        plain.response_format.CopyFrom(response_format.canonical(params.response_format))
    return plain


CANONICAL_DEFAULT = canonical(content_pb2.GenerationParams())
