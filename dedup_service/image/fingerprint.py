"""What is kept of an image so that a later one can be checked against it: a small colour rendering, never the file."""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.legibility import characters, text_height
from dedup_service.image.picture import Picture, fit_within

# 768 px on the long side misses small digits and 1600 gains nothing (measured on receipts); the area keeps long
# receipts as sharp as wide ones.
AREA = 1280 * 960
SIDE = 2048
# WebP quality steps, tried until the bytes fit; after the last one the rendering is made smaller instead, because codec
# noise would begin to hide edits.
QUALITIES = (88, 76, 62, 48)
MAX_BYTES = 96 * 1024

_HEADER = struct.Struct("<4sBBIIf")
_MAGIC = b"AOFP"
VERSION = 2
_HIDDEN = 1  # bit of the flags


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """A rendering of an image at 1.2 megapixels or less.

    Attributes:
        rgb: (H, W, 3) uint8, upright, sRGB.
        width: pixels of the image it was made from.
        height: pixels of the image it was made from.
        text: text height in pixels of `rgb`, 0 when there is no text; None when it was not measured yet.
        hidden: whether the file holds content that is not shown (`Picture.hidden`).
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    text: float | None = None
    hidden: bool = False

    def to_bytes(self) -> bytes:
        """Header (magic, version, flags, size, text height) and a WebP of the rendering, at most MAX_BYTES together.

        Lossy: what is read back differs by codec noise, with brightness at full and colour at half resolution, and is
        smaller where the image is too noisy to fit otherwise.
        """
        bgr = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2BGR)
        text = self.text
        if text is None:
            text = text_height(characters(np.asarray(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)))
        step, scale = 0, 1.0
        while True:
            _, packed = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, QUALITIES[step]])
            if len(packed) + _HEADER.size <= MAX_BYTES:
                flags = _HIDDEN if self.hidden else 0
                return _HEADER.pack(_MAGIC, VERSION, flags, self.width, self.height, text * scale) + packed.tobytes()
            if step + 1 < len(QUALITIES):
                step += 1
            else:
                scale *= 0.8
                bgr = np.asarray(cv2.resize(bgr, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Fingerprint":
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: not a fingerprint, another version, or damaged.
        """
        if len(stored) <= _HEADER.size:
            raise ValueError("a fingerprint is longer than its header")
        magic, version, flags, width, height, text = _HEADER.unpack_from(stored)
        if magic != _MAGIC or version != VERSION:
            raise ValueError(f"not a fingerprint of version {VERSION}")
        bgr = cv2.imdecode(np.frombuffer(stored, np.uint8, offset=_HEADER.size), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError("the fingerprint's rendering can't be decoded")
        return cls(
            np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8), width, height, text, bool(flags & _HIDDEN)
        )


def take_fingerprint(picture: Picture) -> Fingerprint:
    """Shrink the picture to what the look-alike check needs."""
    rgb = fit_within(picture.rgb, side=SIDE, area=AREA)
    return Fingerprint(rgb, picture.width, picture.height, hidden=picture.hidden)
