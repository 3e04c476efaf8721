"""PDF files as the pages that they consist of."""

from __future__ import annotations

import asyncio
import hashlib
from threading import Lock

from cachetools import LRUCache

from askonce.child_pool import ChildError, ChildPool, OpeningError
from askonce.faults import Exhausted, InvalidInput
from askonce.image_header import kind_of
from gateway.deadlines import Deadline
from gateway.pdf_renderer import PdfError, TooManyPagesError
from gateway.settings import Pdf

MARK = b"%PDF-"
LEAD = 1_024
"""Readers accept the mark anywhere in the first kilobyte."""

EXPLAINED = {
    "PDF_UNREADABLE": "this PDF file can't be read; save it anew, or send its pages as images",
    "PDF_ENCRYPTED": "this PDF file is locked with a password; send it without one",
}


def is_pdf(content: bytes) -> bool:
    """Whether a file announces itself as PDF, and not as an image that has the mark in its description."""
    return MARK in content[:LEAD] and kind_of(content) is None


class PdfPages:
    """Turns PDF files into pages, in a child process that is started with the first file."""

    def __init__(self, settings: Pdf, waiting: int = 16) -> None:
        self.settings = settings
        self._waiting = waiting
        self._pending = 0
        self._starting = Lock()
        self._started = False
        self._pool = ChildPool(
            "pdf",
            "gateway.pdf_renderer:Renderer",
            (settings.dpi, settings.page_pixels),
            size=settings.workers,
            limit=settings.timeout,
            memory=settings.memory_bytes,
        )
        # By tenant and digest: how long a file takes must not tell one tenant what another has sent.
        self._rendered: LRUCache[tuple[str, bytes], list[bytes]] = LRUCache(
            settings.cache_bytes, getsizeof=lambda pages: sum(map(len, pages))
        )

    async def pages(
        self, tenant: str, content: bytes, room: int, limit: int, deadline: Deadline, field: str
    ) -> list[bytes]:
        """The pages of a file, in order, each a PNG or JPEG file. Raises InvalidInput, Exhausted and TooLate.

        `room` is how many more images the request may have, `limit` how many in all; a longer file is not rendered.
        """
        key = (tenant, await asyncio.to_thread(lambda: hashlib.sha256(content).digest()))
        found = self._rendered.get(key)
        if found is None:
            if self._pending >= self._waiting:
                raise Exhausted("GATEWAY_BUSY", "Too many PDF files at once; try again shortly.", retry_after=1.0)
            self._pending += 1
            try:
                seconds = deadline.cap(self.settings.timeout)
                found = await asyncio.to_thread(self._render, content, room, limit, seconds, field)
            finally:
                self._pending -= 1
            if sum(map(len, found)) <= self._rendered.maxsize:
                self._rendered[key] = found
        if len(found) > room:
            raise too_long(field, len(found), limit)
        return found

    def _render(self, content: bytes, room: int, limit: int, seconds: float, field: str) -> list[bytes]:
        """Has the child render a file; blocking."""
        try:
            with self._starting:
                if not self._started:
                    self._pool.start()
                    self._started = True
            pages: list[bytes] = self._pool.call("render", content, room, limit=seconds)
        except TooManyPagesError as error:
            raise too_long(field, error.pages, limit) from error
        except PdfError as error:
            raise InvalidInput(error.reason, f"{field}: {EXPLAINED[error.reason]}.", field=field) from error
        except ChildError as error:
            if error.cause in ("OVERRAN", "DIED", "CONDEMNED"):
                what = EXPLAINED["PDF_UNREADABLE"]
                raise InvalidInput("PDF_UNREADABLE", f"{field}: {what}.", field=field) from error
            raise Exhausted("GATEWAY_BUSY", "No PDF file can be read right now; try again.", retry_after=1.0) from error
        except OpeningError as error:
            raise Exhausted("GATEWAY_BUSY", "No PDF file can be read right now; try again.", retry_after=5.0) from error
        return pages

    def close(self) -> None:
        """Ends the child."""
        if self._started:
            self._pool.close()


def too_long(field: str, pages: int, limit: int) -> InvalidInput:
    """The fault of a file with too many pages."""
    return InvalidInput(
        "IMAGES_TOO_MANY",
        f"{field}: {pages} pages are too many; {limit} images, pages included, are accepted in a request.",
        field=field,
        metadata={"limit": str(limit), "actual": str(pages)},
    )
