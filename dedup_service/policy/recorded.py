"""Recorded decisions as columns: what previews, suggestions and learning compute with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dedup_service.policy.thresholds import Labelled

RIGHT, WRONG, UNDECIDED, UNLABELLED = 1, 0, -1, -2
"""Values of a label column: the stored answer was right, was wrong, was compared without a verdict, was not
compared."""

FORBIDDEN = (
    "IMAGE_UNKNOWN",
    "IMAGE_LOOKALIKE",
    "IMAGE_UNSURE",
    "QUESTION_UNKNOWN",
    "QUESTION_VETOED",
    "QUESTION_DIFFERENT",
    "NOT_EXACT",
    "IMAGE_BELOW_FLOOR",
    "QUESTION_BELOW_FLOOR",
    "MODE_OFF",
    "BYPASS",
    "REFRESH",
)
"""Reasons of a miss that a change of thresholds can't turn into a hit: the evidence forbids it, the request did, or
there is no evidence."""


@dataclass(frozen=True)
class Recorded:
    """Decisions as columns of one length n, oldest first."""

    id: NDArray[np.bytes_]
    """Decision ids, ASCII."""
    time: NDArray[np.float64]
    """Seconds since the epoch."""
    hit: NDArray[np.bool_]
    """Whether a stored answer was served."""
    would_hit: NDArray[np.bool_]
    """Whether it was served or withheld by SHADOW mode."""
    exact: NDArray[np.bool_]
    """Whether it was the very same request: equal bytes and an equal text. Its stored answer and a fresh one are two
    answers of the model to one request."""
    open: NDArray[np.bool_]
    """Whether thresholds alone stand between this candidate and a hit, or stood and were passed."""
    cross_language: NDArray[np.bool_]
    """Whether the stored question is in another language."""
    image_score: NDArray[np.float64]
    """Probability that the images are the same, 0 to 1; NaN when nothing was compared."""
    question_score: NDArray[np.float64]
    """Probability that the questions ask the same, 0 to 1; NaN when nothing was compared."""
    risk: NDArray[np.float64]
    """Estimated risk of reuse, 0 to 1; NaN when nothing was compared."""
    stratum: NDArray[np.int32]
    """Index into `strata`."""
    strata: tuple[str, ...]
    """Names of the kinds of evidence; the empty name stands for no candidate."""
    pair: NDArray[np.int64]
    """Names the pair that was compared."""
    propensity: NDArray[np.float64]
    """Probability with which a hit was drawn for verification, 0 to 1."""
    verified: NDArray[np.int8]
    """Label of a decision that was drawn at random (exploration or SHADOW): RIGHT, WRONG, UNDECIDED or UNLABELLED."""
    label: NDArray[np.int8]
    """Label from any source that saw the answer (these and near-misses and people); same values."""

    def __len__(self) -> int:
        return len(self.time)

    def rows(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """The chosen rows, by mask or index."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        columns.update({name: column[which] for name, column in columns.items() if name != "strata"})
        return type(self)(**columns)

    def labelled(self, *, cross_language: bool) -> Labelled:
        """The labelled candidates that are not exact: what thresholds are learnt from. Candidates in another language
        count only where the policy serves them."""
        chosen = (self.label != UNLABELLED) & ~self.exact & np.isfinite(self.risk) & self.comparable
        chosen &= cross_language | ~self.cross_language
        repeats, repeats_wrong = self.repeats()
        return Labelled(
            self.risk[chosen],
            self.label[chosen] == WRONG,
            self.stratum[chosen],
            self.strata,
            self.pair[chosen],
            self.time[chosen],
            self.label[chosen] == UNDECIDED,
            repeats,
            repeats_wrong,
        )

    def repeats(self) -> tuple[int, int]:
        """Requests whose exact repeats were verified with a verdict, and those that got two different answers; each
        request counts once, with its latest verdict."""
        rows = np.flatnonzero(self.exact & ((self.verified == RIGHT) | (self.verified == WRONG)))[::-1]
        latest = rows[np.unique(self.pair[rows], return_index=True)[1]]
        return len(latest), int(np.count_nonzero(self.verified[latest] == WRONG))

    @property
    def comparable(self) -> NDArray[np.bool_]:
        """Candidates that thresholds decide, or decided: `open`, and what was served."""
        return self.open | self.would_hit
