"""Image encoders: a vector per picture, by which likely copies are found among the stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dedup_service.image.picture import Picture


class ImageEncoder(Protocol):
    """Turns pictures into unit vectors. Vectors of encoders with different identities must never be compared."""

    @property
    def identity(self) -> str:
        """Names encoder, weights and version; part of the collection's name. Stable across processes."""
        ...

    @property
    def dimension(self) -> int:
        """Length D of each vector."""
        ...

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """(N, D) float32, each row of length 1, in the order given. N = 0 gives (0, D). Blocks: call from a thread."""
        ...

    def encode_turns(self, picture: Picture) -> NDArray[np.float32]:
        """(4, D): the picture turned counter-clockwise by 0, 90, 180, 270 degrees. Row 0 equals `encode`'s.

        Stored vectors are of pictures as given; a query asks with all four turns, so a turned copy is found.
        """
        ...

    def close(self) -> None:
        """Releases threads and memory. Further calls raise RuntimeError."""
        ...


class EncoderUnavailable(Exception):  # noqa: N818 -- a state, not a mistake
    """The named encoder can't be loaded.

    Attributes:
        reason: ENCODER_UNKNOWN (no such kind), ENCODER_NOT_INSTALLED (a package is missing) or ENCODER_LOAD_FAILED.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[EncoderUnavailable], tuple[str, str]]:
        """Survives the way from a child process with its reason."""
        return type(self), (self.reason, str(self))
