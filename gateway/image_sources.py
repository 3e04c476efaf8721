"""From what a request names to the files that are looked up and asked about: fetched, PDF files taken page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from askonce.faults import Fault, InvalidInput
from askonce.v1 import answer_pb2, content_pb2
from gateway import images
from gateway.deadlines import Deadline
from gateway.fetching import Fetcher
from gateway.pdf import PdfPages, is_pdf, too_long
from gateway.settings import ImageLimits


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a request."""

    content: bytes
    """The encoded file: JPEG, PNG or WebP."""
    digest: bytes
    """SHA-256 of the file, 32 bytes."""
    sound: bool = False
    """Whether it is known to decode: the gateway has made it itself."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images of a request, in order, and how many came of each file that was sent."""

    all: tuple[Picture, ...]
    counts: tuple[int, ...]


class ImageSources:
    """Resolves the images of requests."""

    def __init__(self, limits: ImageLimits, fetcher: Fetcher, pdf: PdfPages) -> None:
        self.limits = limits
        self.fetcher = fetcher
        self.pdf = pdf

    def glance(self, request: answer_pb2.AnswerRequest) -> None:
        """Checks all that can be said without fetching or decoding anything. Raises InvalidInput."""
        for field, image in named(request):
            if image.WhichOneof("source") == "content":
                self._check(image.content, f"{field}.content")

    async def resolve(self, request: answer_pb2.AnswerRequest, tenant: str, deadline: Deadline) -> Pictures:
        """Gets every image. Raises Fault."""
        sources = named(request)
        files = await self._files(sources, deadline)
        pictures: list[Picture] = []
        counts = []
        for (field, _), content in zip(sources, files, strict=True):
            place = f"{field}.content"
            room = self.limits.max_images - len(pictures)
            self._check(content, place)
            if is_pdf(content):
                if room < 1:
                    raise too_long(place, 1, self.limits.max_images)
                found = await self.pdf.pages(tenant, content, room, self.limits.max_images, deadline, place)
                pictures.extend([Picture(page, await images.digest(page), sound=True) for page in found])
                counts.append(len(found))
            else:
                if room < 1:
                    raise too_long(place, len(sources), self.limits.max_images)
                pictures.append(Picture(content, await images.digest(content)))
                counts.append(1)
        self._check_total(pictures)
        return Pictures(tuple(pictures), tuple(counts))

    async def _files(self, sources: Sequence[tuple[str, content_pb2.Image]], deadline: Deadline) -> Sequence[bytes]:
        """The files behind all sources; those that have to be fetched, side by side."""
        if len(sources) == 1:
            return [await self._get(*sources[0], deadline)]
        work = [asyncio.ensure_future(self._get(field, image, deadline)) for field, image in sources]
        try:
            return await asyncio.gather(*work)
        finally:
            for task in work:
                task.cancel()

    async def _get(self, field: str, image: content_pb2.Image, deadline: Deadline) -> bytes:
        """The file behind one source."""
        if image.WhichOneof("source") == "content":
            return image.content
        try:
            return await self.fetcher.fetch(image.uri, deadline)
        except Fault as fault:
            raise named_in(fault, "image", field) from None

    def _check(self, content: bytes, field: str) -> None:
        """Checks size and type of a file. Raises InvalidInput."""
        if not is_pdf(content):
            images.glance(content, self.limits, field)
        elif len(content) > self.limits.max_bytes:
            raise images.too_large(len(content), self.limits.max_bytes, field)

    def _check_total(self, pictures: Sequence[Picture]) -> None:
        """Checks what all images together weigh. Raises InvalidInput."""
        total = sum(len(picture.content) for picture in pictures)
        if len(pictures) > 1 and total > self.limits.max_total_bytes:
            raise images.too_large(total, self.limits.max_total_bytes, "images")


def named_in(fault: Fault, only: str, field: str) -> Fault:
    """A fault that speaks of the request's only image, as one that speaks of the image in `field`."""
    fault.message = fault.message.replace(f"{only}.", f"{field}.", 1)
    if fault.field.startswith(f"{only}."):
        fault.field = field + fault.field.removeprefix(only)
    return fault


def named(request: answer_pb2.AnswerRequest) -> list[tuple[str, content_pb2.Image]]:
    """The images that a request names, each with the field that it stands in."""
    if request.images:
        return [(f"images[{number}]", image) for number, image in enumerate(request.images)]
    return [("image", request.image)]


def placed(question: content_pb2.Question, pictures: Pictures) -> content_pb2.Question:
    """The question with its turns' counts of images as those of pages: one file may have become several. Raises
    InvalidInput where turns claim more images than there are."""
    if not any(turn.image_count for turn in question.history):
        return question
    result = content_pb2.Question()
    result.CopyFrom(question)
    left = list(pictures.counts)
    for number, turn in enumerate(result.history):
        if turn.image_count > len(left):
            field = f"question.history[{number}].image_count"
            raise InvalidInput("OUT_OF_RANGE", f"{field}: the request has fewer images.", field=field)
        mine, left = left[: turn.image_count], left[turn.image_count :]
        turn.image_count = sum(mine) if len(pictures.all) > 1 else 0
    return result
