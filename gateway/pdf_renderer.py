"""Renders the pages of a PDF file as images. Runs in a child process: PDFium is native code that reads clients' bytes.

Deterministic: equal files give equal images, so that a file that comes again is the same pages again.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import pypdfium2
from PIL import Image

PASSWORD = 4  # FPDF_ERR_PASSWORD, https://pdfium.googlesource.com/pdfium/+/main/public/fpdfview.h
POINTS = 72.0
"""A PDF's units in an inch."""
LARGE_PNG = 2 * 2**20
"""From this size on, a page that is smaller as a JPEG is sent as one: it holds photographs."""
QUALITY = 92


class PdfError(Exception):
    """A file that can't be rendered. `reason` is PDF_UNREADABLE or PDF_ENCRYPTED."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooManyPagesError(Exception):
    """A file with more pages than are rendered."""

    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        self.pages = pages


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders at a fixed resolution."""

    dpi: float
    """Dots per inch."""
    page_pixels: int
    """The most pixels of one page; a larger one is rendered at a lower resolution."""

    def render(self, content: bytes, max_pages: int) -> list[bytes]:
        """The pages of a file, in order, as PNG or JPEG files. Raises PdfError and TooManyPagesError."""
        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            # PDFium's last error may be an earlier file's where it gives none for this one.
            locked = error.err_code == PASSWORD and b"/Encrypt" in content
            raise PdfError("PDF_ENCRYPTED" if locked else "PDF_UNREADABLE") from error
        try:
            pages = len(document)
            if pages > max_pages:
                raise TooManyPagesError(pages)
            document.init_forms()  # what was filled in is part of the page
            return [self.page(document, number) for number in range(pages)]
        except pypdfium2.PdfiumError as error:
            raise PdfError("PDF_UNREADABLE") from error
        finally:
            document.close()

    def page(self, document: pypdfium2.PdfDocument, number: int) -> bytes:
        """One page as a file."""
        page = document[number]
        try:
            width, height = page.get_size()
            if not (width > 0 and height > 0 and math.isfinite(width * height)):
                raise PdfError("PDF_UNREADABLE")
            scale = min(self.dpi / POINTS, math.sqrt(self.page_pixels / (width * height)))
            return encode(page.render(scale=scale).to_pil().convert("RGB"))
        finally:
            page.close()


def encode(picture: Image.Image) -> bytes:
    """A page as PNG; as JPEG where that is smaller and the PNG is large."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    if file.tell() > LARGE_PNG:
        other = io.BytesIO()
        picture.save(other, "JPEG", quality=QUALITY, subsampling=0)
        if other.tell() < file.tell():
            return other.getvalue()
    return file.getvalue()
