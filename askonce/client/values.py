"""What a client gives and gets: images in any form, settings of one question, and the answer."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from askonce.v1 import answer_pb2, content_pb2, job_pb2

CacheMode = Literal["default", "bypass", "refresh", "only_if_cached", "no_store"]


@runtime_checkable
class Savable(Protocol):
    """A picture that can write itself, as those of Pillow can."""

    def save(self, file: Any, format: str) -> None:  # noqa: A002 -- the name is Pillow's
        """Writes the picture."""


ImageInput: TypeAlias = "str | os.PathLike[str] | bytes | Savable"
"""A path, an https address, the bytes of a file (JPEG, PNG, WebP, PDF), or a picture of Pillow's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and where it came from."""

    text: str
    source: Literal["cache", "model"]
    """Whether it came from memory or from the model."""
    reason: str
    """Why, a word of the catalogue such as EXACT or QUESTION_UNKNOWN."""
    decision: str
    """Name it in feedback."""
    request_id: str
    """The id under which the services logged the call."""
    finish_reason: str
    """STOP for a whole answer, LENGTH for one cut off, …"""
    response: answer_pb2.AnswerResponse
    """Everything else: evidence, timings, tokens, model."""

    @property
    def cached(self) -> bool:
        """Whether the answer came from memory."""
        return self.source == "cache"


@dataclass(frozen=True, slots=True)
class Job:
    """A question that waits for its turn, or its answer."""

    name: str
    state: Literal["UNSPECIFIED", "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
    answer: Answer | None
    """Set when the state is SUCCEEDED."""
    error: str
    """What went wrong; set when the state is FAILED."""

    @property
    def done(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class Options:
    """How one question is asked. What is None is left to the server."""

    tenant: str = ""
    """The tenant's id; empty for the caller's own."""
    cache_mode: CacheMode = "default"
    history: Sequence[tuple[str, str]] = ()
    """Earlier turns, oldest first: ("user" or "assistant" or "system", text)."""
    answer_language: str = ""
    """BCP 47 code of the language to answer in, such as "zh"."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    thinking: bool | None = None
    max_age: int | None = None
    """The oldest acceptable stored answer, in seconds."""
    exact_only: bool = False
    """Whether only exact repeats may come from memory."""
    tags: Sequence[str] = ()


def to_image(image: ImageInput) -> content_pb2.Image:
    """The message of an image. Reads files; raises FileNotFoundError, and TypeError for anything else than named."""
    if isinstance(image, bytes | bytearray | memoryview):
        return content_pb2.Image(content=bytes(image))
    if isinstance(image, str) and image.startswith(("https://", "http://")):
        return content_pb2.Image(uri=image)
    if isinstance(image, str | os.PathLike):
        return content_pb2.Image(content=Path(image).read_bytes())
    if isinstance(image, Savable):
        file = io.BytesIO()
        image.save(file, format="PNG")
        return content_pb2.Image(content=file.getvalue())
    raise TypeError(f"image: a path, an https address, bytes or a picture, not {type(image).__name__}")


def to_request(image: ImageInput | Sequence[ImageInput], question: str, options: Options) -> answer_pb2.AnswerRequest:
    """The message of a question. Reads the image's file."""
    request = answer_pb2.AnswerRequest(
        parent=to_parent(options.tenant),
        question=content_pb2.Question(text=question, answer_language_code=options.answer_language),
        cache_mode=answer_pb2.CacheMode.Value(f"CACHE_MODE_{options.cache_mode.upper()}"),
        tags=options.tags,
    )
    if isinstance(image, list | tuple):
        request.images.extend(to_image(each) for each in image)
    else:
        request.image.CopyFrom(to_image(image))  # type: ignore[arg-type]
    for role, text in options.history:
        request.question.history.add(role=content_pb2.Role.Value(f"ROLE_{role.upper()}"), text=text)
    for name in ("max_tokens", "temperature", "top_p", "seed", "thinking"):
        if (value := getattr(options, name)) is not None:
            setattr(request.params, name, value)
    request.params.stop.extend(options.stop)
    if options.max_age is not None:
        request.limits.max_age_seconds = options.max_age
    if options.exact_only:
        request.limits.exact_only = True
    return request


def to_parent(tenant: str) -> str:
    """The resource name of a tenant's id; names pass as they are."""
    return tenant if not tenant or tenant.startswith("tenants/") else f"tenants/{tenant}"


def from_response(response: answer_pb2.AnswerResponse) -> Answer:
    """The answer in a message."""
    found = response.provenance
    return Answer(
        text=response.answer.text,
        source="cache" if found.source == content_pb2.SOURCE_CACHE else "model",
        reason=found.reason,
        decision=found.decision,
        request_id=response.request_id,
        finish_reason=content_pb2.FinishReason.Name(response.answer.finish_reason).removeprefix("FINISH_REASON_"),
        response=response,
    )


def from_job(job: job_pb2.Job) -> Job:
    """The job in a message."""
    state: Any = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
    answer = from_response(job.response) if job.HasField("response") else None
    return Job(job.name, state, answer, job.error.message)


def to_feedback(answer: Answer | str, right: bool, correct_text: str, comment: str) -> answer_pb2.SubmitFeedbackRequest:
    """The message of feedback on an answer or on a decision's name."""
    return answer_pb2.SubmitFeedbackRequest(
        decision=answer if isinstance(answer, str) else answer.decision,
        verdict=answer_pb2.VERDICT_RIGHT if right else answer_pb2.VERDICT_WRONG,
        correct_text=correct_text,
        comment=comment,
    )
