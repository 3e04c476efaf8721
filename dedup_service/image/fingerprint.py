"""What is kept of an image so that a later one can be checked against it: a small colour rendering, never the file."""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.picture import Picture, fit_within

# 768 px on the long side misses small digits and 1600 gains nothing (measured on receipts); the area keeps long
# receipts as sharp as wide ones.
AREA = 1280 * 960
SIDE = 2048
# WebP quality steps, tried until the bytes fit. Under 70, codec noise begins to hide edits.
QUALITIES = (88, 80, 72, 60, 45)
MAX_BYTES = 96 * 1024

_HEADER = struct.Struct("<4sBII")
_MAGIC = b"AOFP"
VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """A rendering of an image at 1.2 megapixels or less.

    Attributes:
        rgb: (H, W, 3) uint8, upright, sRGB.
        width: pixels of the image it was made from.
        height: pixels of the image it was made from.
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int

    def to_bytes(self) -> bytes:
        """Header (magic, version, size) and a WebP of the rendering; at most 96 KB but for the noisiest images.

        Lossy: what is read back differs by codec noise, with brightness at full and colour at half resolution.
        """
        bgr = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2BGR)
        body = b""
        for quality in QUALITIES:
            _, packed = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
            body = packed.tobytes()
            if len(body) + _HEADER.size <= MAX_BYTES:
                break
        return _HEADER.pack(_MAGIC, VERSION, self.width, self.height) + body

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Fingerprint":
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: not a fingerprint, another version, or damaged.
        """
        if len(stored) <= _HEADER.size:
            raise ValueError("a fingerprint is longer than its header")
        magic, version, width, height = _HEADER.unpack_from(stored)
        if magic != _MAGIC or version != VERSION:
            raise ValueError(f"not a fingerprint of version {VERSION}")
        bgr = cv2.imdecode(np.frombuffer(stored, np.uint8, offset=_HEADER.size), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError("the fingerprint's rendering can't be decoded")
        return cls(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8), width, height)


def take_fingerprint(picture: Picture) -> Fingerprint:
    """Shrink the picture to what the look-alike check needs."""
    return Fingerprint(fit_within(picture.rgb, side=SIDE, area=AREA), picture.width, picture.height)
