"""The pair model: from the features of two questions to the log-odds that they ask the same.

Two parts, trained on pairs that people labelled (`python -m benchmarks.train_pair_model`) and shipped as plain arrays
in `pair_model.npz`: a linear projection of the encoder's vectors, in which wordings of one question lie closer than the
encoder puts them, and a sum of small regression trees over the features (`features.FEATURES`) and the projected cosine.
Trees are monotone where they must be: more alike never scores less. NumPy alone is needed to use it.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

from dedup_service.question.features import FEATURES


@dataclass(frozen=True)
class Trees:
    """Regression trees of one depth-first layout each, padded to N nodes; T trees. A leaf's children are itself."""

    feature: NDArray[np.int16]
    """(T, N): the feature that a node asks about."""
    threshold: NDArray[np.float32]
    """(T, N): values up to it go left."""
    missing_left: NDArray[np.bool_]
    """(T, N): whether a missing value goes left."""
    left: NDArray[np.int16]
    """(T, N)."""
    right: NDArray[np.int16]
    """(T, N)."""
    value: NDArray[np.float32]
    """(T, N): what a leaf adds."""
    depth: int
    base: float

    def log_odds(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over all trees for feature rows of shape (R, F); shape (R,)."""
        trees = np.arange(len(self.feature))[None, :]
        node = np.zeros((len(rows), len(self.feature)), np.int64)
        for _ in range(self.depth):
            seen = np.take_along_axis(rows, self.feature[trees, node].astype(np.int64), axis=1)
            low = np.where(np.isnan(seen), self.missing_left[trees, node], seen <= self.threshold[trees, node])
            node = np.where(low, self.left[trees, node], self.right[trees, node]).astype(np.int64)
        return np.asarray(self.base + self.value[trees, node].sum(axis=1), np.float64)


@dataclass(frozen=True)
class PairModel:
    """The shipped model. ``encoder`` is the identity of the encoder whose vectors the projection was trained on; with
    any other the cosine counts as missing."""

    encoder: str
    mean: NDArray[np.float32]
    """(D,): the centre of the encoder's vectors."""
    projection: NDArray[np.float32]
    """(D, K)."""
    trees: Trees

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Projects vectors of shape (R, D) to unit vectors of shape (R, K)."""
        rows = (vectors - self.mean) @ self.projection
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, 1e-9), np.float32)

    def log_odds(self, features: NDArray[np.float64]) -> float:
        """The log-odds for one pair's features, shape (len(FEATURES),)."""
        return float(self.trees.log_odds(features[None, :])[0])


class PairModelError(ValueError):
    """The file was made for other features than these; the message says so."""


@lru_cache(maxsize=1)
def shipped_model() -> PairModel:
    """The model that comes with the service, read once. Raises PairModelError."""
    with as_file(files("dedup_service.question").joinpath("pair_model.npz")) as path, np.load(path) as stored:
        if tuple(str(name) for name in stored["features"]) != tuple(FEATURES):
            raise PairModelError("pair_model.npz was trained on other features: run benchmarks.train_pair_model")
        trees = Trees(
            feature=stored["feature"],
            threshold=stored["threshold"],
            missing_left=stored["missing_left"],
            left=stored["left"],
            right=stored["right"],
            value=stored["value"],
            depth=int(stored["depth"]),
            base=float(stored["base"]),
        )
        return PairModel(str(stored["encoder"]), stored["mean"], stored["projection"].astype(np.float32), trees)
