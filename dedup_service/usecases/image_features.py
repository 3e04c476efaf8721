"""What is computed from an image's pixels, once per look-up and off the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from askonce.image_header import HeaderError, kind_of, read_header
from dedup_service.image.encoder import ImageEncoder
from dedup_service.image.fingerprint import Fingerprint, take_fingerprint
from dedup_service.image.keypoints import NO_KEYPOINTS, Keypoints, Matrix, find_keypoints
from dedup_service.image.local_descriptor import describe
from dedup_service.image.lookalike import ImageVerdict, compare
from dedup_service.image.perceptual import turned_hashes
from dedup_service.image.picture import Picture, PictureError, open_picture
from dedup_service.image.sequence import (
    PageFingerprints,
    digest_of,
    join_hashes,
    join_vectors,
    mark_of,
    pages_of,
)
from dedup_service.store.records import Vector


@dataclass(frozen=True, slots=True)
class Features:
    """One image as the search and the look-alike check need it."""

    byte_digest: str
    pixel_digest: str
    width: int
    height: int
    hashes: tuple[bytes, ...]
    """Perceptual hashes of the image and of its three quarter turns."""
    vectors: Vector
    """Shape (4, D): descriptors of the image and of its three quarter turns."""
    fingerprint: Fingerprint | PageFingerprints
    keypoints: Keypoints
    """In pixels of the fingerprint's rendering; none of a sequence of images."""
    local: Vector
    """Shape (256,): the local descriptor."""
    marks: tuple[str, ...] = ()
    """Of a sequence of images: under which digests its files are found in it, see `sequence.mark_of`."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An image that could be decoded."""

    byte_digest: str
    pixel_digest: str
    content: bytes = field(repr=False)


class ImageWork(Protocol):
    """The parts of looking at an image that run in native code. Blocking and CPU-heavy: for worker threads."""

    def open(self, content: bytes) -> Opened:
        """Checks and decodes a file. Raises PictureError."""
        ...

    def extract(self, opened: Opened) -> Features:
        """Computes all features. Raises PictureError."""
        ...

    def compare(self, stored: bytes | Fingerprint, query: Fingerprint, guess: Matrix | None = None) -> ImageVerdict:
        """The look-alike check; `guess` maps pixels of the stored rendering to the query's. Whatever it raises means
        that it could not be made."""
        ...

    def pack(self, fingerprint: Fingerprint) -> bytes:
        """A fingerprint as it is stored."""
        ...


class LocalImageWork:
    """Implements `ImageWork` in this process."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder = encoder
        self.last: Picture | None = None
        """The picture that was opened last: its features are likely to be asked for next."""

    def open(self, content: bytes) -> Opened:
        """See `ImageWork`. What a header tells is checked before a decoder sees the file."""
        picture = self.last = open_checked(content)
        return Opened(picture.byte_digest.hex(), picture.pixel_digest.hex(), content)

    def extract(self, opened: Opened) -> Features:
        """See `ImageWork`."""
        picture = self.last
        if picture is None or picture.byte_digest.hex() != opened.byte_digest:
            picture = open_checked(opened.content)
        return extract(picture, self.encoder)

    def compare(self, stored: bytes | Fingerprint, query: Fingerprint, guess: Matrix | None = None) -> ImageVerdict:
        """See `ImageWork`."""
        return compare(Fingerprint.from_bytes(stored) if isinstance(stored, bytes) else stored, query, guess=guess)

    def pack(self, fingerprint: Fingerprint) -> bytes:
        """See `ImageWork`."""
        return fingerprint.to_bytes()


def open_checked(content: bytes) -> Picture:
    """Decodes a file whose header promises no more work than can be afforded. Raises PictureError."""
    if kind_of(content) is not None:
        try:
            read_header(content)
        except HeaderError as error:
            raise PictureError(error.reason, str(error)) from error
    try:
        return open_picture(content)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise PictureError("IMAGE_UNREADABLE", "the image can't be decoded") from error


def extract(picture: Picture, encoder: ImageEncoder) -> Features:
    """Computes all features of a picture. CPU-heavy: call it in a worker thread."""
    fingerprint = take_fingerprint(picture)
    keypoints = find_keypoints(grey_of(fingerprint))
    return Features(
        byte_digest=picture.byte_digest.hex(),
        pixel_digest=picture.pixel_digest.hex(),
        width=picture.width,
        height=picture.height,
        hashes=turned_hashes(picture),
        vectors=encoder.encode_turns(picture),
        fingerprint=fingerprint,
        keypoints=keypoints,
        local=describe(keypoints),
    )


def join(parts: Sequence[Features]) -> Features:
    """The features of several pictures in order, as those of one."""
    files = [bytes.fromhex(part.byte_digest) for part in parts]
    return replace(
        parts[0],
        byte_digest=digest_of(files).hex(),
        pixel_digest=digest_of([bytes.fromhex(part.pixel_digest) for part in parts]).hex(),
        hashes=tuple(join_hashes(turned) for turned in zip(*(part.hashes for part in parts), strict=True)),
        vectors=join_vectors([part.vectors for part in parts]),
        fingerprint=PageFingerprints(tuple(page for part in parts for page in pages_of(part.fingerprint))),
        keypoints=NO_KEYPOINTS,
        local=describe(NO_KEYPOINTS),
        marks=tuple(dict.fromkeys(mark_of(file) for file in files)),
    )


def grey_of(fingerprint: Fingerprint) -> NDArray[np.uint8]:
    """Brightness of a fingerprint's rendering, (H, W)."""
    return np.asarray(cv2.cvtColor(fingerprint.rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
