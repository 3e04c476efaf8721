"""Is this file an image that can be asked about? Cheap checks of the bytes, then a full decode in a worker thread.

JPEG, PNG and WebP are taken in every flavour that Pillow decodes: grey, palette, alpha, 16 bits, CMYK, EXIF-rotated,
and animated (which stands for its first frame).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image, UnidentifiedImageError

from askonce import fair
from askonce.child_pool import ChildError, ChildPool
from askonce.faults import Exhausted, InvalidInput
from askonce.image_header import HeaderError, kind_of, read_header
from gateway.settings import ImageLimits

FORMATS = ("JPEG", "PNG", "WEBP")
KNOWN_OTHERS = (
    (b"GIF8", "GIF"),
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


def glance(content: bytes, limits: ImageLimits, field: str = "image.content") -> None:
    """Checks size and type: all that can be said without decoding. Raises InvalidInput."""
    if not content:
        raise InvalidInput("IMAGE_EMPTY", f"{field}: the file is empty.", field=field)
    if len(content) > limits.max_bytes:
        raise too_large(len(content), limits.max_bytes, field)
    if kind_of(content) is None:
        lead = content[:64].lstrip().lower()
        found = next((name for mark, name in KNOWN_OTHERS if lead.startswith(mark.lower())), "something else")
        raise InvalidInput(
            "IMAGE_TYPE_UNSUPPORTED",
            f"{field}: send a JPEG, PNG, WebP or PDF file; this is {found}.",
            field=field,
            metadata={"found": found},
        )


def inspect(content: bytes, limits: ImageLimits, field: str = "image.content") -> Facts:
    """Decodes the whole image, after its header and its dimensions were checked. Takes milliseconds to seconds: not for
    the event loop.

    Raises InvalidInput with IMAGE_TOO_COMPLEX, IMAGE_TOO_SMALL, IMAGE_ASPECT_UNSUPPORTED, IMAGE_TOO_MANY_PIXELS,
    IMAGE_TRUNCATED or IMAGE_UNREADABLE, besides what `glance` raises.
    """
    glance(content, limits, field)
    cut = False
    try:
        header = read_header(content)
        if header.width and header.height:
            check_size(Facts(header.kind, header.width, header.height), limits, field)
    except HeaderError as error:
        if error.what:
            raise too_complex(str(error), field, limit=error.limit, actual=error.actual) from error
        cut = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning; the limit below is tighter
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                facts = Facts(format=kind_of(content) or "", width=image.width, height=image.height)
                check_size(facts, limits, field)
                # A JPEG is read whole either way; scaled decoding saves the memory and most of the arithmetic.
                image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
                image.load()
    except InvalidInput:
        raise
    except Image.DecompressionBombError as error:
        raise too_many_pixels(limits, field) from error
    except UnidentifiedImageError as error:
        raise (truncated(field) if cut else unreadable(field)) from error
    except MemoryError as error:
        raise too_complex("the file takes too much memory to decode", field) from error
    except Exception as error:  # decoders raise anything from OSError to struct.error on hostile files
        raise (truncated(field) if "truncated" in str(error) or cut else unreadable(field)) from error
    if cut:
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


def too_complex(what: str, field: str, **counts: int) -> InvalidInput:
    return InvalidInput(
        "IMAGE_TOO_COMPLEX",
        f"{field}: {what}; save the image anew.",
        field=field,
        metadata={name: str(count) for name, count in counts.items()},
    )


def too_large(size: int, limit: int, field: str) -> InvalidInput:
    return InvalidInput(
        "IMAGE_TOO_LARGE",
        f"{field}: {size:,} bytes are too many; at most {limit:,} are accepted.",
        field=field,
        metadata={"limit": str(limit), "actual": str(size)},
    )


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


Decoder = Callable[[bytes], Facts]
"""Decodes a file; blocks. Raises InvalidInput and Exhausted."""


class Inspection:
    """A child's side of `ChildDecoder`."""

    def __init__(self, limits: ImageLimits) -> None:
        self.limits = limits

    def inspect(self, content: bytes) -> Facts:
        """See the function of this name."""
        return inspect(content, self.limits)


class ChildDecoder:
    """A `Decoder` in child processes, which begin when they are first needed: a file that crashes or holds up a
    decoder ends a child."""

    def __init__(self, limits: ImageLimits) -> None:
        self.pool = ChildPool(
            "inspect",
            "gateway.images:Inspection",
            (limits,),
            size=limits.workers,
            limit=limits.decode_seconds,
            memory=limits.decode_bytes,
            abandon=1.0,
        )

    def __call__(self, content: bytes) -> Facts:
        """Decodes."""
        field = "image.content"
        try:
            facts: Facts = self.pool.call("inspect", content)
        except ChildError as error:
            if error.cause in ("DOWN", "ABANDONED"):
                raise Exhausted("GATEWAY_BUSY", "No decoder is ready; try again shortly.", retry_after=1.0) from error
            if error.cause == "OVERRAN":
                raise too_complex("the file takes too long to decode", field) from error
            raise unreadable(field) from error
        return facts

    def close(self) -> None:
        """Ends the children."""
        self.pool.close()


class Inspector:
    """Has images decoded on a few worker threads, tenants in turn, with a bounded number of images waiting."""

    def __init__(self, limits: ImageLimits, decoder: Decoder | None = None, waiting: int = 64) -> None:
        """`decoder` decodes in this process where none is given."""
        self.decoder = decoder or partial(inspect, limits=limits)
        self.executor = fair.FairExecutor(limits.workers, "inspect", waiting=waiting, each=max(1, waiting // 2))

    async def inspect(self, content: bytes, tenant: str = "") -> Facts:
        """Checks an image fully. Raises InvalidInput, and Exhausted when too many images wait already."""
        token = fair.share.set(tenant)
        try:
            work = asyncio.get_running_loop().run_in_executor(self.executor, self.decoder, content)
        except fair.FullError as error:
            raise Exhausted(
                "GATEWAY_BUSY", "Too many new images at once; try again shortly.", retry_after=1.0
            ) from error
        finally:
            fair.share.reset(token)
        return await work

    def close(self) -> None:
        """Ends the threads."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        if isinstance(self.decoder, ChildDecoder):
            self.decoder.close()
