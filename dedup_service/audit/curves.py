"""What a report draws: traffic over time, scores, the threshold sweep, calibration and drift. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dedup_service.audit.sampling import accuracy
from dedup_service.audit.traffic import SAME_FILE, Traffic
from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.preview import serves, wrong_rate
from dedup_service.policy.recorded import RIGHT, WRONG
from dedup_service.policy.risk import Interval
from dedup_service.policy.thresholds import Thresholds

SLOTS = 56
"""Most points of a line over time."""
WIDTHS = (60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000)
"""Widths of a slot in seconds, from a minute to a month."""
LOGIT_EDGES = np.linspace(-6.0, 7.0, 53)
"""Edges of the score histograms on a log-odds scale, where 0.99 and 0.999 are as far apart as 0.5 and 0.9."""
SWEPT = (0.5, 0.6, 0.7, 0.75, 0.8, 0.84, 0.87, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.993,
         0.995, 0.997, 0.998, 0.999, 0.9995, 1.0)  # fmt: skip
"""Question thresholds that the sweep tries."""
RISK_EDGES = (0.0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5, 0.75, 1.0)
"""Bins of estimated risk in the calibration curve."""
DRIFT = 0.1
"""Least Kolmogorov–Smirnov distance that is called a drift: with many decisions, distances of no consequence pass any
test."""


@dataclass(frozen=True)
class Slot:
    """One stretch of time."""

    start: float
    """Seconds since the epoch."""
    requests: int
    exact: int
    """Hits that repeated an image and a question exactly."""
    copies: int
    """Hits on a copy of an image with an exactly repeated question."""
    rephrased: int
    """Hits on a question in other words."""
    p50_ms: float | None
    p95_ms: float | None
    """Look-up times in milliseconds; None when none was recorded."""


@dataclass(frozen=True)
class Scores:
    """Histograms of one score over `LOGIT_EDGES`, for pairs whose other side was proved the same, so that a label
    speaks about this side alone."""

    same: tuple[int, ...]
    different: tuple[int, ...]
    unlabelled: tuple[int, ...]


@dataclass(frozen=True)
class SweepPoint:
    """What one question threshold would have done."""

    question_threshold: float
    image_threshold: float
    hit_rate: float
    wrong: Interval


@dataclass(frozen=True)
class CalibrationBin:
    """Candidates of like estimated risk, and how many of them were really wrong."""

    low: float
    high: float
    mean_risk: float
    candidates: int
    labelled: int
    observed: Interval


@dataclass(frozen=True)
class Drift:
    """How far apart the scores of this period and of the one before are."""

    score: str
    """image or question."""
    now: int
    """Distinct pairs compared in this period, exact repeats left out."""
    before: int
    distance: float
    """Kolmogorov–Smirnov statistic, 0 to 1."""
    p_value: float
    median_now: float
    median_before: float

    @property
    def drifted(self) -> bool:
        """Whether the difference is both certain and large enough to matter."""
        return self.p_value < 0.01 and self.distance >= DRIFT


def kinds_of_hits(traffic: Traffic) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Hits (n,) by what they rest on: exact repeats, copies of an image, questions in other words."""
    hits, exact_question = traffic.recorded.would_hit, traffic.question_tier.mask("EXACT", "NORMALISED")
    exact = hits & traffic.recorded.exact
    return exact, hits & exact_question & ~exact, hits & ~exact_question


def over_time(traffic: Traffic) -> tuple[int, tuple[Slot, ...]]:
    """The width of a slot in seconds, and the slots from the first decision to the last."""
    times = traffic.recorded.time
    if len(times) == 0:
        return WIDTHS[0], ()
    lasted = float(times.max() - times.min())
    width = next((w for w in WIDTHS if lasted / w <= SLOTS), WIDTHS[-1])
    number = (times // width).astype(np.int64)
    number -= (first := int(number.min()))
    count = int(number.max()) + 1
    exact, copies, rephrased = (np.bincount(number[mask], minlength=count) for mask in kinds_of_hits(traffic))
    requests = np.bincount(number, minlength=count)
    quantiles = slot_quantiles(number, traffic.lookup_ms, count)
    return width, tuple(
        Slot(
            float((first + i) * width),
            int(requests[i]),
            int(exact[i]),
            int(copies[i]),
            int(rephrased[i]),
            *quantiles[i],
        )
        for i in range(count)
    )


def slot_quantiles(
    number: NDArray[np.int64], values: NDArray[np.float32], count: int
) -> list[tuple[float | None, float | None]]:
    """Median and 95th percentile of the values of every slot."""
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(number[finite], kind="stable")]
    ends = np.searchsorted(number[order], np.arange(count + 1))
    found: list[tuple[float | None, float | None]] = []
    for i in range(count):
        part = values[order[ends[i] : ends[i + 1]]]
        if len(part):
            middle, high = np.percentile(part, (50, 95))
            found.append((float(middle), float(high)))
        else:
            found.append((None, None))
    return found


def logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds, kept inside the histograms' edges."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.clip(np.log(inside / (1 - inside)), LOGIT_EDGES[0], LOGIT_EDGES[-1])


def score_histograms(traffic: Traffic) -> dict[str, Scores]:
    """The image and the question scores of pairs that are no exact repeats, by label."""
    recorded = traffic.recorded
    found = {}
    for side, score, other_side_proved in (
        ("image", recorded.image_score, traffic.question_tier.mask("EXACT", "NORMALISED")),
        ("question", recorded.question_score, traffic.image_tier.mask(*SAME_FILE)),
    ):
        chosen = other_side_proved & ~recorded.exact & np.isfinite(score)
        groups = [
            recorded.label == RIGHT,
            recorded.label == WRONG,
            (recorded.label != RIGHT) & (recorded.label != WRONG),
        ]
        counts = [np.histogram(logit(score[chosen & group]), LOGIT_EDGES)[0] for group in groups]
        found[side] = Scores(*(tuple(int(c) for c in each) for each in counts))
    return found


def sweep(
    traffic: Traffic, policy: Policy, thresholds: Thresholds, extra: tuple[float, ...] = ()
) -> tuple[SweepPoint, ...]:
    """Hit rate and wrong-answer rate at every question threshold, under the policy's image threshold; each estimated
    from the random draws among past hits and the labels of past misses."""
    recorded = traffic.recorded
    points = []
    for threshold in sorted({*SWEPT, policy.question_threshold, *extra}):
        static = replace(policy, mode=Mode.STATIC, question_threshold=threshold)
        served = serves(recorded, static, thresholds)
        hit_rate = float(np.count_nonzero(served)) / max(1, len(recorded))
        points.append(
            SweepPoint(threshold, policy.image_threshold, hit_rate, wrong_rate(recorded, served, policy.confidence))
        )
    return tuple(points)


def calibration(traffic: Traffic, confidence: float) -> tuple[CalibrationBin, ...]:
    """Estimated risk against the share that was really wrong, per bin; hits weighted by their draws."""
    recorded = traffic.recorded
    eligible = np.isfinite(recorded.risk) & ~recorded.exact & recorded.comparable
    number = np.searchsorted(RISK_EDGES, np.nan_to_num(recorded.risk), side="right") - 1
    number = np.clip(number, 0, len(RISK_EDGES) - 2)
    decided = (recorded.label == RIGHT) | (recorded.label == WRONG)
    bins = []
    for i in range(len(RISK_EDGES) - 1):
        chosen = eligible & (number == i)
        labelled = int(np.count_nonzero(chosen & decided))
        if labelled == 0:
            continue
        bins.append(
            CalibrationBin(
                RISK_EDGES[i],
                RISK_EDGES[i + 1],
                float(recorded.risk[chosen].mean()),
                int(np.count_nonzero(chosen)),
                labelled,
                wrong_rate(recorded, chosen, confidence),
            )
        )
    return tuple(bins)


def drift(
    now: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
    before: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
) -> tuple[Drift, ...]:
    """Compares two periods, each given as pair keys, image scores and question scores (n,) of what is no exact repeat.
    Every pair counts once, or a popular one would look like a change; two-sample Kolmogorov–Smirnov test."""
    found = []
    for at, score in ((1, "image"), (2, "question")):
        sides = []
        for period in (now, before):
            finite = np.isfinite(period[at])
            _, first = np.unique(period[0][finite], return_index=True)
            sides.append(period[at][finite][first])
        if min(len(side) for side in sides) < 20:
            continue
        from scipy.stats import ks_2samp  # half a second to import: not at every start

        result = ks_2samp(sides[0], sides[1], method="asymp")
        medians = [float(np.median(side)) for side in sides]
        found.append(
            Drift(score, len(sides[0]), len(sides[1]), float(result.statistic), float(result.pvalue), *medians)
        )
    return tuple(found)


@dataclass(frozen=True)
class Share:
    """One tenant's, language's or kind of evidence's part of the traffic."""

    name: str
    requests: int
    hits: int
    wrong: Interval
    """Estimated wrong-answer rate among its hits."""
    verified: int
    wrong_labels: int
    saved_seconds: float

    @property
    def hit_rate(self) -> float:
        """Share of requests served from memory, 0 to 1."""
        return self.hits / self.requests if self.requests else 0.0


def shares(
    traffic: Traffic, code: NDArray[np.int32], words: tuple[str, ...], confidence: float, most: int = 30
) -> tuple[Share, ...]:
    """The traffic split by a column of words, the largest first, at most `most`."""
    counts = np.bincount(code, minlength=len(words)) if len(code) else np.zeros(len(words), np.int64)
    found = []
    for at in np.argsort(-counts, kind="stable")[:most]:
        if counts[at] == 0:
            continue
        chosen = code == at
        estimate = accuracy(traffic, confidence, chosen)
        found.append(
            Share(
                words[at] or "—",
                int(counts[at]),
                estimate.hits,
                estimate.interval,
                estimate.verified,
                estimate.wrong,
                float(traffic.saved_seconds[chosen & traffic.recorded.hit].sum(dtype=np.float64)),
            )
        )
    return tuple(found)
