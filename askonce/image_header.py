"""What a JPEG, PNG or WebP file says of itself, and whether decoding it can be afforded: read before any decoder is.

A small file can hold work for minutes: thousands of scans, chunks or frames, metadata that unpacks a thousandfold or
names the same bytes again and again. Every count is bounded here. The gateway and dedup ask the same; nothing but the
standard library is needed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["JPEG", "PNG", "WEBP"]

SCANS: Final = 100
"""Most scans of a JPEG; cameras and encoders make 1 to about 20. Each costs up to a pass over all pixels."""
SCANNED_PIXELS: Final = 500_000_000
"""Most scans times pixels: a picture of 40 megapixels in 12 scans passes."""
SEGMENTS: Final = 4_096
"""Most segments of a JPEG outside its scans' data, and most chunks of a WebP file."""
CHUNKS: Final = 20_000
"""Most chunks of a PNG: encoders put 8 kB or more into one, the largest accepted file has 640 such."""
PACKED_TEXTS: Final = 64
"""Most compressed texts and profiles of a PNG; each may unpack to a megabyte."""
FRAMES: Final = 1_000
"""Most frames of an animation. The first is shown; some decoders look at all."""
EXIF_BYTES: Final = 1 << 20
"""Most bytes of EXIF data, and of all that its first directory names together, though parts may overlap."""
EXIF_ENTRIES: Final = 2_000
"""Most entries of EXIF's first directory."""

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
"""Bytes of one value of each TIFF type."""


class HeaderError(Exception):
    """The file must not be decoded. `reason` is IMAGE_TOO_COMPLEX or IMAGE_TRUNCATED; `what` names what there is too
    much of, with `actual` (as far as it was counted) and `limit`."""

    def __init__(self, reason: str, what: str = "", actual: int = 0, limit: int = 0) -> None:
        super().__init__(reason, what, actual, limit)
        self.reason = reason
        self.what = what
        self.actual = actual
        self.limit = limit

    def __str__(self) -> str:
        if not self.what:
            return "the file ends too early"
        return f"the file has {self.actual} {self.what}; at most {self.limit} are accepted"


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says; sizes are 0 where the decoder has to find them."""

    kind: Kind
    width: int = 0
    height: int = 0
    passes: int = 1
    """Scans of a JPEG, frames of an animation."""


def kind_of(content: bytes) -> Kind | None:
    """The format that the first bytes announce."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return None


def read_header(content: bytes) -> Header:
    """Reads a file's structure, in a few milliseconds at most. Raises HeaderError, and ValueError for another format.

    What is odd without being costly is left to the decoder, which takes more than the standards say.
    """
    kind = kind_of(content)
    if kind is None:
        raise ValueError("neither JPEG, PNG nor WebP")
    return {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}[kind](content)


def _bound(actual: int, limit: int, what: str) -> None:
    if actual > limit:
        raise HeaderError("IMAGE_TOO_COMPLEX", what, actual, limit)


def _jpeg(content: bytes) -> Header:
    width = height = scans = segments = 0
    at, exif = 2, bytearray()
    while True:
        found = _MARKER.search(content, at)
        if found is None:
            if not height:  # no picture has begun: not cut, but something else
                return Header("JPEG")
            raise HeaderError("IMAGE_TRUNCATED")
        segments += 1
        _bound(segments, SEGMENTS + SCANS, "segments")
        marker, at = content[found.start() + 1], found.end()
        if marker == 0xD9:
            break
        if marker == 0x01 or marker == 0xD8:
            continue
        length = int.from_bytes(content[at : at + 2])
        body = content[at + 2 : at + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 5:
            height, width = struct.unpack_from(">HH", body, 1)
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]
            _bound(len(exif), EXIF_BYTES, "bytes of EXIF")
        elif marker == 0xDA:
            scans += 1
            _bound(scans, SCANS, "scans")
            _bound(scans * width * height, SCANNED_PIXELS, "pixels in all scans")
        at += max(2, length)
    _exif(bytes(exif))
    return Header("JPEG", width, height, max(1, scans))


def _png(content: bytes) -> Header:
    width = height = texts = frames = 0
    ended = False
    for number, (name, start, length) in enumerate(_chunks(content, 8, ">I4s", trailer=4)):
        _bound(number + 1, CHUNKS, "chunks")
        if number == 0:
            if name != b"IHDR":  # not cut, but something else
                return Header("PNG")
            if start + 8 > len(content):
                break
            width, height = struct.unpack_from(">II", content, start)
        elif name in (b"zTXt", b"iTXt", b"iCCP"):
            texts += 1
            _bound(texts, PACKED_TEXTS, "compressed texts")
        elif name == b"fcTL":
            frames += 1
            _bound(frames, FRAMES, "frames")
        elif name == b"eXIf":
            _bound(length, EXIF_BYTES, "bytes of EXIF")
            _exif(content[start : start + length])
        elif name == b"IEND":
            ended = True
            break
    if not ended:
        raise HeaderError("IMAGE_TRUNCATED")
    return Header("PNG", width, height, max(1, frames))


def _webp(content: bytes) -> Header:
    if len(content) < 8 + int.from_bytes(content[4:8], "little"):
        raise HeaderError("IMAGE_TRUNCATED")
    width = height = frames = 0
    for number, (name, start, length) in enumerate(_chunks(content, 12, "<4sI", even=True)):
        _bound(number + 1, SEGMENTS, "chunks")
        body = content[start : start + min(length, 16)]
        if name == b"VP8X" and len(body) >= 10:
            width = int.from_bytes(body[4:7], "little") + 1
            height = int.from_bytes(body[7:10], "little") + 1
        elif name == b"VP8 " and len(body) >= 10 and not width:
            width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", body, 6))
        elif name == b"VP8L" and len(body) >= 5 and not width:
            bits = int.from_bytes(body[1:5], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"ANMF":
            frames += 1
            _bound(frames, FRAMES, "frames")
        elif name == b"EXIF":
            _bound(length, EXIF_BYTES, "bytes of EXIF")
            _exif(content[start : start + length].removeprefix(b"Exif\0\0"))
    return Header("WEBP", width, height, max(1, frames))


def _chunks(
    content: bytes, at: int, head: str, *, trailer: int = 0, even: bool = False
) -> Iterator[tuple[bytes, int, int]]:
    """Yields (name, start, length) of each chunk that begins within the file."""
    layout = struct.Struct(head)
    while at + layout.size <= len(content):
        one, other = layout.unpack_from(content, at)
        name, length = (one, other) if isinstance(one, bytes) else (other, one)
        at += layout.size
        yield name, at, length
        at += length + trailer + (length & 1 if even else 0)


def _exif(data: bytes) -> None:
    """Bounds what a reader of EXIF's first directory would copy."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    if at + 2 > len(data):
        return
    (entries,) = struct.unpack_from(f"{order}H", data, at)
    _bound(entries, EXIF_ENTRIES, "entries of EXIF")
    total = 0
    for number in range(entries):
        place = at + 2 + 12 * number
        if place + 12 > len(data):
            return
        _, kind, count = struct.unpack_from(f"{order}HHI", data, place)
        total += min(len(data), count * _TYPE_BYTES.get(kind, 1))
    _bound(total, EXIF_BYTES, "bytes named by EXIF")
