"""Several images and the pages of PDF files in one request."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from askonce.v1 import answer_pb2, content_pb2
from gateway.settings import ImageLimits, Settings
from tests.gateway.doubles import INVALID, Running, refused, running
from tests.gateway.pdfs import pdf
from tests.gateway.pictures import draw, encode, picture

pytestmark = pytest.mark.slow
PAGES = (picture(1), picture(2), picture(3))


@pytest_asyncio.fixture
async def system() -> AsyncIterator[Running]:
    """A gateway that takes four images of 60 kB together."""
    async with running(Settings(images=ImageLimits(max_images=4, max_total_bytes=60_000))) as system:
        yield system


def about(
    *files: bytes, text: str = "Do these agree?", history: tuple[content_pb2.Turn, ...] = ()
) -> answer_pb2.AnswerRequest:
    """A request about several files."""
    question = content_pb2.Question(text=text, history=history)
    return answer_pb2.AnswerRequest(images=[content_pb2.Image(content=file) for file in files], question=question)


def turn(images: int, role: content_pb2.Role.ValueType = content_pb2.ROLE_USER) -> content_pb2.Turn:
    """A turn that came with so many images."""
    return content_pb2.Turn(role=role, text="See here.", image_count=images)


async def test_several_images_reach_both_services_in_order(system: Running) -> None:
    """Dedup gets their digests, then their contents; the model gets both; a repeat is a hit."""
    first = await system.stub.Answer(about(*PAGES), timeout=10)
    await system.settled()
    second = await system.stub.Answer(about(*PAGES), timeout=10)
    digests = [hashlib.sha256(page).digest() for page in PAGES]
    assert [list(each.page_digests) for each in system.memory.lookups] == [digests] * 3
    assert [list(each.page_contents) for each in system.memory.lookups] == [[], list(PAGES), []]
    (asked,) = system.model.requests
    assert [image.content for image in asked.images] == list(PAGES)
    assert list(asked.image_digests) == digests
    assert not asked.HasField("image")
    assert (first.provenance.source, second.provenance.source) == (content_pb2.SOURCE_MODEL, content_pb2.SOURCE_CACHE)


async def test_order_and_number_make_other_requests(system: Running) -> None:
    """Turned round, or one less, it is another request."""
    for files in (PAGES, PAGES[::-1], PAGES[:2], (*PAGES, PAGES[0])):
        assert (await system.stub.Answer(about(*files), timeout=10)).provenance.source == content_pb2.SOURCE_MODEL
        await system.settled()


async def test_one_image_in_a_list_is_that_image(system: Running) -> None:
    """The new field with one image means the old one."""
    await system.ask(PAGES[0], "Do these agree?")
    await system.settled()
    assert (await system.stub.Answer(about(PAGES[0]), timeout=10)).provenance.source == content_pb2.SOURCE_CACHE


async def test_a_pdf_file_is_its_pages(system: Running) -> None:
    """A file of two pages is two images, wherever it stands, and a hit when it comes again; one page is one image."""
    answer = await system.stub.Answer(about(PAGES[0], pdf(2)), timeout=30)
    await system.settled()
    asked = system.model.requests[0]
    assert len(asked.images) == 3
    assert asked.images[0].content == PAGES[0]
    assert all(image.content.startswith(b"\x89PNG") for image in asked.images)
    assert (await system.stub.Answer(about(PAGES[0], pdf(2)), timeout=30)).answer == answer.answer
    await system.ask(pdf(1), "Total?", timeout=30)
    assert system.model.requests[-1].image.content.startswith(b"\x89PNG")
    assert len(system.model.requests) == 2


async def test_places_in_the_conversation_follow_the_pages(system: Running) -> None:
    """A turn that came with a file of two pages came with two images; places are part of the request."""
    await system.stub.Answer(about(pdf(2), PAGES[0], history=(turn(1),)), timeout=30)
    assert [each.image_count for each in system.model.requests[0].question.history] == [2]
    await system.settled()
    other = await system.stub.Answer(about(pdf(2), PAGES[0], history=(turn(2),)), timeout=30)
    assert other.provenance.source == content_pb2.SOURCE_MODEL
    await system.stub.Answer(about(PAGES[0], history=(turn(1),)), timeout=30)
    assert [each.image_count for each in system.model.requests[-1].question.history] == [0]


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (about(*PAGES, *PAGES), "IMAGES_TOO_MANY", "images"),
        (about(PAGES[0], pdf(4)), "IMAGES_TOO_MANY", "images[1].content"),
        (about(pdf(4), PAGES[0]), "IMAGES_TOO_MANY", "images[1].content"),
        (about(PAGES[0], b""), "IMAGE_EMPTY", "images[1].content"),
        (about(PAGES[0], b"GIF89a..."), "IMAGE_TYPE_UNSUPPORTED", "images[1].content"),
        (about(PAGES[0], encode(draw(800, 600), "JPEG")[:-3000]), "IMAGE_TRUNCATED", "images[1].content"),
        (about(PAGES[0], b"%PDF-1.7 ..."), "PDF_UNREADABLE", "images[1].content"),
        (about(PAGES[0], picture() + bytes(60_000)), "IMAGE_TOO_LARGE", "images"),
        (answer_pb2.AnswerRequest(images=[content_pb2.Image(), content_pb2.Image()],
                                  question=content_pb2.Question(text="x")), "IMAGE_REQUIRED", "images[0]"),
        (answer_pb2.AnswerRequest(images=[content_pb2.Image(content=PAGES[0])],
                                  image=content_pb2.Image(content=PAGES[0]),
                                  question=content_pb2.Question(text="x")), "FIELDS_CONFLICT", "image"),
        (answer_pb2.AnswerRequest(images=[content_pb2.Image(content=PAGES[0]),
                                          content_pb2.Image(uri="https://example.com/a.png")],
                                  question=content_pb2.Question(text="x")), "URI_NOT_ALLOWED", "images[1].uri"),
        (about(*PAGES, history=(turn(4),)), "OUT_OF_RANGE", "question.history[0].image_count"),
        (about(*PAGES, history=(turn(-1),)), "OUT_OF_RANGE", "question.history[0].image_count"),
        (about(*PAGES, history=(turn(1, content_pb2.ROLE_ASSISTANT),)), "OUT_OF_RANGE",
         "question.history[0].image_count"),
    ],
)  # fmt: skip
async def test_errors_name_the_image(
    system: Running, request_: answer_pb2.AnswerRequest, reason: str, field: str
) -> None:
    """Whatever is wrong with one of several is told with its place."""
    fault = await refused(system, request_)
    assert (fault.code, fault.reason, fault.field) == (INVALID, reason, field)
    assert fault.message.startswith(field.split(".")[0]) or field == "image"
