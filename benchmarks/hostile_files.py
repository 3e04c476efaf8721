"""Image files, honest and hostile, for the tests of whatever decodes them and for `benchmarks.hostile`."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw


def page(width: int = 320, height: int = 240, mode: str = "RGB") -> Image.Image:
    """A small page with text on it."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for line in range(8):
        pen.text((12, 12 + 26 * line), f"ITEM {line} ..... {line * 7}.40", fill="black")
    return image.convert(mode)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file of a picture."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def many_scans(count: int, width: int = 320, height: int = 240) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = encode(page(width, height), "JPEG", quality=80, progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * count + whole[-2:]


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(*chunks: bytes, base: bytes | None = None) -> bytes:
    """A PNG with chunks behind its header."""
    whole = base or encode(page(), "PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def text_bomb(count: int) -> bytes:
    """A PNG with compressed texts that unpack to just under a megabyte each."""
    packed = zlib.compress(b"\0" * 1_040_000, 9)
    return png_with(*(chunk(b"zTXt", b"k%d\0\0" % number + packed) for number in range(count)))


def profile_bomb() -> bytes:
    """A PNG whose colour profile unpacks to 64 MiB."""
    return png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * (64 << 20), 9)))


def exif_bomb(entries: int, size: int) -> bytes:
    """EXIF whose entries all name the same bytes."""
    head = b"MM\0*\0\0\0\x08" + struct.pack(">H", entries)
    body = b"".join(struct.pack(">HHII", 0x9000 + number, 7, size, 8) for number in range(entries))
    return head + body + b"\0" * 4 + b"\0" * size


def jpeg_with_exif(exif: bytes) -> bytes:
    """A JPEG with this EXIF, in as many segments as it takes."""
    whole = encode(page(), "JPEG", quality=80)
    parts = [exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return whole[:2] + segments + whole[2:]


def webp_frames(count: int) -> bytes:
    """An animated WebP whose last frame comes again and again."""
    whole = encode(page(64, 64), "WEBP", save_all=True, append_images=[page(64, 64, "L").convert("RGB").rotate(90)])
    at = whole.rindex(b"ANMF")
    size = 8 + int.from_bytes(whole[at + 4 : at + 8], "little")
    longer = whole + whole[at : at + size] * count
    return longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]


def bombs() -> dict[str, bytes]:
    """One file of each costly kind, by what there is too much of."""
    return {
        "scans": many_scans(300),
        "scans of a large picture": many_scans(60, 4_000, 3_000),
        "compressed texts": text_bomb(90),
        "tiny chunks": png_with(*[chunk(b"tEXt", b"k\0")] * 25_000),
        "EXIF that names the same bytes": jpeg_with_exif(exif_bomb(1_500, 60_000)),
        "EXIF entries": png_with(chunk(b"eXIf", exif_bomb(3_000, 8))),
        "frames": webp_frames(1_200),
        "segments": encode(page(), "JPEG")[:2] + b"\xff\xfe\0\x02" * 9_000 + encode(page(), "JPEG")[2:],
    }


def honest() -> dict[str, bytes]:
    """Files as cameras, scanners and programs make them."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2024:03:12 10:00:00"
    thumbnail = encode(page(96, 72), "JPEG")
    jpeg = encode(page(), "JPEG", quality=90)
    holder = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail
    return {
        "jpeg": jpeg,
        "progressive": encode(page(), "JPEG", quality=90, progressive=True),
        "grey": encode(page(mode="L"), "JPEG"),
        "cmyk": encode(page(mode="CMYK"), "JPEG"),
        "exif": encode(page(), "JPEG", exif=exif),
        "thumbnail": jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(holder) + 2) + holder + jpeg[2:],
        "trailing bytes": jpeg + b"MotionPhoto_Data" + bytes(5_000),
        "restart markers": encode(page(), "JPEG", restart_marker_rows=1),
        "png": encode(page(), "PNG"),
        "palette": encode(page(mode="P"), "PNG"),
        "alpha": encode(page(mode="RGBA"), "PNG"),
        "png exif": encode(page(), "PNG", exif=exif),
        "apng": encode(page(), "PNG", save_all=True, append_images=[page(mode="L").convert("RGB").rotate(180)]),
        "webp": encode(page(), "WEBP"),
        "lossless": encode(page(), "WEBP", lossless=True),
        "animated": encode(page(), "WEBP", save_all=True, append_images=[page().rotate(180)]),
        "webp exif": encode(page(), "WEBP", exif=exif),
    }


def damaged(count: int, seed: int = 0) -> Iterator[bytes]:
    """Honest files with flipped bytes, cut, doubled or shuffled somewhere."""
    chance = random.Random(seed)
    files = list(honest().values())
    for at in range(count):
        file = bytearray(files[at % len(files)])
        match chance.randrange(4):
            case 0:
                for _ in range(chance.choice((1, 5, 60))):
                    file[chance.randrange(len(file))] = chance.randrange(256)
            case 1:
                del file[chance.randrange(8, len(file)) :]
            case 2:
                start = chance.randrange(len(file))
                file[start:start] = file[start : start + chance.randrange(1, 4_000)]
            case _:
                start = chance.randrange(len(file))
                file[start : start + 200] = chance.randbytes(200)
        yield bytes(file)
