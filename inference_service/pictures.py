"""From an image file to the pixels that an engine looks at."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from askonce.image_header import HeaderError, kind_of, read_header
from askonce.picture import FORMATS, flatten
from inference_service.engine import BadAskError

LONGEST_RATIO = 200
"""Between the sides of an image; the model's own resizing refuses more."""


def upright(content: bytes, max_pixels: int) -> Image.Image:
    """Decodes a file the way that the whole product does (`askonce.picture`).

    Raises BadAskError for a file that is no JPEG, PNG or WebP, is damaged, holds more than `max_pixels` pixels, is more
    than 200 times as long as wide, or whose header announces more work than can be afforded.
    """
    try:
        check_header(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is judged by our own limit below
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise BadAskError(
                        "IMAGE_TOO_MANY_PIXELS", f"{width * height} pixels are too many; at most {max_pixels}"
                    )
                if max(width, height) > LONGEST_RATIO * min(width, height):
                    raise BadAskError("IMAGE_ASPECT_UNSUPPORTED", f"one side is over {LONGEST_RATIO} times the other")
                picture.load()
                return flatten(picture)
    except BadAskError:
        raise
    except UnidentifiedImageError as error:
        raise BadAskError("IMAGE_UNREADABLE", "the image is no readable JPEG, PNG or WebP file") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise BadAskError("IMAGE_UNREADABLE", "the image file is damaged") from error


def check_header(content: bytes) -> None:
    """Refuses a file before a decoder sees it. What is cut is left to the decoder. Raises BadAskError."""
    if kind_of(content) is None:
        return
    try:
        read_header(content)
    except HeaderError as error:
        if error.what:
            raise BadAskError(error.reason, f"{error}; save the image anew") from error
