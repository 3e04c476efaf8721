"""PDF files as their pages: rendered in a child, kept for a while, each refusal with its reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from askonce.faults import InvalidInput
from gateway.deadlines import Deadline
from gateway.pdf import PdfPages, is_pdf
from gateway.settings import Pdf
from tests.gateway.pdfs import empty, locked, pdf
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def pages() -> AsyncIterator[PdfPages]:
    """A renderer."""
    found = PdfPages(Pdf())
    yield found
    await asyncio.to_thread(found.close)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(pdf(1), True), (b"junk before\n" + pdf(1), True), (picture(), False), (b"", False),
     (b"x" * 2_000 + pdf(1), False), (picture(kind="JPEG")[:20] + b"%PDF-1.4 in a description", False)],
)  # fmt: skip
def test_what_is_a_pdf_file(content: bytes, expected: bool) -> None:
    """Readers take the mark anywhere in the first kilobyte; an image that mentions it stays an image."""
    assert is_pdf(content) is expected


async def test_pages_are_rendered_once_per_tenant(pages: PdfPages) -> None:
    """A file that comes again is not rendered again; what one tenant has sent makes nothing faster for another."""
    deadline = Deadline.after(60.0)
    first = await pages.pages("tenants/a", pdf(2), 8, 8, deadline, "image.content")
    assert len(first) == 2
    assert await pages.pages("tenants/a", pdf(2), 8, 8, deadline, "image.content") is first
    other = await pages.pages("tenants/b", pdf(2), 8, 8, deadline, "image.content")
    assert other == first
    assert other is not first


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"%PDF-1.7 ...", "PDF_UNREADABLE"), (locked(), "PDF_ENCRYPTED"), (empty(), "PDF_UNREADABLE"),
     (pdf(5), "IMAGES_TOO_MANY")],
    ids=["garbage", "locked", "empty", "more than there is room for"],
)  # fmt: skip
async def test_refusals(pages: PdfPages, content: bytes, reason: str) -> None:
    """What can't be rendered, or has too many pages, is told with its field; numbers are in the metadata."""
    with pytest.raises(InvalidInput) as caught:
        await pages.pages("tenants/a", content, 4, 16, Deadline.after(60.0), "images[1].content")
    assert (caught.value.reason, caught.value.field) == (reason, "images[1].content")
    if reason == "IMAGES_TOO_MANY":
        assert caught.value.metadata == {"limit": "16", "actual": "5"}


async def test_known_pages_count_as_well(pages: PdfPages) -> None:
    """A file that was rendered for a request with more room is refused where there is less."""
    deadline = Deadline.after(60.0)
    await pages.pages("tenants/a", pdf(3), 8, 8, deadline, "image.content")
    with pytest.raises(InvalidInput) as caught:
        await pages.pages("tenants/a", pdf(3), 2, 8, deadline, "image.content")
    assert caught.value.reason == "IMAGES_TOO_MANY"
