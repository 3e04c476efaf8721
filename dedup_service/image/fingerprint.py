"""What is kept of an image so that a later one can be checked against it: a small colour rendering, never the file."""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.legibility import NO_TEXT, Text, measure_text
from dedup_service.image.picture import Picture, fit_within

# 768 px on the long side misses small digits and 1600 gains nothing (measured on receipts); the area keeps long
# receipts as sharp as wide ones.
AREA = 1280 * 960
SIDE = 2048
# WebP quality steps, tried until the bytes fit; after the last one the rendering is made smaller instead, because codec
# noise would begin to hide edits.
QUALITIES = (88, 76, 62, 48)
MAX_BYTES = 96 * 1024

_HEADER = struct.Struct("<4sBBIIfI")
_MAGIC = b"AOFP"
VERSION = 2
# Bits of the flags.
_HIDDEN, _UNREAD, _FAINT = 1, 2, 4


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """A rendering of an image at 1.2 megapixels or less.

    Attributes:
        rgb: (H, W, 3) uint8, upright, sRGB.
        width: pixels of the image it was made from.
        height: pixels of the image it was made from.
        text: the text in it, in pixels of `rgb`; measured before anything is stored, where faint print still shows.
        hidden: whether the file holds content that is not shown (`Picture.hidden`).
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    text: Text = NO_TEXT
    hidden: bool = False

    def to_bytes(self) -> bytes:
        """Header (magic, version, flags, size, text height) and a WebP of the rendering, at most MAX_BYTES together.

        Lossy: what is read back differs by codec noise, with brightness at full and colour at half resolution, and is
        smaller where the image is too noisy to fit otherwise.
        """
        bgr = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2BGR)
        step, scale = 0, 1.0
        while True:
            _, packed = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, QUALITIES[step]])
            if len(packed) + _HEADER.size <= MAX_BYTES:
                return self._header(scale) + packed.tobytes()
            if step + 1 < len(QUALITIES):
                step += 1
            else:
                scale *= 0.8
                bgr = np.asarray(cv2.resize(bgr, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))

    def _header(self, scale: float) -> bytes:
        text = self.text
        flags = _HIDDEN * self.hidden | _UNREAD * text.unread | _FAINT * text.faint
        return _HEADER.pack(
            _MAGIC, VERSION, flags, self.width, self.height, text.height * scale, min(text.characters, 2**32 - 1)
        )

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Fingerprint":
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: not a fingerprint, another version, or damaged.
        """
        if len(stored) <= _HEADER.size:
            raise ValueError("a fingerprint is longer than its header")
        magic, version, flags, width, height, text_height, characters = _HEADER.unpack_from(stored)
        if magic != _MAGIC or version != VERSION:
            raise ValueError(f"not a fingerprint of version {VERSION}")
        bgr = cv2.imdecode(np.frombuffer(stored, np.uint8, offset=_HEADER.size), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError("the fingerprint's rendering can't be decoded")
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        text = Text(text_height, characters, bool(flags & _UNREAD), bool(flags & _FAINT))
        return cls(rgb, width, height, text, bool(flags & _HIDDEN))


def take_fingerprint(picture: Picture) -> Fingerprint:
    """Shrink the picture to what the look-alike check needs, and measure its text."""
    rgb = fit_within(picture.rgb, side=SIDE, area=AREA)
    text = measure_text(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8))
    return Fingerprint(rgb, picture.width, picture.height, text, picture.hidden)
