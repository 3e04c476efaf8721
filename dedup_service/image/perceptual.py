"""Perceptual hash: finds re-encoded and resized copies in microseconds, and proves nothing about documents."""

import cv2
import imagehash
import numpy as np
from PIL import Image

from dedup_service.image.picture import Picture, fit_within

# 16 x 16 DCT signs: the 256 bits of row C1. One-digit edits keep distance 0 (measured), so a small distance names a
# candidate and never a match.
HASH_SIDE = 16


def perceptual_hash(picture: Picture) -> bytes:
    """256-bit pHash (ImageHash `phash`, `hash_size=16`) of the upright picture, 32 bytes."""
    return _hash(_small_grey(picture))


def turned_hashes(picture: Picture) -> tuple[bytes, ...]:
    """The hashes of the picture turned counter-clockwise by 0, 90, 180 and 270 degrees."""
    grey = _small_grey(picture)
    return tuple(_hash(np.rot90(grey, turn)) for turn in range(4))


def hamming(a: bytes, b: bytes) -> int:
    """Number of differing bits of two hashes of equal length (0..256).

    Raises:
        ValueError: the lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"hashes of {len(a)} and {len(b)} bytes can't be compared")
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count()


def _small_grey(picture: Picture) -> np.ndarray:
    # 256 px by area first: the hash looks at 64 px, and a full-size Lanczos pass over 12 MP would cost 50 ms.
    return np.asarray(cv2.cvtColor(fit_within(picture.rgb, side=256), cv2.COLOR_RGB2GRAY))


def _hash(grey: np.ndarray) -> bytes:
    bits = imagehash.phash(Image.fromarray(np.ascontiguousarray(grey)), hash_size=HASH_SIDE).hash
    return np.packbits(bits.ravel()).tobytes()
