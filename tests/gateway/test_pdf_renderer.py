"""Pages of PDF files as images: the same every time, at the stated resolution, within bounds."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gateway.pdf_renderer import LARGE_PNG, PdfError, Renderer, TooManyPagesError, encode
from tests.gateway.pdfs import empty, locked, pdf, poster

RENDERER = Renderer(dpi=150.0, page_pixels=4_000_000)


def sizes(pages: list[bytes]) -> list[tuple[int, int]]:
    """Width and height of each page."""
    return [Image.open(io.BytesIO(page)).size for page in pages]


def test_pages_come_in_order_at_the_resolution() -> None:
    """300 points at 150 dots per inch are 625 pixels; equal files give equal pages, other pages differ."""
    pages = RENDERER.render(pdf(3), 8)
    assert sizes(pages) == [(625, 417)] * 3
    assert RENDERER.render(pdf(3), 8) == pages
    assert len(set(pages)) == 3
    assert RENDERER.render(pdf(1, seed=1), 8) == [pages[1]]


def test_large_pages_are_rendered_within_bounds() -> None:
    """A poster is rendered at a lower resolution rather than refused."""
    ((width, height),) = sizes(RENDERER.render(poster(), 8))
    assert width * height <= 4_000_000
    assert width > 1_900


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-1.7 ...", "PDF_UNREADABLE"),
        (pdf()[:200], "PDF_UNREADABLE"),
        (locked(), "PDF_ENCRYPTED"),
        (empty(), "PDF_UNREADABLE"),
    ],
    ids=["garbage", "cut", "locked", "empty"],
)
def test_what_cannot_be_rendered(content: bytes, reason: str) -> None:
    """Each kind of file that has no pages to show has its reason."""
    with pytest.raises(PdfError) as caught:
        RENDERER.render(content, 8)
    assert caught.value.reason == reason


def test_too_many_pages_are_counted_and_not_rendered() -> None:
    """The number of pages is told."""
    with pytest.raises(TooManyPagesError) as caught:
        RENDERER.render(pdf(5), 4)
    assert caught.value.pages == 5


def test_photographs_travel_as_jpeg() -> None:
    """A page that is large as PNG and smaller as JPEG is sent as JPEG; text stays lossless."""
    noise = Image.effect_noise((1_400, 1_400), 80).convert("RGB")
    assert encode(noise).startswith(b"\xff\xd8")
    plain = encode(Image.new("RGB", (1_400, 1_400), "white"))
    assert plain.startswith(b"\x89PNG")
    assert len(plain) < LARGE_PNG
