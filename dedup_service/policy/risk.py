"""The statistics behind the error budget: bounds of a wrong-answer rate, and thresholds that keep one.

Sources: C. Clopper and E. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 1934. A. Angelopoulos, S. Bates, E. Candès, M. Jordan and L. Lei, "Learn then Test: calibrating predictive
algorithms to achieve risk control", 2021. M. Fay and E. Feuer, "Confidence intervals for directly standardized rates: a
method based on the gamma distribution", Statistics in Medicine 1997.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STARTS = (1, 2, 4)
"""Where the fixed sequences begin, in multiples of the fewest labels with which a test can succeed at all. The first
succeeds early when no label is wrong; the later ones survive a wrong label or two among the first."""
GRID = 64
"""Most thresholds tested in one sequence."""
SLACK = 1e-9
"""Difference below which two risks count as equal: 1 - 0.99 is not quite 0.01 in binary."""


@dataclass(frozen=True)
class Interval:
    """A share with its confidence interval, each 0 to 1."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class Sample:
    """Verified answers from one part of the traffic."""

    population: int
    """Answers in that part, verified or not."""
    right: int
    """Verified answers that were right."""
    wrong: int
    """Verified answers that were wrong."""
    unsure: int = 0
    """Verified answers for which the comparison gave no verdict."""


@dataclass(frozen=True)
class Tested:
    """The outcome of learn-then-test on one kind of evidence."""

    max_risk: float | None
    """The loosest threshold on the risk that passed; None when none did."""
    labels: int
    """Labels at or below that threshold; all labels when none passed."""
    wrong: int
    """Wrong ones among them."""
    upper: float
    """Upper confidence bound of the wrong-answer rate among them."""


def upper_bound(wrong: int, total: int, confidence: float) -> float:
    """One-sided Clopper–Pearson upper bound of a rate after `wrong` of `total`: the rate at which so few wrong ones
    would be seen with probability 1 - confidence. 1 when nothing was observed."""
    from scipy.special import betaincinv  # half a second to import: not at every start

    if total == 0 or wrong >= total:
        return 1.0
    return float(betaincinv(wrong + 1, total - wrong, confidence))


def lower_bound(wrong: int, total: int, confidence: float) -> float:
    """One-sided Clopper–Pearson lower bound, the mirror of `upper_bound`. 0 when nothing wrong was observed."""
    from scipy.special import betaincinv  # half a second to import: not at every start

    if wrong == 0:
        return 0.0
    return float(betaincinv(wrong, total - wrong + 1, 1 - confidence))


def clopper_pearson(wrong: int, total: int, confidence: float = 0.95) -> Interval:
    """Two-sided Clopper–Pearson interval: covers the true rate with at least `confidence` at any sample size."""
    side = (1 + confidence) / 2
    mid = wrong / total if total else 0.0
    return Interval(lower_bound(wrong, total, side), mid, upper_bound(wrong, total, side))


@lru_cache(1_024)
def labels_needed(budget: float, confidence: float, wrong: int = 0) -> int:
    """Fewest labels, `wrong` of them wrong, with which `upper_bound` can lie within `budget` (0 < budget < 1)."""
    from scipy.special import bdtr  # half a second to import: not at every start

    low, high = wrong + 1, wrong + 2
    while bdtr(wrong, high, budget) > 1 - confidence:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if bdtr(wrong, middle, budget) > 1 - confidence:
            low = middle + 1
        else:
            high = middle
    return low


def learn_then_test(risks: NDArray[np.float64], wrong: NDArray[np.bool_], budget: float, confidence: float) -> Tested:
    """The loosest threshold t so that, with probability `confidence`, at most `budget` of what has risk <= t is wrong.

    `risks` (n,) are estimated risks, 0 to 1; `wrong` (n,) says which labels were wrong. Every threshold is a hypothesis
    "its wrong-answer rate exceeds the budget", rejected when P(Binomial(n_t, budget) <= wrong_t) is small enough.
    Thresholds are tested from strict to loose and the sequence ends at the first that is not rejected (fixed-sequence
    testing), so the family-wise error stays at 1 - confidence, shared by the sequences of `STARTS`.

    The thresholds depend on the risks alone, never on the labels. Given the risks, labels are independent, and a sum of
    unequal Bernoulli variables has a lighter lower tail than the binomial of the same mean (Hoeffding 1956), so the
    binomial p-value is valid. Where risky candidates are labelled more often than safe ones, as near-misses are, the
    labelled rate overstates the served rate: the error is on the safe side.
    """
    from scipy.special import bdtr  # half a second to import: not at every start

    order = np.argsort(risks, kind="stable")
    ordered = risks[order]
    total, wrong_total = len(ordered), int(np.count_nonzero(wrong))
    none = Tested(None, total, wrong_total, upper_bound(wrong_total, total, confidence))
    if total == 0 or not 0 < budget < 1:
        return none
    cumulative = np.concatenate(([0], np.cumsum(wrong[order])))
    level = (1 - confidence) / len(STARTS)
    least = labels_needed(budget, 1 - level)
    best: float | None = None
    for start in STARTS:
        first = least * start
        if first > total:
            break
        wanted = np.unique(np.rint(np.geomspace(first, total, GRID)).astype(np.int64))
        thresholds = np.unique(ordered[wanted - 1])
        counts = np.searchsorted(ordered, thresholds, side="right")
        failed = bdtr(cumulative[counts], counts, budget) > level
        passed = int(np.argmax(failed)) if failed.any() else len(thresholds)
        if passed:
            reached = float(thresholds[passed - 1])
            best = reached if best is None else max(best, reached)
    if best is None:
        return none
    count = int(np.searchsorted(ordered, best, side="right"))
    count_wrong = int(cumulative[count])
    return Tested(best, count, count_wrong, upper_bound(count_wrong, count, 1 - level))


def estimate(samples: Sequence[Sample], confidence: float = 0.95) -> Interval:
    """The wrong-answer rate of the whole traffic from samples of its parts, weighted by what each part stands for.

    Within a part, the verified answers must be a random sample. With one sampling rate throughout, which is the usual
    case, the parts are pooled and the interval is Clopper–Pearson's. Otherwise each part is weighted by its
    population over its sample (inverse propensity) and the interval is Fay and Feuer's gamma interval, which stays
    conservative at small counts, where a normal approximation would report zero width. A verified answer without a
    verdict counts as right for the lower end and as wrong for the upper end. A part of which nothing was verified may
    be all right or all wrong.
    """
    parts = [sample for sample in samples if sample.population > 0]
    total = sum(sample.population for sample in parts)
    if total == 0:
        return Interval(0.0, 0.0, 1.0)
    seen = [part for part in parts if part.right + part.wrong + part.unsure > 0]
    blind = (total - sum(part.population for part in seen)) / total
    counts = [part.right + part.wrong + part.unsure for part in seen]
    weights = [part.population / total / count for part, count in zip(seen, counts, strict=True)]
    if not seen:
        return Interval(0.0, 0.0, 1.0)
    if max(weights) <= min(weights) * 1.25:  # one sampling rate, up to the luck of the draw
        count, wrong, unsure = sum(counts), sum(p.wrong for p in seen), sum(p.unsure for p in seen)
        low = clopper_pearson(wrong, count, confidence).low * (1 - blind)
        high = clopper_pearson(wrong + unsure, count, confidence).high * (1 - blind) + blind
    else:
        low = gamma_end([p.wrong for p in seen], weights, confidence, upper=False)
        high = gamma_end([p.wrong + p.unsure for p in seen], weights, confidence, upper=True) + blind
    decided = [(part.population, part.wrong / (part.right + part.wrong)) for part in seen if part.right + part.wrong]
    weight = sum(population for population, _ in decided)
    mid = sum(population * rate for population, rate in decided) / weight if weight else low
    high = min(1.0, high)
    return Interval(low, min(max(mid, low), high), high)


def gamma_end(events: Sequence[int], weights: Sequence[float], confidence: float, *, upper: bool) -> float:
    """One end of Fay and Feuer's interval for the weighted sum of Poisson `events`, each counting `weights` (equations
    4 and 5 of their paper): a gamma distribution that matches the sum's mean and variance, with the heaviest weight
    added for the upper end."""
    from scipy.special import gammaincinv  # half a second to import: not at every start

    mean = math.fsum(event * weight for event, weight in zip(events, weights, strict=True))
    variance = math.fsum(event * weight * weight for event, weight in zip(events, weights, strict=True))
    if upper:
        mean += max(weights)
        variance += max(weights) ** 2
    if mean == 0:
        return 0.0
    share = (1 + confidence) / 2 if upper else (1 - confidence) / 2
    return float(gammaincinv(mean * mean / variance, share)) * variance / mean
