"""A checked request with its image at hand, and the messages to both services that are made of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from askonce.v1 import answer_pb2, content_pb2, dedup_pb2, inference_pb2
from gateway.deadlines import Deadline
from gateway.hosted_model import Model
from gateway.image_sources import Picture
from gateway.provenance import LookupResult


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request with its image at hand."""

    tenant: str
    pictures: tuple[Picture, ...]
    """The images, in order; at least one."""
    question: content_pb2.Question
    params: content_pb2.GenerationParams
    """With every default written out."""
    mode: answer_pb2.CacheMode.ValueType
    limits: answer_pb2.ReuseLimits | None
    tags: tuple[str, ...]
    model: Model
    started: float
    """When the request arrived, on the clock of `time.monotonic`."""
    resolved: float
    """Seconds that resolving the image took."""
    deadline: Deadline
    background: bool
    """Whether nobody waits: the model is asked only while it has nothing else to do."""

    @property
    def digest(self) -> bytes:
        """What tells the images from others, 32 bytes: the file's SHA-256, or one over those of several in order."""
        if len(self.pictures) == 1:
            return self.pictures[0].digest
        return hashlib.sha256(b"".join(picture.digest for picture in self.pictures)).digest()


def lookup_request(ask: Ask, judge_available: bool) -> dedup_pb2.LookupRequest:
    """The look-up of a request, without the image's content."""
    several = len(ask.pictures) > 1
    return dedup_pb2.LookupRequest(
        parent=ask.tenant,
        image_digest=b"" if several else ask.digest,
        page_digests=[picture.digest for picture in ask.pictures] if several else [],
        question=ask.question,
        space=dedup_pb2.AnswerSpace(model=ask.model.name, model_revision=ask.model.revision, params=ask.params),
        cache_mode=ask.mode,
        limits=ask.limits,
        tags=ask.tags,
        judge_available=judge_available,
    )


def add_content(request: dedup_pb2.LookupRequest, ask: Ask) -> None:
    """Adds the images' content to a look-up."""
    if len(ask.pictures) == 1:
        request.image_content = ask.pictures[0].content
    else:
        request.page_contents.extend(picture.content for picture in ask.pictures)


def generate_request(ask: Ask, found: LookupResult, scope: str) -> inference_pb2.GenerateRequest:
    """The question to the model, within the policy's pixel budget where dedup could tell it. `scope` names who shares
    the model's caches."""
    params = ask.params
    if found.response is not None and found.response.max_pixels:
        params = content_pb2.GenerationParams()
        params.CopyFrom(ask.params)
        params.max_pixels = min(params.max_pixels or found.response.max_pixels, found.response.max_pixels)
    request = inference_pb2.GenerateRequest(
        question=ask.question,
        params=params,
        cache_scope=scope,
        priority=inference_pb2.PRIORITY_BACKGROUND if ask.background else inference_pb2.PRIORITY_INTERACTIVE,
    )
    if len(ask.pictures) == 1:
        request.image.content = ask.pictures[0].content
        request.image_digest = ask.pictures[0].digest
    else:
        request.images.extend(content_pb2.Image(content=picture.content) for picture in ask.pictures)
        request.image_digests.extend(picture.digest for picture in ask.pictures)
    return request


def judged_on(ask: Ask, max_pixels: int, scope: str) -> inference_pb2.CompareQuestionsRequest:
    """The one image of a request as a judge is shown it: with the pixels with which the model answers about it."""
    (picture,) = ask.pictures
    wanted = ask.params.max_pixels or max_pixels
    return inference_pb2.CompareQuestionsRequest(
        image=content_pb2.Image(content=picture.content),
        image_digest=picture.digest,
        max_pixels=min(wanted, max_pixels) if max_pixels else wanted,
        cache_scope=scope,
    )
