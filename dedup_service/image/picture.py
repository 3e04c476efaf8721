"""An uploaded image file, checked and decoded into one canonical form."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

# JPEG files above this many pixels are decoded at 1/2, 1/4 or 1/8 of their size (the decoder skips the work), as long
# as no side falls under the longest that a fingerprint has.
FULL_DECODE_PIXELS = 8_000_000
REDUCED_SIDE = 2048

MIN_SIDE = 16
# The hosted model's own processor refuses anything more elongated (GLM-4.6V: aspect ratio > 200).
MAX_ASPECT = 200

_ORIENTATION = 0x0112  # EXIF
_FORMATS = ("JPEG", "PNG", "WEBP")


class PictureError(Exception):
    """An image that can't be used.

    Attributes:
        reason: stable UPPER_SNAKE word: IMAGE_EMPTY, IMAGE_UNREADABLE, IMAGE_TRUNCATED, IMAGE_TYPE_UNSUPPORTED,
            IMAGE_TOO_LARGE, IMAGE_TOO_MANY_PIXELS, IMAGE_TOO_SMALL or IMAGE_ASPECT_UNSUPPORTED.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image, upright, opaque and in sRGB.

    Attributes:
        rgb: (H, W, 3) uint8. As large as the file says, except for JPEG above 8 megapixels, which is decoded at a
            fraction of its size.
        width: pixels of the upright image in the file.
        height: pixels of the upright image in the file.
        byte_digest: SHA-256 of the file, 32 bytes.
        pixel_digest: SHA-256 of size and canonical pixels, 32 bytes: equal for files that differ in metadata or in
            lossless packing only.
    """

    rgb: NDArray[np.uint8]
    width: int
    height: int
    byte_digest: bytes
    pixel_digest: bytes


def byte_digest(content: bytes) -> bytes:
    """SHA-256 of the file as it was sent: the first and cheapest tier."""
    return hashlib.sha256(content).digest()


def open_picture(content: bytes, *, max_bytes: int = 5 * 2**20, max_pixels: int = 40_000_000) -> Picture:
    """Check and decode one JPEG, PNG or WebP file.

    Sizes are checked on the header, before any pixel is decoded. EXIF orientation is applied, transparency is laid on
    white, an embedded colour profile is converted to sRGB, 16 bits become 8, the first frame of an animation is taken.
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
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _broken(error) from error
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    rgb = _canonical(image)
    digest = hashlib.sha256(b"%d %d " % rgb.shape[:2])
    digest.update(rgb.data)
    return Picture(
        rgb=rgb,
        width=height if turned else width,
        height=width if turned else height,
        byte_digest=byte_digest(content),
        pixel_digest=digest.digest(),
    )


def _identify(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
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


def _canonical(image: Image.Image) -> NDArray[np.uint8]:
    profile = image.info.get("icc_profile")
    if image.getexif().get(_ORIENTATION, 1) != 1:  # exif_transpose copies even what is upright
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        grey: NDArray[np.uint8] = np.clip(deep.astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, layer).convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    image = _in_srgb(image, profile)
    pixels: NDArray[np.uint8] = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return np.ascontiguousarray(pixels)


def _in_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """The image in sRGB; as it is where the profile is absent, sRGB already, unreadable or for another mode."""
    if not isinstance(profile, bytes) or image.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        convert = _transform(profile, image.mode)
        return image if convert is None else convert(image)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    name = ImageCms.getProfileDescription(source).lower()
    if mode == "RGB" and "srgb" in name.replace(" ", ""):
        return None
    target = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, mode, "RGB")
    return lambda image: ImageCms.applyTransform(image, transform) or image


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
