"""Mean and variance of many samples, cell by cell, without keeping the samples (Welford; merged after Chan et al.)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RunningStatistics:
    """A value: adding a sample or merging gives a new one. Merging is commutative and associative up to rounding.

    Attributes:
        count: (C,) float32: samples in which the cell was seen.
        mean: (C,) float32; 0 where none was.
        squares: (C,) float32: sum of squared distances from the mean.
    """

    count: NDArray[np.float32]
    mean: NDArray[np.float32]
    squares: NDArray[np.float32]

    @classmethod
    def empty(cls, cells: int) -> "RunningStatistics":
        """Of no samples."""
        return cls(*(np.zeros(cells, np.float32) for _ in range(3)))

    @classmethod
    def of(cls, sample: NDArray[np.float32], seen: NDArray[np.bool_]) -> "RunningStatistics":
        """Of one sample (C,), where it was seen (C,)."""
        return cls(seen.astype(np.float32), np.where(seen, sample, 0).astype(np.float32), np.zeros_like(sample))

    def merge(self, other: "RunningStatistics") -> "RunningStatistics":
        """Of the samples of both."""
        count = self.count + other.count
        share = np.divide(other.count, count, out=np.zeros_like(count), where=count > 0)
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * self.count * share
        return RunningStatistics(count, self.mean + apart * share, squares)

    def variance(self) -> NDArray[np.float32]:
        """(C,) float32: population variance; 0 where nothing was seen."""
        return np.divide(self.squares, self.count, out=np.zeros_like(self.squares), where=self.count > 0)

    @property
    def samples(self) -> int:
        """How many samples there are, those that show only a part of the cells included."""
        return int(self.count.max(initial=0))
