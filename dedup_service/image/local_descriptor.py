"""One vector for all local features of an image: finds copies inside a frame or turned, which whole images hide.

A vector of locally aggregated descriptors (VLAD, Jegou et al. 2010). The vocabulary needs no training: three bits of
an ORB descriptor choose one of eight words, and the descriptors of each word are summed.
"""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dedup_service.image.keypoints import Keypoints

DIMENSION = 256
_BITS = 256
_CHOOSING = (3, 10, 17)
_WORDS = 2 ** len(_CHOOSING)


def describe(keypoints: Keypoints) -> NDArray[np.float32]:
    """(256,) float32 of length 1; the same for an image turned by any angle. About 1 ms."""
    signs = np.unpackbits(keypoints.described, axis=1).astype(np.float32) * 2 - 1
    word = (signs[:, _CHOOSING] > 0) @ (2 ** np.arange(len(_CHOOSING)))
    sums = np.stack([signs[word == one].sum(axis=0) / max(1.0, (word == one).sum()) ** 0.5 for one in range(_WORDS)])
    flat = sums.ravel()
    vector = signs_of("local descriptor", DIMENSION, _WORDS * _BITS) @ (np.sign(flat) * np.sqrt(np.abs(flat)))
    length = float(np.linalg.norm(vector))
    if length < 1e-6:  # nothing to be seen: all such images are alike
        vector[0] = length = 1.0
    return np.asarray(vector / length, dtype=np.float32)


@cache
def signs_of(purpose: str, rows: int, columns: int) -> NDArray[np.float32]:
    """(rows, columns) of +1 and -1, drawn once and for all for a purpose: the same on every machine and in every
    release. A random projection by them keeps distances (Achlioptas 2003)."""
    bits = np.frombuffer(hashlib.shake_256(purpose.encode()).digest(rows * columns // 8 + 1), np.uint8)
    signs = np.unpackbits(bits)[: rows * columns].reshape(rows, columns).astype(np.float32) * 2 - 1
    return np.asarray(signs / rows**0.5, dtype=np.float32)
