"""An uploaded image file, checked and decoded into one canonical form."""

import hashlib
import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from askonce.picture import FORMATS, flatten, orientation

# JPEG files above this many pixels are decoded at 1/2, 1/4 or 1/8 of their size (the decoder skips the work), as long
# as no side falls under the longest that a fingerprint has.
FULL_DECODE_PIXELS = 8_000_000
REDUCED_SIDE = 2048

MIN_SIDE = 16
# The hosted model's own processor refuses anything more elongated (GLM-4.6V: aspect ratio > 200).
MAX_ASPECT = 200

# Content is hidden where it spans at least this many grey levels in the file and no more than a quarter of it as shown.
_HIDDEN = 12
_AROUND = np.ones((5, 5), np.uint8)


class PictureError(Exception):
    """An image that can't be used.

    Attributes:
        reason: stable UPPER_SNAKE word: IMAGE_EMPTY, IMAGE_UNREADABLE, IMAGE_TRUNCATED, IMAGE_TYPE_UNSUPPORTED,
            IMAGE_TOO_COMPLEX, IMAGE_TOO_LARGE, IMAGE_TOO_MANY_PIXELS, IMAGE_TOO_SMALL or IMAGE_ASPECT_UNSUPPORTED.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["PictureError"], tuple[str, str]]:
        """Lets it be raised in one process and caught in another."""
        return type(self), (self.reason, str(self))


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image as the model gets it (`askonce.picture`): upright, opaque, 8 bits.

    Attributes:
        rgb: (H, W, 3) uint8. As large as the file says, except for JPEG above 8 megapixels, which is decoded at a
            fraction of its size.
        width: pixels of the upright image in the file.
        height: pixels of the upright image in the file.
        byte_digest: SHA-256 of the file, 32 bytes.
        pixel_digest: SHA-256 of size and canonical pixels, 32 bytes: equal for files that differ in metadata or in
            lossless packing only. Where the file holds more than is shown (more than 8 bits, colours under
            transparency, a JPEG decoded at a fraction), that is digested too.
        hidden: whether the file holds content that is not shown: what a decoder of another kind would see in it was
            not compared.
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    byte_digest: bytes
    pixel_digest: bytes
    hidden: bool = False


def byte_digest(content: bytes) -> bytes:
    """SHA-256 of the file as it was sent: the first and cheapest tier."""
    return hashlib.sha256(content).digest()


def open_picture(content: bytes, *, max_bytes: int = 5 * 2**20, max_pixels: int = 40_000_000) -> Picture:
    """Check and decode one JPEG, PNG or WebP file.

    Sizes are checked on the header, before any pixel is decoded; what becomes of them is said in `askonce.picture`.
    Peak memory beside the file is 10 bytes per decoded pixel, 21 with transparency (measured).

    Raises:
        PictureError: with a stable reason.
    """
    if not content:
        raise PictureError("IMAGE_EMPTY", "the image has no bytes")
    if len(content) > max_bytes:
        raise PictureError("IMAGE_TOO_LARGE", f"the image has {len(content)} bytes, more than {max_bytes}")
    image = _identify(content)
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError("IMAGE_TOO_MANY_PIXELS", f"the image has {width}x{height} pixels, more than {max_pixels}")
    if min(width, height) < MIN_SIDE:
        raise PictureError("IMAGE_TOO_SMALL", f"the image is {width}x{height}, a side is under {MIN_SIDE} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError("IMAGE_ASPECT_UNSUPPORTED", f"the image is {width}x{height}, over {MAX_ASPECT} to 1")
    if width * height > FULL_DECODE_PIXELS:
        # Only JPEG heeds this; the decoder picks the smallest scale that is no smaller than what is asked for.
        scale = REDUCED_SIDE / max(width, height)
        image.draft(None, (max(1, round(width * scale)), max(1, round(height * scale))))
    reduced = image.size != (width, height)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _broken(error) from error
    if (turn := orientation(image)) != 1:
        image = ImageOps.exif_transpose(image)
        width, height = (height, width) if turn >= 5 else (width, height)
    rgb = np.ascontiguousarray(flatten(image))
    more, hidden = _beyond(image, content, rgb)
    digest = hashlib.sha256(b"%d %d " % rgb.shape[:2])
    digest.update(rgb.data)
    digest.update(_coded(content) if reduced else more)
    return Picture(rgb, width, height, byte_digest(content), digest.digest(), hidden)


def _beyond(image: Image.Image, content: bytes, rgb: NDArray[np.uint8]) -> tuple[bytes, bool]:
    """What the file holds beyond the pixels shown, as bytes to digest, and whether that is content.

    Args:
        image: upright, as decoded.
        content: the file.
        rgb: (H, W, 3) uint8, as shown.
    """
    if content[:4] == b"\x89PNG" and content[24:25] == b"\x10":
        deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if deep is None or deep.dtype != np.uint16:
            return content, True
        # Eight bits of a file that uses few of its levels show less than it holds.
        span = int(np.ptp(deep[..., :3] if deep.ndim == 3 else deep))
        return np.ascontiguousarray(deep).tobytes(), 0 < span < 32 * 257 or _under_clear(image, rgb)[1]
    return _under_clear(image, rgb)


def _under_clear(image: Image.Image, rgb: NDArray[np.uint8]) -> tuple[bytes, bool]:
    """The same for what transparency hides: light ink on a clear ground, colours under it."""
    if not image.has_transparency_data or image.mode[0] in "IF":
        return b"", False
    layer = np.asarray(image.convert("RGBA"))
    colour, alpha = layer[:, :, :3], layer[:, :, 3:]
    if int(alpha.min()) == 255:
        return b"", False
    on_black = (colour.astype(np.uint16) * alpha // 255).astype(np.uint8)
    shown = cv2.dilate(_span(rgb), _AROUND)
    found = cv2.max(_span(np.ascontiguousarray(colour)), _span(on_black))
    # The edge of what is opaque is an edge on black as well, even where white ink meets a white ground.
    hidden = bool(((found >= _HIDDEN) & (shown.astype(np.uint16) * 4 <= found)).any())
    return (layer.tobytes() if hidden else b""), hidden


def _span(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8: the largest difference of a channel within five pixels."""
    span = cv2.subtract(cv2.dilate(rgb, _AROUND), cv2.erode(rgb, _AROUND))
    return np.asarray(span.max(axis=2), dtype=np.uint8)


def _coded(content: bytes) -> bytes:
    """A JPEG without its comments and application data, Adobe's apart: equal for equal full-size pixels."""
    kept, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if kind == 0xDA:
            break
        if kind != 0xFE and (kind == 0xEE or not 0xE0 <= kind <= 0xEF):
            kept.append(content[at : at + 2 + length])
        at += 2 + length
    return b"".join((*kept, content[at:]))


def _identify(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        supported = content[:3] == b"\xff\xd8\xff" or content[:8] == b"\x89PNG\r\n\x1a\n" or content[8:12] == b"WEBP"
        if supported:
            raise PictureError("IMAGE_UNREADABLE", "the image has a known type but can't be decoded") from error
        raise PictureError("IMAGE_TYPE_UNSUPPORTED", "the image is not JPEG, PNG or WebP") from error
    except Image.DecompressionBombError as error:
        raise PictureError("IMAGE_TOO_MANY_PIXELS", "the image has far too many pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> PictureError:
    text = str(error).lower()
    if "truncated" in text or "premature" in text or isinstance(error, EOFError):
        return PictureError("IMAGE_TRUNCATED", "the image ends too early")
    return PictureError("IMAGE_UNREADABLE", "the image can't be decoded")


def fit_within(pixels: NDArray[np.uint8], *, side: int, area: int | None = None) -> NDArray[np.uint8]:
    """Shrink (never enlarge) so that no side exceeds `side` and the area does not exceed `area`, by area averaging."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    if area is not None:
        scale = min(scale, (area / (height * width)) ** 0.5)
    if scale >= 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk: NDArray[np.uint8] = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return shrunk


# Pillow's own limit warns on images that max_pixels already judges; the check above is the one that counts.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False
