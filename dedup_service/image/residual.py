"""What sets an image apart from others of its form: ink per cell in the form's frame, less what all of them share."""

import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.local_descriptor import signs_of
from dedup_service.image.registration import warp
from dedup_service.image.running_statistics import RunningStatistics

Matrix = NDArray[np.floating[Any]]

DIMENSION = 256
"""Length of a residual vector."""
CELL = 10
"""Side of a cell in pixels of the frame: about one character."""
MOST_CELLS = 8192
_SIDE = 1000
# Paper is what a wide mean sees, pixels of the frame.
_PAPER = 61
_SOFT = 1.5
# A cell counts as seen where the image covers nearly all of it.
_COVERED = 200
# Paper beside a dark thing is lighter than its surroundings; nothing but a photo's shadow is much darker than print.
_INK = (-1.0, 5.0)
# Ink is stored in steps of 1/24 of its root mean square, from -2 to 8.
_STEP, _ZERO, _UNSEEN = 24.0, 48, 255
# So many samples' worth of trust in "every cell varies alike", which is all that is known of a new form.
_PRIOR = 16.0
# The cells that vary most (this percentile) set the scale against which a cell's variance is small or large.
_BUSY = 95


@dataclass(frozen=True, slots=True)
class Frame:
    """The coordinates that images of one form are moved to: width and height in pixels, 1,000 at most."""

    width: int
    height: int

    @property
    def grid(self) -> tuple[int, int]:
        """Cells across and down."""
        return max(1, self.width // CELL), max(1, self.height // CELL)

    @property
    def cells(self) -> int:
        """Number of cells."""
        across, down = self.grid
        return across * down


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """One image in a frame.

    Attributes:
        ink: (C,) float32: how much darker than its paper each cell is, in root mean squares of all that are seen;
            row by row.
        seen: (C,) bool: which cells the image covers.
    """

    ink: NDArray[np.float32]
    seen: NDArray[np.bool_]

    def to_bytes(self) -> bytes:
        """A byte a cell, compressed: 1 to 4 kB."""
        steps = np.clip(np.round(self.ink * _STEP) + _ZERO, 0, _UNSEEN - 1)
        return zlib.compress(np.where(self.seen, steps, _UNSEEN).astype(np.uint8).tobytes(), 6)

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Cells":
        """Read what `to_bytes` wrote. Raises ValueError for anything else."""
        try:
            steps = np.frombuffer(zlib.decompress(stored), np.uint8)
        except zlib.error as error:
            raise ValueError("these cells can't be read") from error
        seen = steps != _UNSEEN
        return cls(np.where(seen, (steps.astype(np.float32) - _ZERO) / _STEP, 0).astype(np.float32), seen)


def frame_of(width: int, height: int) -> tuple[Frame, Matrix]:
    """The frame that an image of this size founds, and the map (3 x 3) of its pixels to the frame's."""
    scale = min(_SIDE / max(width, height), CELL * (MOST_CELLS / (width * height)) ** 0.5)
    frame = Frame(max(CELL, int(width * scale)), max(CELL, int(height * scale)))
    x, y = frame.width / width, frame.height / height
    return frame, np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])


def cells_of(grey: NDArray[np.uint8], matrix: Matrix, frame: Frame) -> Cells:
    """An image's ink in a frame. About 5 ms.

    Args:
        grey: (H, W) uint8.
        matrix: 3 x 3, pixels of the image to pixels of the frame.
        frame: the form's.
    """
    shape = (frame.height, frame.width)
    moved = warp(grey, matrix, shape, fast=True).astype(np.float32)
    ink = cv2.blur(moved, (_PAPER, _PAPER), borderType=cv2.BORDER_REFLECT) - moved
    per_cell = cv2.resize(cv2.GaussianBlur(ink, (0, 0), _SOFT), frame.grid, interpolation=cv2.INTER_AREA)
    full = np.full(grey.shape, 255, np.uint8)
    size = (frame.width, frame.height)
    covered = cv2.warpAffine(full, matrix[:2], size, flags=cv2.INTER_NEAREST, borderValue=0)
    inside = cv2.resize(covered, frame.grid, interpolation=cv2.INTER_AREA) > _COVERED
    # The outermost cells may show what lies around a copy, such as the frame of a screenshot.
    inside[[0, -1]] = inside[:, [0, -1]] = False
    seen = inside.ravel()
    flat = np.asarray(per_cell, np.float32).ravel()
    strength = float(np.sqrt((np.clip(flat[seen], 0, None) ** 2).mean())) if seen.any() else 0.0
    return Cells(np.where(seen, np.clip(flat / max(strength, 0.5), *_INK), 0).astype(np.float32), seen)


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """What makes a residual vector out of cells. Vectors of two projections must never be compared.

    Attributes:
        key: names it; unique.
        samples: how many images it was learnt from.
        mean: (C,) float32: what all images of the form share.
        weight: (C,) float32: how telling a cell is.
    """

    key: str
    samples: int
    mean: NDArray[np.float32]
    weight: NDArray[np.float32]

    def apply(self, cells: Cells) -> NDArray[np.float32]:
        """(256,) float32 of length 1."""
        weighted = np.where(cells.seen, (cells.ink - self.mean) * self.weight, 0).astype(np.float32)
        vector = signs_of("residual", DIMENSION, MOST_CELLS)[:, : len(weighted)] @ weighted
        length = float(np.linalg.norm(vector))
        if length < 1e-6:
            vector[0] = length = 1.0
        return np.asarray(vector / length, dtype=np.float32)


def learn(statistics: RunningStatistics, key: str) -> Projection:
    """The projection for what is known of a form.

    A cell's deviation is divided by how much it usually varies, so that a date counts as much as a wide name. Cells
    that hardly vary count little, for what is seen there is noise of scanning and of codecs. Of few samples little is
    believed: then all cells count alike.
    """
    count = statistics.count
    variance = statistics.variance()
    usual = float(variance[count > 1].mean()) if (count > 1).any() else 1.0
    variance = (variance * count + usual * _PRIOR) / (count + _PRIOR)
    busy = max(float(np.percentile(variance, _BUSY)), 1e-4)
    weight = np.sqrt(variance * busy) / (variance + busy)
    return Projection(key, statistics.samples, statistics.mean, weight.astype(np.float32))
