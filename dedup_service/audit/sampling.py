"""How often was a served answer wrong? Which hits to label so that the answer is sharp, and the estimate itself.

Hits fall into cells: the probability with which the system drew them for verification, and, once people label, how
risky they looked. Inside a cell every labelled hit was drawn at random, by the system's own draw or as the next in a
fixed random order, so the labelled ones speak for the cell however many there are and whoever stops when; the cells are
weighted by the hits they stand for. That is stratified sampling with optimal allocation (J. Neyman, "On the two
different aspects of the representative method", 1934): labels go where they narrow the interval most.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_service.audit.traffic import Traffic
from dedup_service.policy.recorded import RIGHT, UNDECIDED, UNLABELLED, WRONG, Recorded
from dedup_service.policy.risk import Interval, Sample, estimate, labels_needed

EDGES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Where the cells of estimated risk begin, the first for exact repeats alone. Fixed beforehand: cells that were chosen
by looking at the labels would bias the estimate."""


@dataclass(frozen=True)
class Accuracy:
    """The estimated share of wrong answers among the hits, and what it rests on."""

    interval: Interval
    upper: float
    """One-sided upper confidence bound, 0 to 1: what is held against a budget."""
    lower: float
    """One-sided lower confidence bound, 0 to 1."""
    confidence: float
    hits: int
    verified: int
    """Hits drawn at random that got a verdict, or a comparison without one."""
    wrong: int
    unsure: int
    """Verified hits whose comparison gave no verdict: right for the lower end, wrong for the upper."""
    by_person: int
    """Verified hits that a person drew and judged."""
    blind: float
    """Share of the hits in cells of which nothing was verified, 0 to 1. They may all be wrong, for the upper end."""
    method: str


@dataclass(frozen=True)
class Cell:
    """Hits among which the labelled ones are a random sample."""

    name: str
    rows: NDArray[np.int64]
    """The hits, as indices into the traffic."""


def cells(traffic: Traffic, served: NDArray[np.bool_], *, by_risk: bool) -> list[Cell]:
    """The chosen decisions (n,) in cells of one probability of having been drawn and, with `by_risk`, of like risk."""
    recorded = traffic.recorded
    rows = np.flatnonzero(served)
    rate = np.round(recorded.propensity[rows], 9)
    band = np.searchsorted(EDGES, np.nan_to_num(recorded.risk[rows], nan=1.0), side="left") if by_risk else rate * 0
    found = []
    for value in np.unique(rate):
        for step in np.unique(band[rate == value]):
            inside = rows[(rate == value) & (band == step)]
            found.append(Cell(f"draw={value:g} risk={int(step)}" if by_risk else f"draw={value:g}", inside))
    return found


def accuracy(traffic: Traffic, confidence: float, served: NDArray[np.bool_] | None = None) -> Accuracy:
    """Estimates the share of wrong answers among the chosen decisions (n,), all hits by default; SHADOW's withheld
    ones count as hits."""
    recorded = traffic.recorded
    chosen = recorded.would_hit if served is None else served & recorded.would_hit
    people = bool((traffic.by_person & chosen).any())
    parts = cells(traffic, chosen, by_risk=people)
    samples = [sample(recorded, part.rows) for part in parts]
    verified = sum(s.right + s.wrong + s.unsure for s in samples)
    total = sum(s.population for s in samples)
    blind = sum(s.population for s in samples if not s.right + s.wrong + s.unsure) / total if total else 0.0
    sides = estimate(samples, max(0.0, 2 * confidence - 1))
    return Accuracy(
        interval=estimate(samples, confidence),
        upper=sides.high,
        lower=sides.low,
        confidence=confidence,
        hits=total,
        verified=verified,
        wrong=sum(s.wrong for s in samples),
        unsure=sum(s.unsure for s in samples),
        by_person=int(np.count_nonzero(traffic.by_person & chosen)),
        blind=blind,
        method=method_of(samples, people),
    )


def sample(recorded: Recorded, rows: NDArray[np.int64]) -> Sample:
    """Counts the random draws among the hits of one cell."""
    labels = recorded.verified[rows]
    return Sample(
        population=len(rows),
        right=int(np.count_nonzero(labels == RIGHT)),
        wrong=int(np.count_nonzero(labels == WRONG)),
        unsure=int(np.count_nonzero(labels == UNDECIDED)),
    )


def method_of(samples: list[Sample], people: bool) -> str:
    """Says in a sentence how the estimate was made."""
    counts = [s.right + s.wrong + s.unsure for s in samples if s.population]
    if not any(counts):
        return "No hit was verified, so nothing is known: the interval is everything from 0 to 100 %."
    drawn = "hits drawn at random, by the exploration rate" + (" and by the labelling plan" if people else "")
    weights = [s.population / c for s, c in zip([s for s in samples if s.population], counts, strict=True) if c]
    if max(weights) <= min(weights) * 1.25:
        return f"From {drawn}, all at one rate; exact binomial interval (Clopper–Pearson)."
    return (
        f"From {drawn}, in {len(counts)} cells, each weighted by the hits it stands for; gamma interval (Fay–Feuer), "
        "which stays conservative at small counts."
    )


def next_to_label(traffic: Traffic, count: int) -> list[tuple[int, float, str]]:
    """The hits whose labels narrow the interval most: row, the share of its cell that will have been drawn, and the
    cell's name.

    Greedy Neyman allocation: the next label goes to the cell with the greatest fall of N² p (1 - p) / n, where p is
    what the cell's labels and its estimated risk say together (one pseudo-label of the mean risk). Within a cell the
    next in the order of `draw_of`, which nobody can steer.
    """
    recorded = traffic.recorded
    parts = cells(traffic, recorded.would_hit, by_risk=True)
    state = []
    for part in parts:
        labels = recorded.verified[part.rows]
        decided = int(np.count_nonzero((labels == RIGHT) | (labels == WRONG)))
        wrong = int(np.count_nonzero(labels == WRONG))
        mean = min(0.5, max(1e-3, float(np.nanmean(recorded.risk[part.rows]))))
        open_rows = part.rows[(labels == UNLABELLED) | ((labels == UNDECIDED) & ~traffic.by_person[part.rows])]
        order = np.argsort(
            np.fromiter((draw_of(i.decode()) for i in recorded.id[open_rows]), np.float64, len(open_rows))
        )
        p = (wrong + mean) / (decided + 1)
        state.append([part, open_rows[order], 0, decided, p])
    chosen: list[tuple[int, float, str]] = []
    while len(chosen) < count:
        gains = [
            len(part.rows) ** 2 * p * (1 - p) * (1 / max(1, n) - 1 / (n + 1) if n else 1.0) if at < len(rows) else -1.0
            for part, rows, at, n, p in state
        ]
        if not gains or max(gains) < 0:
            break
        cell = state[int(np.argmax(gains))]
        part, rows, at = cell[0], cell[1], cell[2]
        chosen.append((int(rows[at]), 0.0, part.name))
        cell[2] += 1
        cell[3] += 1
    share = {c[0].name: min(1.0, c[3] / len(c[0].rows)) for c in state}
    return [(row, share[name], name) for row, _, name in chosen]


def draw_of(decision: str) -> float:
    """The place of a decision in the labelling order, 0 to 1: a hash of its id, independent of all it stands for and of
    the exploration's own draw."""
    digest = hashlib.blake2b(decision.encode(), digest_size=8, person=b"labelling").digest()
    return int.from_bytes(digest, "big") / 2.0**64


def note_of(propensity: float | None, cell: str) -> str:
    """The note of a person's label: the draw that led to it, or that it was picked by hand. It holds nobody's text."""
    if propensity is None:
        return json.dumps({"draw": "picked"})
    return json.dumps({"draw": "random", "cell": cell, "propensity": round(propensity, 9)})


def gate(accuracy: Accuracy, max_wrong: float) -> tuple[int, str]:
    """Exit code and reason of the gate: 0 BOUND_HOLDS, 1 BOUND_BROKEN, 3 TOO_FEW_LABELS.

    Too few: the estimate lies within `max_wrong` and the upper bound does not, so more labels can still show it; or
    there are fewer than a sample without a single wrong answer would need. A sample that already proves the bound
    broken breaks it however small.
    """
    if accuracy.upper <= max_wrong:
        return 0, "BOUND_HOLDS"
    if accuracy.lower > max_wrong:
        return 1, "BOUND_BROKEN"
    if max_wrong <= 0 or accuracy.verified < labels_needed(max_wrong, accuracy.confidence):
        return 3, "TOO_FEW_LABELS"
    return (3, "TOO_FEW_LABELS") if accuracy.interval.mid <= max_wrong else (1, "BOUND_BROKEN")
