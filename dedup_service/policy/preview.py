"""What another policy would have done with the decisions on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_service.policy.account import CREDIT, affordable, entered
from dedup_service.policy.noise import Blame, blame
from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.recorded import RIGHT, UNDECIDED, WRONG, Recorded
from dedup_service.policy.risk import Interval, Sample, estimate
from dedup_service.policy.thresholds import Rule, Thresholds

UNSEEN = (
    "phash_distance",
    "protected_terms",
    "judge",
    "shared_intents",
    "max_pixels",
    "unanswered_ttl",
    "time_zone",
    "reuse_sampled",
    "neutral_answers",
)
"""Fields whose effect can't be read off recorded decisions: they change what evidence is gathered."""


@dataclass(frozen=True)
class Preview:
    """What would have been different."""

    decisions: int
    """Decisions looked at."""
    hits_now: int
    """Decisions that were served from memory."""
    hits_then: int
    """Decisions that would have been."""
    to_hit: int
    """Misses that would have been hits."""
    to_miss: int
    """Hits that would have been misses."""
    wrong_now: Interval
    """Estimated wrong-answer rate among the hits as they were."""
    wrong_then: Interval
    """Estimated wrong-answer rate among the hits as they would have been."""
    blame_then: Blame
    """Which part of `wrong_then` is the model's own, and which is reuse's."""
    labelled_then: int
    """Labels behind `wrong_then`."""
    examples: tuple[str, ...]
    """Decisions that would flip, the most telling first: known to be wrong, then the riskiest."""
    not_previewed: tuple[str, ...]
    """Changed fields that this preview can't judge."""

    @property
    def hit_rate_now(self) -> float:
        """Share of decisions that were hits, 0 to 1."""
        return self.hits_now / self.decisions if self.decisions else 0.0

    @property
    def hit_rate_then(self) -> float:
        """Share of decisions that would have been hits, 0 to 1."""
        return self.hits_then / self.decisions if self.decisions else 0.0


def preview(
    recorded: Recorded, current: Policy, proposed: Policy, thresholds: Thresholds, *, examples: int = 20
) -> Preview:
    """Decides every recorded decision again under `proposed` and compares.

    The wrong-answer rate of hits is estimated from those verified at random, that of new hits from near-misses that
    were labelled, each weighted by what it stands for.
    """
    then = serves(recorded, proposed, thresholds)
    flips = np.flatnonzero(then != recorded.hit)
    return Preview(
        decisions=len(recorded),
        hits_now=int(np.count_nonzero(recorded.hit)),
        hits_then=int(np.count_nonzero(then)),
        to_hit=int(np.count_nonzero(then & ~recorded.hit)),
        to_miss=int(np.count_nonzero(recorded.hit & ~then)),
        wrong_now=wrong_rate(recorded, recorded.hit, current.confidence),
        wrong_then=wrong_rate(recorded, then, proposed.confidence),
        blame_then=blame(recorded, then, proposed.confidence),
        labelled_then=sum(s.right + s.wrong + s.unsure for s in samples(recorded, then)),
        examples=tuple(telling(recorded, flips)[:examples]),
        not_previewed=tuple(name for name in UNSEEN if getattr(current, name) != getattr(proposed, name)),
    )


def serves(recorded: Recorded, policy: Policy, thresholds: Thresholds) -> NDArray[np.bool_]:
    """Which decisions (n,) `policy` would serve from memory: `reuse.decide` for columns, with the account kept
    along."""
    if policy.mode in (Mode.OFF, Mode.SHADOW):
        return np.zeros(len(recorded), dtype=np.bool_)
    allowed = recorded.comparable & (policy.cross_language | ~recorded.cross_language)
    with np.errstate(invalid="ignore"):  # NaN, where nothing was compared, passes no comparison
        above_floor = (recorded.image_score >= policy.image_floor) & (recorded.question_score >= policy.question_floor)
        static = (recorded.image_score >= policy.image_threshold) & (
            recorded.question_score >= policy.question_threshold
        )
        if policy.mode is Mode.STATIC:
            passed = static
        else:
            passed = np.zeros(len(recorded), dtype=np.bool_)
            for code, name in enumerate(recorded.strata):
                bound = thresholds.bound(name, policy)
                if bound.rule is not Rule.CLOSED:
                    passed |= (recorded.stratum == code) & (recorded.risk <= bound.most)
    served: NDArray[np.bool_] = allowed & (recorded.exact | (above_floor & passed))
    if policy.mode is Mode.VERIFIED:
        keep_account(recorded, served, policy, thresholds)
    return served


def keep_account(recorded: Recorded, served: NDArray[np.bool_], policy: Policy, thresholds: Thresholds) -> None:
    """Takes out of `served` (n,) what the account has no room for, in order of time. One account for all rows: of
    several tenants, it shows what they could do together."""
    rows = np.flatnonzero(served)
    bounds = [thresholds.bound(name, policy) for name in recorded.strata]
    exact, strata, risks = recorded.exact[rows].tolist(), recorded.stratum[rows].tolist(), recorded.risk[rows].tolist()
    balance = CREDIT
    for row, is_exact, stratum, risk in zip(rows.tolist(), exact, strata, risks, strict=True):
        cost = 0.0 if is_exact else bounds[stratum].cost(risk)
        if is_exact or affordable(cost, balance, policy.error_budget):
            balance = entered(balance, cost, policy.error_budget)
        else:
            served[row] = False


def wrong_rate(recorded: Recorded, served: NDArray[np.bool_], confidence: float) -> Interval:
    """Estimated wrong-answer rate among the decisions chosen by `served` (n,)."""
    return estimate(samples(recorded, served), confidence)


def samples(recorded: Recorded, served: NDArray[np.bool_]) -> Sequence[Sample]:
    """The chosen decisions in parts within which the verified ones are a random sample: those that were served, by the
    probability with which they were drawn; those that were not, by their kind of evidence."""
    before, new = served & recorded.would_hit, served & ~recorded.would_hit
    drawn = [before & (recorded.propensity == propensity) for propensity in np.unique(recorded.propensity[before])]
    missed = [new & (recorded.stratum == code) for code in np.unique(recorded.stratum[new])]
    return [*(sample(recorded.verified[part]) for part in drawn), *(sample(recorded.label[part]) for part in missed)]


def sample(labels: NDArray[np.int8]) -> Sample:
    """Counts a label column."""
    return Sample(
        population=len(labels),
        right=int(np.count_nonzero(labels == RIGHT)),
        wrong=int(np.count_nonzero(labels == WRONG)),
        unsure=int(np.count_nonzero(labels == UNDECIDED)),
    )


def telling(recorded: Recorded, rows: NDArray[np.int64]) -> list[str]:
    """Ids of `rows`, those labelled wrong first, then by falling risk, then the newest."""
    order = np.lexsort((-recorded.time[rows], -np.nan_to_num(recorded.risk[rows]), recorded.label[rows] != WRONG))
    return [identity.decode() for identity in recorded.id[rows[order]]]
