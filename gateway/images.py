"""Is this file an image that can be asked about? Cheap checks of the bytes, then a full decode in a worker thread.

JPEG, PNG and WebP are taken in every flavour that Pillow decodes: grey, palette, alpha, 16 bits, CMYK, EXIF-rotated,
and animated (which stands for its first frame).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from askonce.faults import Exhausted, InvalidInput
from gateway.settings import ImageLimits

FORMATS = ("JPEG", "PNG", "WEBP")
KNOWN_OTHERS = (
    (b"GIF8", "GIF"),
    (b"%PDF", "PDF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"PK\x03\x04", "ZIP"),
)
DIGEST_ON_LOOP = 512 * 1024
"""SHA-256 of this many bytes takes about 0.3 ms with the CPU's own instructions; larger files go to a thread."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the header of an image says."""

    format: str
    """JPEG, PNG or WEBP."""
    width: int
    height: int


def sniff(content: bytes) -> str | None:
    """The format that the first bytes announce: JPEG, PNG or WEBP; None for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return None


def glance(content: bytes, limits: ImageLimits, field: str = "image.content") -> None:
    """Checks size and type: all that can be said without decoding. Raises InvalidInput."""
    if not content:
        raise InvalidInput("IMAGE_EMPTY", f"{field}: the file is empty.", field=field)
    if len(content) > limits.max_bytes:
        raise InvalidInput(
            "IMAGE_TOO_LARGE",
            f"{field}: {len(content):,} bytes are too many; at most {limits.max_bytes:,} are accepted.",
            field=field,
            metadata={"limit": str(limits.max_bytes), "actual": str(len(content))},
        )
    if sniff(content) is None:
        lead = content[:64].lstrip().lower()
        found = next((name for mark, name in KNOWN_OTHERS if lead.startswith(mark.lower())), "something else")
        raise InvalidInput(
            "IMAGE_TYPE_UNSUPPORTED",
            f"{field}: send a JPEG, PNG or WebP file; this is {found}.",
            field=field,
            metadata={"found": found},
        )


def inspect(content: bytes, limits: ImageLimits, field: str = "image.content") -> Facts:
    """Decodes the whole image and checks its dimensions first. Takes milliseconds to seconds: not for the event loop.

    Raises InvalidInput with IMAGE_TOO_SMALL, IMAGE_ASPECT_UNSUPPORTED, IMAGE_TOO_MANY_PIXELS, IMAGE_TRUNCATED or
    IMAGE_UNREADABLE, besides what `glance` raises.
    """
    glance(content, limits, field)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning; the limit below is tighter
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                facts = Facts(format=sniff(content) or "", width=image.width, height=image.height)
                check_size(facts, limits, field)
                # A JPEG is read whole either way; scaled decoding saves the memory and most of the arithmetic.
                image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
                image.load()
    except InvalidInput:
        raise
    except Image.DecompressionBombError as error:
        raise too_many_pixels(limits, field) from error
    except UnidentifiedImageError as error:
        raise (truncated(field) if is_cut(content) else unreadable(field)) from error
    except MemoryError as error:
        raise unreadable(field) from error
    except Exception as error:  # decoders raise anything from OSError to struct.error on hostile files
        raise (truncated(field) if "truncated" in str(error) or is_cut(content) else unreadable(field)) from error
    if is_cut(content):
        raise truncated(field)
    return facts


def check_size(facts: Facts, limits: ImageLimits, field: str) -> None:
    """Checks width and height. Raises InvalidInput."""
    short, long = sorted((facts.width, facts.height))
    if short < limits.min_side:
        raise InvalidInput(
            "IMAGE_TOO_SMALL",
            f"{field}: {facts.width}×{facts.height} is too small; both sides need {limits.min_side} pixels.",
            field=field,
            metadata={"min_side": str(limits.min_side)},
        )
    if facts.width * facts.height > limits.max_pixels:
        raise too_many_pixels(limits, field)
    if long > limits.max_aspect * short:
        raise InvalidInput(
            "IMAGE_ASPECT_UNSUPPORTED",
            f"{field}: {facts.width}×{facts.height} is too narrow; the sides may differ {limits.max_aspect:g}-fold.",
            field=field,
            metadata={"max_aspect": f"{limits.max_aspect:g}"},
        )


def is_cut(content: bytes) -> bool:
    """Whether the end that the format demands is missing. Bytes after the end are no harm."""
    match sniff(content):
        case "JPEG":
            return content.find(b"\xff\xd9", 2) < 0
        case "PNG":
            return content.find(b"IEND", 8) < 0
        case "WEBP":
            return len(content) < 8 + int.from_bytes(content[4:8], "little")
    return False


def too_many_pixels(limits: ImageLimits, field: str) -> InvalidInput:
    return InvalidInput(
        "IMAGE_TOO_MANY_PIXELS",
        f"{field}: the image unpacks to more than {limits.max_pixels:,} pixels; scale it down.",
        field=field,
        metadata={"limit": str(limits.max_pixels)},
    )


def truncated(field: str) -> InvalidInput:
    return InvalidInput("IMAGE_TRUNCATED", f"{field}: the file ends too early; send all of it.", field=field)


def unreadable(field: str) -> InvalidInput:
    return InvalidInput("IMAGE_UNREADABLE", f"{field}: the file can't be decoded; save the image anew.", field=field)


async def digest(content: bytes) -> bytes:
    """SHA-256 of a file, 32 bytes."""
    if len(content) <= DIGEST_ON_LOOP:
        return hashlib.sha256(content).digest()
    return await asyncio.to_thread(lambda: hashlib.sha256(content).digest())


class Inspector:
    """Runs `inspect` on a few worker threads, with a bounded number of images waiting."""

    def __init__(self, limits: ImageLimits, waiting: int = 64) -> None:
        self.limits = limits
        self.executor = ThreadPoolExecutor(max_workers=limits.workers, thread_name_prefix="inspect")
        self.waiting = waiting
        self.pending = 0

    async def inspect(self, content: bytes) -> Facts:
        """Checks an image fully. Raises InvalidInput, and Exhausted when too many images wait already."""
        if self.pending >= self.waiting:
            raise Exhausted("GATEWAY_BUSY", "Too many new images at once; try again shortly.", retry_after=1.0)
        self.pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.executor, inspect, content, self.limits)
        finally:
            self.pending -= 1

    def close(self) -> None:
        """Ends the threads."""
        self.executor.shutdown(wait=False, cancel_futures=True)
