"""The text recogniser in a child process: decoders and networks that read clients' files."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from askonce.child_pool import ChildError, ChildPool, OpeningError
from askonce.image_header import HeaderError, kind_of, read_header
from inference_service.engine import BadAskError, EngineError, EngineUnavailableError
from inference_service.reader.page import Page
from inference_service.reader.recogniser import Recogniser


class HostedRecogniser(Recogniser):
    """The child's side, warm when it says that it is there."""

    def __init__(self, threads: int, max_side: int) -> None:
        super().__init__(threads, max_side)
        page = Image.new("RGB", (320, 96), "white")
        ImageDraw.Draw(page).text((20, 30), "Total 12.50", fill="black", font_size=28)
        file = io.BytesIO()
        page.save(file, "PNG")
        self.read(file.getvalue(), 3_000_000)

    def read(self, content: bytes, max_pixels: int) -> Page:
        """See `Recogniser`. What a header tells is checked before a decoder sees the file."""
        if kind_of(content) is not None:
            try:
                read_header(content)
            except HeaderError as error:
                raise BadAskError(error.reason, f"The image can't be read: {error}.") from error
        return super().read(content, max_pixels)


class ChildRecogniser:
    """A recogniser in a child. Calls block."""

    def __init__(self, threads: int, max_side: int, seconds: float) -> None:
        """`seconds` bounds one page. Raises EngineUnavailableError when the weights can't be loaded."""
        self.pool = ChildPool(
            "recogniser",
            "inference_service.reader.child:HostedRecogniser",
            (threads, max_side),
            limit=seconds,
        )
        try:
            self.pool.start()
        except OpeningError as error:
            cause = error.__cause__
            if isinstance(cause, EngineError):
                raise cause from error
            raise EngineUnavailableError(
                "READER_UNAVAILABLE", f"The text recogniser can't be loaded: {cause}"
            ) from error

    def read(self, content: bytes, max_pixels: int) -> Page:
        """The page in an encoded file. Raises BadAskError, also for a file that ended a child, and
        EngineUnavailableError."""
        try:
            page: Page = self.pool.call("read", content, max_pixels)
        except ChildError as error:
            if error.cause in ("DOWN", "ABANDONED"):
                raise EngineUnavailableError("READER_UNAVAILABLE", "The reader is starting again.", 1.0) from error
            if error.cause == "OVERRAN":
                raise BadAskError("IMAGE_TOO_COMPLEX", "The page takes too long; send a smaller one.") from error
            raise BadAskError("IMAGE_UNREADABLE", "The image can't be read; save it anew.") from error
        return page

    def close(self) -> None:
        """Ends the child."""
        self.pool.close()
