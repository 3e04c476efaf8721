"""Whose the wrong answers are: the model's, which answers one request in two ways, or reuse's, which gives one request
the answer to another.

When a hit on the very same request is verified, the stored answer and the fresh one are two answers of the model to one
request. How often they differ is the model's own noise. The same noise is in every other comparison of a stored answer
with a fresh one; what is left beyond it is reuse's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_service.policy.recorded import RIGHT, UNDECIDED, UNLABELLED, WRONG, Recorded
from dedup_service.policy.risk import Interval, Sample, clopper_pearson, estimate


@dataclass(frozen=True)
class Blame:
    """The parts of a wrong-answer rate, each with its interval."""

    model: Interval
    """Share of answers that would be wrong with no reuse at all: two fresh answers to one request that differ."""
    reuse: Interval
    """Share of the hits that are wrong beyond that."""
    repeats: int
    """Verified hits on the very same request: what `model` rests on."""
    others: int
    """Verified hits on anything else: what `reuse` rests on."""


@dataclass(frozen=True)
class Compared:
    """Verified hits, in parts that were drawn with one probability each."""

    repeats: tuple[Sample, ...] = ()
    """Those on the very same request."""
    others: tuple[Sample, ...] = ()
    """Those on anything else."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All of them."""
        return self.repeats + self.others


def beyond_noise(compared: Compared, confidence: float) -> Interval:
    """The share of the hits that are wrong beyond the model's own noise, as `blame` parts it, from counts alone. From 0
    to 1 where nothing was compared."""
    total = sum(sample.population for sample in compared.samples)
    if not total:
        return Interval(0.0, 0.0, 1.0)
    each = (1 + confidence) / 2
    noise, doubtful = estimate(compared.repeats, each), estimate(compared.others, each)
    share = sum(sample.population for sample in compared.others) / total
    return Interval(
        share * max(0.0, doubtful.low - noise.high),
        share * max(0.0, doubtful.mid - noise.mid),
        share * max(0.0, doubtful.high - noise.low),
    )


def blame(recorded: Recorded, served: NDArray[np.bool_], confidence: float) -> Blame:
    """Parts the wrong answers among the decisions chosen by `served` (n,).

    Each of the two rates behind the second part has an interval at half the error that `confidence` leaves, so that
    the interval of their difference holds with `confidence` whatever the two have to do with each other (Bonferroni).
    A comparison without a verdict counts as wrong for an upper end and as right for a lower one. Of hits of another
    kind than those verified nothing is known: with none verified, all of them may be wrong. Verified hits are taken for
    a random sample of their part, as they are at one exploration rate.
    """
    each = (1 + confidence) / 2
    noise, repeats = rate(recorded.verified[served & recorded.exact], each)
    seen = np.where(recorded.verified != UNLABELLED, recorded.verified, recorded.label)
    doubtful, others = rate(seen[served & ~recorded.exact], each)
    total = int(np.count_nonzero(served))
    share = np.count_nonzero(served & ~recorded.exact) / total if total else 0.0
    beyond = Interval(
        share * max(0.0, doubtful.low - noise.high),
        share * max(0.0, doubtful.mid - noise.mid),
        share * max(0.0, doubtful.high - noise.low),
    )
    return Blame(noise, beyond, repeats, others)


def rate(labels: NDArray[np.int8], confidence: float) -> tuple[Interval, int]:
    """The share of wrong ones in a label column with its interval, and how many were compared."""
    right, wrong, unsure = (int(np.count_nonzero(labels == value)) for value in (RIGHT, WRONG, UNDECIDED))
    compared = right + wrong + unsure
    low = clopper_pearson(wrong, compared, confidence).low if compared else 0.0
    high = clopper_pearson(wrong + unsure, compared, confidence).high if compared else 1.0
    mid = wrong / (right + wrong) if right + wrong else low
    return Interval(low, min(max(mid, low), high), high), compared
