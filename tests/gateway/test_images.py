"""Files that can't be asked about are refused with the reason; every flavour that decodes is taken."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib

import pytest
from PIL import Image

from askonce.faults import InvalidInput
from benchmarks.hostile_files import many_scans
from gateway.images import ChildDecoder, Inspector
from gateway.settings import ImageLimits
from tests.gateway.doubles import INVALID, Running, refused, request_for
from tests.gateway.pictures import draw, encode, picture

pytestmark = pytest.mark.asyncio(loop_scope="module")


def bomb(side: int = 20_000) -> bytes:
    """A PNG of a few kilobytes that claims side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def animated_gif() -> bytes:
    return encode(draw().convert("P"), "GIF")


LARGE = draw(800, 600)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "IMAGE_EMPTY"),
        (encode(LARGE, "JPEG")[:-3000], "IMAGE_TRUNCATED"),
        (encode(LARGE, "JPEG")[:300], "IMAGE_TRUNCATED"),
        (encode(LARGE, "JPEG")[:-2], "IMAGE_TRUNCATED"),
        (encode(LARGE, "JPEG", progressive=True)[:-3000], "IMAGE_TRUNCATED"),
        (encode(LARGE, "PNG")[:-500], "IMAGE_TRUNCATED"),
        (encode(LARGE, "PNG")[:-12], "IMAGE_TRUNCATED"),
        (encode(LARGE, "PNG")[:20], "IMAGE_TRUNCATED"),
        (encode(LARGE, "WEBP")[:-200], "IMAGE_TRUNCATED"),
        (encode(LARGE, "WEBP", lossless=True)[:-40], "IMAGE_TRUNCATED"),
        (animated_gif(), "IMAGE_TYPE_UNSUPPORTED"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "IMAGE_TYPE_UNSUPPORTED"),
        (b"%PDF-1.7 ...", "PDF_UNREADABLE"),
        (b"just a text named photo.jpg", "IMAGE_TYPE_UNSUPPORTED"),
        (encode(draw(), "BMP"), "IMAGE_TYPE_UNSUPPORTED"),
        (encode(draw(), "TIFF"), "IMAGE_TYPE_UNSUPPORTED"),
        (picture() + bytes(5 * 2**20), "IMAGE_TOO_LARGE"),
        (bomb(), "IMAGE_TOO_MANY_PIXELS"),
        (bomb(8_000), "IMAGE_TOO_MANY_PIXELS"),
        (encode(draw(1, 1)), "IMAGE_TOO_SMALL"),
        (encode(draw(400, 15)), "IMAGE_TOO_SMALL"),
        (encode(draw(3_300, 16)), "IMAGE_ASPECT_UNSUPPORTED"),
        (encode(draw(16, 3_300)), "IMAGE_ASPECT_UNSUPPORTED"),
        (b"\x89PNG\r\n\x1a\n" + b"garbage IEND garbage" * 10, "IMAGE_UNREADABLE"),
        (b"\xff\xd8\xff" + b"garbage\xff\xd9" * 10, "IMAGE_UNREADABLE"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_bad_images(shared: Running, content: bytes, reason: str) -> None:
    """A file that can't be asked about is INVALID_ARGUMENT with the reason why."""
    fault = await refused(shared, request_for(content, "What is it?"))
    assert (fault.code, fault.reason) == (INVALID, reason)
    assert fault.field == "image.content"
    assert fault.message


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(draw(60, 40), "JPEG", exif=exif)


def animated(kind: str) -> bytes:
    buffer = io.BytesIO()
    draw().save(buffer, kind, save_all=True, append_images=[draw(seed=3)], duration=50)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        encode(draw(mode="CMYK"), "JPEG"),
        encode(draw(mode="L"), "JPEG"),
        encode(draw(mode="I;16"), "PNG"),
        encode(draw(mode="P"), "PNG"),
        encode(draw(mode="RGBA"), "PNG"),
        encode(draw(mode="LA"), "PNG"),
        encode(draw(mode="1"), "PNG"),
        encode(draw(mode="RGBA"), "WEBP"),
        animated("WEBP"),
        animated("PNG"),
        rotated(),
        encode(draw(600, 400), "JPEG", progressive=True),
        picture(kind="JPEG") + b"trailing bytes of a camera",
    ],
    ids=["cmyk", "grey", "16bit", "palette", "alpha", "grey-alpha", "1bit", "webp-alpha", "webp-anim", "apng", "exif",
         "progressive", "trailing"],
)  # fmt: skip
async def test_unusual_images_are_taken(shared: Running, content: bytes) -> None:
    """Every flavour that decodes is answered; an animated file stands for its first frame."""
    assert (await shared.ask(content, "What is it?")).answer.text


async def test_costly_files_are_refused_in_no_time(shared: Running) -> None:
    """A file that holds work for seconds is refused with the count and the limit."""
    fault = await refused(shared, request_for(many_scans(300), "What is it?"))
    assert (fault.code, fault.reason) == (INVALID, "IMAGE_TOO_COMPLEX")
    assert fault.metadata["limit"] == "100"


async def test_decoders_are_children() -> None:
    """In a child the same files pass and fail; a decoder over its time is ended and the file refused."""
    decoder = ChildDecoder(ImageLimits(workers=1))
    inspector = Inspector(ImageLimits(workers=1), decoder)
    try:
        assert (await inspector.inspect(encode(LARGE, "PNG"))).width == 800
        with pytest.raises(InvalidInput) as cut:
            await inspector.inspect(encode(LARGE, "PNG")[:-500])
        assert (cut.value.reason, cut.value.field) == ("IMAGE_TRUNCATED", "image.content")
        decoder.pool.limit = 0.02
        with pytest.raises(InvalidInput) as slow:
            await inspector.inspect(many_scans(90, 2_200, 1_700))
        assert slow.value.reason == "IMAGE_TOO_COMPLEX"
    finally:
        await asyncio.to_thread(inspector.close)
