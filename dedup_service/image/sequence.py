"""Several images in order as one: the pages of a document, or pictures that a question compares.

A sequence is the same as another when it has as many images and every one is the same, in the same order. It is found
and kept like a single image, so everything here puts the parts of several together: digests, perceptual hashes,
descriptors, fingerprints. What is put together of several never meets what belongs to one, or to another number.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.fingerprint import Fingerprint
from dedup_service.image.lookalike import ImageVerdict
from dedup_service.image.picture import fit_within

_MAGIC = b"AOSQ"
_COUNT = struct.Struct("<4sB")
_LENGTH = struct.Struct("<I")
MOST = 255
"""Images in a sequence at the most; services accept fewer."""
SHEET_SIDE = 384
"""Pixels of the longer side of one image on the contact sheet."""


def digest_of(digests: Sequence[bytes]) -> bytes:
    """The digest of a sequence from those of its parts, 32 bytes each; 32 bytes. One part's is its own."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(b"askonce sequence\0" + b"".join(digests)).digest()


def mark_of(byte_digest: bytes) -> str:
    """Under which digest, hexadecimal, a sequence says that it holds a file: not the file's own, which would name the
    sequence as that single image."""
    return hashlib.sha256(b"askonce page\0" + byte_digest).hexdigest()


def join_hashes(pages: Sequence[bytes]) -> bytes:
    """One perceptual hash of several of equal length.

    Every page gives an equal share of the bits, taken from all over its hash, so that copies stay near and another page
    anywhere makes a distance. A mask that depends on the number keeps sequences of different lengths apart.
    """
    bits = np.stack([np.unpackbits(np.frombuffer(page, np.uint8)) for page in pages])
    places = np.arange(bits.shape[1])
    mask = hashlib.shake_128(b"askonce sequence\0" + bytes([len(pages)])).digest(len(pages[0]))
    joined = np.packbits(bits[places % len(pages), places]).tobytes()
    return bytes(one ^ other for one, other in zip(joined, mask, strict=True))


def join_vectors(pages: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One descriptor of several of unit length, shape (D,) or (T, D) each; of unit length as well.

    The signs of each page's are changed by its place and the number of pages, then all are added: the cosine of two
    sequences is about the mean of the cosines of their pages, and about 0 for sequences of another length.
    """
    count, dimension = len(pages), pages[0].shape[-1]
    signs = np.random.default_rng((7, count)).choice(np.array([-1.0, 1.0], np.float32), (count, dimension))
    total = np.sum([page * signs[place] for place, page in enumerate(pages)], axis=0, dtype=np.float32)
    lengths = np.linalg.norm(total, axis=-1, keepdims=True)
    return np.asarray(total / np.maximum(lengths, 1e-12), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PageFingerprints:
    """The fingerprints of a sequence's images, in order."""

    pages: tuple[Fingerprint, ...]

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """All images side by side, (H, W, 3), for people to look at."""
        small = [fit_within(page.rgb, side=SHEET_SIDE) for page in self.pages]
        height = max(page.shape[0] for page in small)
        padded = [
            cv2.copyMakeBorder(page, 0, height - page.shape[0], 0, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
            for page in small
        ]
        return np.asarray(np.hstack(padded), dtype=np.uint8)


def join_packed(pages: Sequence[bytes]) -> bytes:
    """Fingerprints of several images, as each is stored, in one."""
    return _COUNT.pack(_MAGIC, len(pages)) + b"".join(_LENGTH.pack(len(page)) + page for page in pages)


def split_packed(stored: bytes) -> list[bytes]:
    """The stored fingerprint of each image; of a single image its own. Raises ValueError for a damaged one."""
    if not stored.startswith(_MAGIC):
        return [stored]
    try:
        _, count = _COUNT.unpack_from(stored)
        at, pages = _COUNT.size, []
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(stored, at)
            at += _LENGTH.size
            pages.append(stored[at : at + length])
            at += length
    except struct.error as error:
        raise ValueError("a damaged fingerprint of several images") from error
    if at != len(stored):
        raise ValueError("a damaged fingerprint of several images")
    return pages


def pages_of(fingerprint: Fingerprint | PageFingerprints) -> tuple[Fingerprint, ...]:
    """The fingerprints of all images, one for a single image."""
    return fingerprint.pages if isinstance(fingerprint, PageFingerprints) else (fingerprint,)


ANOTHER_COUNT = ImageVerdict("different", np.inf, 0.0, "PAGE_COUNT", box=None, turn=0, ms=0.0)
"""The verdict on sequences of different lengths, and on a sequence and a single image."""


def together(verdicts: Sequence[ImageVerdict]) -> ImageVerdict:
    """One verdict for the images of two sequences, compared place by place: that of the least certain."""
    least = min(verdicts, key=lambda verdict: verdict.same_probability)
    return replace(least, images=len(verdicts), ms=sum(verdict.ms for verdict in verdicts))
