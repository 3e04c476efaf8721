"""An image as it is sent to a server, and the tokens that it must cost there."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

from PIL import Image

from askonce.picture import speaks_for_itself
from inference_service.pictures import upright

SMALLEST_PIXELS = 112 * 112
"""The lower bound of GLM's image processor; smaller images are enlarged to it."""

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image ready to be sent."""

    media_type: str
    content: bytes
    width: int
    height: int

    def data_uri(self) -> str:
        """The image as a data URI."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"

    def tokens(self, side: int) -> int:
        """The least image tokens that a grid of squares of `side` pixels gives; 0 where `side` is 0.

        Sides are rounded to whole squares after the image was enlarged to the processor's lower bound.
        """
        if not side:
            return 0
        scale = max(1.0, math.sqrt(SMALLEST_PIXELS / (self.width * self.height)))
        across, down = (max(1, round(scale * each / side)) for each in (self.width, self.height))
        return across * down


def picture_of(content: bytes, budget: int, most: int) -> Picture:
    """The file as it came where every decoder makes the same pixels of it and they fit; else those pixels anew.

    Pixels are written without loss as WebP, and as JPEG of high quality where the file was a JPEG. Raises BadAskError
    for a file that is no image or decodes to more than `most` pixels.
    """
    pixels = upright(content, most)
    with Image.open(io.BytesIO(content)) as original:
        kind, plain = original.format or "PNG", speaks_for_itself(original, content)
    if plain and pixels.width * pixels.height <= budget:
        return Picture(MEDIA_TYPES[kind], content, pixels.width, pixels.height)
    scale = math.sqrt(budget / (pixels.width * pixels.height))
    if scale < 1:
        size = (max(1, int(pixels.width * scale)), max(1, int(pixels.height * scale)))
        pixels = pixels.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    if kind == "JPEG":
        pixels.save(file, "JPEG", quality=95, subsampling=0, icc_profile=None)
    else:
        pixels.save(file, "WEBP", lossless=True, quality=0, method=1, icc_profile=None)
    return Picture(MEDIA_TYPES["JPEG" if kind == "JPEG" else "WEBP"], file.getvalue(), *pixels.size)
