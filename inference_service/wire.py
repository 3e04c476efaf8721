"""Between `askonce.v1.inference` and the values of the engine port. Checks what it reads."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from google.protobuf import duration_pb2

from askonce.faults import InvalidInput
from askonce.limits import MAX_PIXELS, STOP_CHARACTERS, STOPS
from askonce.times import to_duration, to_timestamp
from askonce.v1 import content_pb2, inference_pb2
from askonce.visible import visible
from inference_service.engine import (
    OPTIONAL_PARAMS,
    Ask,
    CacheState,
    Completed,
    EngineInfo,
    Finish,
    ImageFile,
    JudgedOn,
    Judgement,
    Piece,
    ResponseFormat,
    Role,
    Sampling,
    StageTimes,
    Turn,
)
from inference_service.settings import Limits

ROLES = {
    content_pb2.ROLE_USER: Role.USER,
    content_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    content_pb2.ROLE_SYSTEM: Role.SYSTEM,
}
FINISHES = {
    Finish.STOP: content_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: content_pb2.FINISH_REASON_LENGTH,
    Finish.FILTERED: content_pb2.FINISH_REASON_FILTERED,
    Finish.UNANSWERABLE: content_pb2.FINISH_REASON_UNANSWERABLE,
    Finish.REPETITION: content_pb2.FINISH_REASON_REPETITION,
    Finish.TOOL_CALLS: content_pb2.FINISH_REASON_TOOL_CALLS,
    Finish.INTERRUPTED: content_pb2.FINISH_REASON_INTERRUPTED,
}
VERDICTS = {
    "same": inference_pb2.QUESTION_VERDICT_SAME,
    "different": inference_pb2.QUESTION_VERDICT_DIFFERENT,
    "unsure": inference_pb2.QUESTION_VERDICT_UNSURE,
}
SIDE = 65_535
SIZES = 16
SCOPE = 200
"""Characters of a cache scope."""


def from_generate(
    request: inference_pb2.GenerateRequest, limits: Limits, info: EngineInfo, request_id: str, deadline: float | None
) -> Ask:
    """The ask in a request. Raises InvalidInput with the field at fault."""
    if request.priority not in inference_pb2.Priority.values():
        raise InvalidInput("ENUM_UNKNOWN", f"priority: {request.priority} is not known here.", field="priority")
    first, *more = from_images(request, limits, info)
    return Ask(
        request_id=request_id,
        image=first.content,
        image_digest=first.digest,
        more_images=tuple(more),
        question=from_text(request.question.text, "QUESTION", "question.text", limits.max_question_chars),
        history=from_history(request.question.history, limits),
        language=request.question.answer_language_code,
        sampling=supported(from_params(request.params, info.max_tokens_limit), info),
        deadline=deadline,
        background=request.priority == inference_pb2.PRIORITY_BACKGROUND,
        scope=from_scope(request),
    )


def from_images(request: inference_pb2.GenerateRequest, limits: Limits, info: EngineInfo) -> list[ImageFile]:
    """The images, at least one, each with the key of its caches."""
    scope = from_scope(request)
    if not request.images:
        return [from_image(request.image, request.image_digest, limits, "image", scope)]
    if len(request.images) > info.max_images:
        raise InvalidInput(
            "IMAGES_TOO_MANY",
            f"images: {len(request.images)} are too many; the hosted engine ({info.engine}) takes {info.max_images}.",
            field="images",
            metadata={"limit": str(info.max_images), "actual": str(len(request.images))},
        )
    digests = request.image_digests or [b""] * len(request.images)
    if len(digests) != len(request.images):
        raise InvalidInput("DIGEST_INVALID", "image_digests: send one for each image.", field="image_digests")
    return [
        from_image(image, digest, limits, f"images[{number}]", scope)
        for number, (image, digest) in enumerate(zip(request.images, digests, strict=True))
    ]


def from_image(image: content_pb2.Image, digest: bytes, limits: Limits, where: str, scope: str) -> ImageFile:
    """An image's bytes and their SHA-256, salted. A digest that the caller sends is trusted: both are ours."""
    content, field = image.content, f"{where}.content"
    if image.WhichOneof("source") != "content" or not content:
        raise InvalidInput("IMAGE_EMPTY", f"{field}: send the encoded file.", field=field)
    if len(content) > limits.max_image_bytes:
        raise InvalidInput(
            "IMAGE_TOO_LARGE",
            f"{field}: {len(content):,} bytes are too many; at most {limits.max_image_bytes:,} are accepted.",
            field=field,
            metadata={"limit": str(limits.max_image_bytes)},
        )
    if digest and len(digest) != 32:
        raise InvalidInput("DIGEST_INVALID", "image_digest: send the 32 bytes of SHA-256.", field="image_digest")
    return ImageFile(content, salted(digest or hashlib.sha256(content).digest(), scope))


def from_scope(request: inference_pb2.GenerateRequest | inference_pb2.CompareQuestionsRequest) -> str:
    """Who shares what is kept of images. Raises InvalidInput."""
    if len(request.cache_scope) > SCOPE:
        raise InvalidInput("TEXT_TOO_LONG", f"cache_scope: at most {SCOPE} characters.", field="cache_scope")
    return request.cache_scope


def salted(digest: bytes, scope: str) -> bytes:
    """The key of an image's caches, 32 bytes: another one in every scope, so that the time of an answer tells nothing
    about what others asked."""
    return hashlib.sha256(scope.encode() + b"\0" + digest).digest() if scope else digest


def from_text(text: str, noun: str, field: str, limit: int) -> str:
    """One text with something in it, not too long, without marks that show nothing."""
    text = visible(text, field)
    if not text.strip():
        raise InvalidInput(f"{noun}_EMPTY", f"{field}: write 1 to {limit} characters.", field=field)
    if len(text) > limit:
        raise InvalidInput(
            f"{noun}_TOO_LONG",
            f"{field}: {len(text)} characters are too many; at most {limit} are accepted.",
            field=field,
            metadata={"limit": str(limit)},
        )
    return text


def from_history(turns: Sequence[content_pb2.Turn], limits: Limits) -> tuple[Turn, ...]:
    """The earlier turns of a conversation."""
    if len(turns) > limits.max_history_turns:
        raise InvalidInput(
            "HISTORY_TOO_LONG",
            f"question.history: at most {limits.max_history_turns} turns are accepted.",
            field="question.history",
            metadata={"limit": str(limits.max_history_turns)},
        )
    read: list[Turn] = []
    for number, turn in enumerate(turns):
        where = f"question.history[{number}]"
        if turn.role not in ROLES:
            raise InvalidInput("ENUM_UNKNOWN", f"{where}.role: {turn.role} is not known here.", field=f"{where}.role")
        text = from_text(turn.text, "TURN", f"{where}.text", limits.max_question_chars)
        read.append(Turn(ROLES[turn.role], text, max(0, turn.image_count)))
    return tuple(read)


def from_params(params: content_pb2.GenerationParams, max_tokens_limit: int) -> Sampling:
    """How to generate; what is unset keeps the port's default."""
    plain = Sampling()
    limit = float(max_tokens_limit)
    max_tokens = (
        within(params.max_tokens, 1, limit, "max_tokens") if params.HasField("max_tokens") else plain.max_tokens
    )
    temperature = within(params.temperature, 0, 2, "temperature") if params.HasField("temperature") else 0.0
    top_p = within(params.top_p, 0, 1, "top_p") if params.HasField("top_p") else 1.0
    if top_p == 0:
        raise out_of_range("top_p", "above 0 and up to 1")
    repetition_penalty = (
        within(params.repetition_penalty, 0, 2, "repetition_penalty") if params.HasField("repetition_penalty") else 1.0
    )
    if repetition_penalty == 0:
        raise out_of_range("repetition_penalty", "above 0 and up to 2")
    max_pixels = within(params.max_pixels, *MAX_PIXELS, "max_pixels") if params.HasField("max_pixels") else None
    if len(params.stop) > STOPS or not all(1 <= len(stop) <= STOP_CHARACTERS for stop in params.stop):
        raise out_of_range("stop", f"at most {STOPS} strings of 1 to {STOP_CHARACTERS} characters")
    return Sampling(
        max_tokens=int(max_tokens),
        temperature=temperature,
        top_p=top_p,
        seed=params.seed if params.HasField("seed") else None,
        stop=tuple(params.stop),
        thinking=params.thinking,
        max_pixels=None if max_pixels is None else int(max_pixels),
        repetition_penalty=repetition_penalty,
        top_k=int(within(params.top_k, 0, 1_000_000, "top_k")),
        min_p=within(params.min_p, 0, 1, "min_p"),
        presence_penalty=within(params.presence_penalty, -2, 2, "presence_penalty"),
        frequency_penalty=within(params.frequency_penalty, -2, 2, "frequency_penalty"),
        response_format=from_response_format(params.response_format) if params.HasField("response_format") else None,
    )


def from_response_format(form: content_pb2.ResponseFormat) -> ResponseFormat:
    """The form of an answer. Raises InvalidInput for none."""
    kind = form.WhichOneof("format")
    if kind is None or (kind == "json_object" and not form.json_object):
        raise out_of_range("response_format", "json_object that is true, or a json_schema")
    return (
        ResponseFormat(form.json_schema.schema, form.json_schema.strict) if kind == "json_schema" else ResponseFormat()
    )


def supported(sampling: Sampling, info: EngineInfo) -> Sampling:
    """The sampling, if the engine can honour all of it. Raises InvalidInput with FIELD_UNSUPPORTED."""
    plain = Sampling()
    for name in OPTIONAL_PARAMS:
        if getattr(sampling, name) != getattr(plain, name) and name not in info.supported_params:
            field = f"params.{name}"
            message = f"{field}: the hosted engine ({info.engine}) does not support it; leave it out."
            raise InvalidInput("FIELD_UNSUPPORTED", message, field=field, metadata={"engine": info.engine})
    return sampling


def within(value: float, low: float, high: float, name: str) -> float:
    """A number inside its range. Raises InvalidInput for one outside, and for NaN."""
    if not math.isfinite(value) or not low <= value <= high:
        raise out_of_range(name, f"{low:g} to {high:g}")
    return value


def out_of_range(name: str, accepted: str) -> InvalidInput:
    """The error for a parameter outside its range."""
    field = f"params.{name}"
    return InvalidInput("PARAMETER_OUT_OF_RANGE", f"{field}: {accepted}.", field=field, metadata={"accepted": accepted})


def from_pairs(request: inference_pb2.CompareQuestionsRequest, limits: Limits) -> list[tuple[str, str]]:
    """The pairs to judge, 1 to the limit."""
    if not 1 <= len(request.pairs) <= limits.max_pairs:
        raise InvalidInput(
            "PAIRS_OUT_OF_RANGE",
            f"pairs: send 1 to {limits.max_pairs}.",
            field="pairs",
            metadata={"limit": str(limits.max_pairs)},
        )
    most = limits.max_question_chars
    return [
        (
            from_text(pair.left, "QUESTION", f"pairs[{number}].left", most),
            from_text(pair.right, "QUESTION", f"pairs[{number}].right", most),
        )
        for number, pair in enumerate(request.pairs)
    ]


def from_judged_on(request: inference_pb2.CompareQuestionsRequest, limits: Limits) -> JudgedOn | None:
    """The image on which pairs are judged; None for pairs that are judged for any."""
    if not request.HasField("image"):
        return None
    scope = from_scope(request)
    pixels = int(within(request.max_pixels, *MAX_PIXELS, "max_pixels")) if request.max_pixels else None
    return JudgedOn(from_image(request.image, request.image_digest, limits, "image", scope), pixels, scope)


def from_sizes(request: inference_pb2.GetInferenceInfoRequest) -> list[tuple[int, int]]:
    """The sizes asked about."""
    if len(request.sizes) > SIZES:
        raise InvalidInput("SIZES_OUT_OF_RANGE", f"sizes: at most {SIZES} are accepted.", field="sizes")
    for number, size in enumerate(request.sizes):
        if not (1 <= size.width <= SIDE and 1 <= size.height <= SIDE):
            where = f"sizes[{number}]"
            raise InvalidInput("SIZES_OUT_OF_RANGE", f"{where}: each side is 1 to {SIDE} pixels.", field=where)
    return [(size.width, size.height) for size in request.sizes]


def to_piece(piece: Piece) -> inference_pb2.GenerateResponse:
    """One event of a stream."""
    if piece.thinking:
        return inference_pb2.GenerateResponse(thinking_text=piece.text)
    return inference_pb2.GenerateResponse(text=piece.text)


def to_summary(completed: Completed, info: EngineInfo, queue: float, finished: float) -> inference_pb2.GenerateResponse:
    """The last event of a stream. `queue` is the wait in seconds, `finished` the end in seconds since the epoch."""
    answer = content_pb2.Answer(
        text=completed.text,
        finish_reason=FINISHES[completed.finish],
        model=info.model,
        model_revision=info.revision,
        usage=content_pb2.Usage(
            input_token_count=completed.usage.input_tokens,
            output_token_count=completed.usage.output_tokens,
            cached_token_count=completed.usage.cached_tokens,
        ),
        create_time=to_timestamp(finished),
        thinking_text=completed.thinking_text,
        finish_detail=completed.detail,
    )
    summary = inference_pb2.GenerateSummary(
        answer=answer, timings=to_timings(completed.times, queue), unfit_reason=completed.unfit
    )
    return inference_pb2.GenerateResponse(summary=summary)


def to_timings(times: StageTimes, queue: float) -> content_pb2.EngineTimings:
    """Seconds per stage as durations; the engine's own queue comes on top of ours."""
    return content_pb2.EngineTimings(
        queue=to_duration(queue + (times.queue or 0.0)),
        preprocess=passed(times.preprocess),
        vision=passed(times.vision),
        prefill=passed(times.prefill),
        decode=passed(times.decode),
    )


def to_judgement(judgement: Judgement) -> inference_pb2.QuestionJudgement:
    """One verdict."""
    return inference_pb2.QuestionJudgement(
        verdict=VERDICTS[judgement.verdict], same_probability=judgement.same_probability
    )


def to_cache(state: CacheState) -> inference_pb2.CacheState:
    """The state of one cache."""
    return inference_pb2.CacheState(
        name=state.name,
        bytes_used=state.bytes_used,
        bytes_limit=state.bytes_limit,
        entry_count=state.entries,
        hit_count=state.hits,
        miss_count=state.misses,
    )


def passed(seconds: float | None) -> duration_pb2.Duration | None:
    """A stage's duration; None for a stage that did not happen."""
    return None if seconds is None else to_duration(max(0.0, seconds))
