"""Thresholds learnt from labels: one per kind of evidence, versioned, valid for the budget they were learnt for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dedup_service.policy.account import SPENT
from dedup_service.policy.policy import Policy
from dedup_service.policy.risk import SLACK, STARTS, labels_needed, learn_then_test, lower_bound, upper_bound


class Rule(StrEnum):
    """Where a stratum's threshold comes from."""

    PRIOR = "PRIOR"
    """Too few labels: the calibrated risk is believed as far as `PRIOR_FACTOR` budgets, and paid for."""
    LEARNT = "LEARNT"
    """Learnt: an upper bound of the wrong-answer rate lies within the budget."""
    CLOSED = "CLOSED"
    """Labels showed that what the prior serves is wrong more often than any prior may be. Nothing of it is served."""


PRIOR_FACTOR = 5.0
"""How many budgets one reuse may risk before there are labels. Such a hit then needs nine exact repeats beside it,
whose risk is nil, and the account (see `account`) makes sure of that instead of hoping for it."""
PRIOR_MOST = 0.1
"""Greatest estimated risk that is believed before there are labels, whatever the budget: a calibration is least
reliable where scores are in doubt."""
TRUST = 1.0
"""What the calibrated risk is worth against labels: as much as one wrong label where it predicts one."""
LEAST_LENT = 0.1
"""Labels of other strata make a stratum cheaper by this factor at the most: they tell of one of its sides at a time."""
RISKLESS = "exact"
"""The half of a stratum's name that stands for no risk on its side."""


@dataclass(frozen=True)
class Bound:
    """The threshold of one stratum."""

    rule: Rule
    max_risk: float
    """Greatest risk that may be served, 0 to 1 (slack for rounding included); negative when closed. See `most`."""
    labels: int = 0
    """Labels behind it, one a distinct pair."""
    wrong: int = 0
    """Wrong ones among them."""
    upper: float = 1.0
    """Upper confidence bound of the wrong-answer rate at this threshold, 0 to 1."""
    needed: int = 0
    """How many more right labels would carry a learnt threshold at the least; 0 when there is one."""
    price: float = 1.0
    """Wrong labels for each one that the calibrated risk predicted, shrunk towards 1 by `TRUST`. Of the labels, those
    that the model's own noise makes wrong are left out."""
    noise: float = 0.0
    """Share of wrong labels, 0 to 1, that is the model's own; see `noise_of`. `upper` includes it."""

    @property
    def most(self) -> float:
        """Greatest estimated risk that is served. Before there is a learnt threshold, risks that labels have shown to
        be too low count for what they are worth; those shown to be too high are not believed to be lower."""
        return self.max_risk / max(1.0, self.price) if self.rule is Rule.PRIOR else self.max_risk

    def cost(self, risk: float) -> float:
        """The expected wrong answers, 0 to 1, that serving a candidate of this estimated risk costs.

        Below a learnt threshold every candidate costs its share of the bound of their rate, and pays for itself.
        Before that, each costs its own calibrated risk, corrected by what labels have shown so far.
        """
        if self.rule is Rule.LEARNT:
            return SPENT * max(0.0, self.upper - self.noise)
        return 1.0 if self.rule is Rule.CLOSED else min(1.0, risk * self.price)


@dataclass(frozen=True)
class Labelled:
    """Labelled candidates as columns of one length n."""

    risk: NDArray[np.float64]
    """Estimated risk, 0 to 1."""
    wrong: NDArray[np.bool_]
    """Whether reuse would have been wrong."""
    stratum: NDArray[np.int32]
    """Index into `strata`."""
    strata: tuple[str, ...]
    """Names of the strata."""
    pair: NDArray[np.int64]
    """Names the pair that was compared. Labels of one pair are not independent: only the latest counts."""
    time: NDArray[np.float64]
    """Seconds since the epoch."""
    unsure: NDArray[np.bool_]
    """Whether the comparison gave no verdict. Such a label counts as wrong where a bound must hold, and not at all
    where a risk is corrected."""
    repeats: int = 0
    """Requests, each counted once, whose exact repeats were compared: two answers of the model to one request."""
    repeats_wrong: int = 0
    """Those among them that got two different answers."""


@dataclass(frozen=True)
class Thresholds:
    """All strata of one tenant at one time."""

    version: int = 0
    """Counts up; 0 is the prior alone."""
    time: float = 0.0
    """When they were learnt, seconds since the epoch."""
    error_budget: float = 0.0
    """The budget that they keep."""
    confidence: float = 1.0
    """The confidence with which they do."""
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    """By name of the stratum."""

    def bound(self, stratum: str, policy: Policy) -> Bound:
        """The bound that applies under `policy`: the learnt one when it keeps the policy's budget with the policy's
        confidence, otherwise the prior at the price that labels have set."""
        if policy.error_budget <= 0:
            return Bound(Rule.CLOSED, -1.0)
        found = self.bounds.get(stratum)
        if found is None:
            return prior(policy)
        kept = self.error_budget <= policy.error_budget and self.confidence >= policy.confidence
        if found.rule is Rule.CLOSED or (found.rule is Rule.LEARNT and kept):
            return found
        return replace(prior(policy), labels=found.labels, wrong=found.wrong, price=found.price, noise=found.noise)


PRIOR = Thresholds()
"""No labels yet."""


def prior(policy: Policy) -> Bound:
    """The prior: a single reuse may risk up to `PRIOR_FACTOR` budgets and never more than `PRIOR_MOST`, while the
    account keeps the mean over all hits, which is the wrong-answer rate, within one budget."""
    most = min(PRIOR_FACTOR * policy.error_budget, PRIOR_MOST)
    return Bound(Rule.PRIOR, most + SLACK, needed=labels_needed_for(policy))


def labels_needed_for(policy: Policy) -> int:
    """Fewest labels, none of them wrong, that can carry a learnt threshold under `policy`."""
    return labels_needed(policy.error_budget, 1 - (1 - policy.confidence) / len(STARTS))


def learn(labelled: Labelled, policy: Policy, *, version: int, time: float) -> Thresholds:
    """Learns every stratum's threshold from its own labels. The bound holds for each stratum with the confidence shared
    among those that have enough labels to be tested, hence for all of them at once, hence for their mix.

    What is bounded is reuse's part of the wrong answers. A right reuse still gets another answer than a fresh one where
    the model gives one request two answers; that share is taken from exact repeats, at the lower end of its interval,
    so that an unknown noise counts as none. Half of the error that the confidence leaves goes into that end."""
    if policy.error_budget <= 0:
        return Thresholds(version, time, policy.error_budget, policy.confidence)
    latest = latest_of_pair(labelled)
    masks = {name: latest[labelled.stratum[latest] == code] for code, name in enumerate(labelled.strata)}
    least = labels_needed_for(policy)
    tested = sum(len(rows) >= least for rows in masks.values())
    noise = noise_of(labelled, policy.confidence)
    left = (1 - policy.confidence) / (2 if noise > 0 else 1)
    confidence = 1 - left / max(1, tested)
    seen = {name: rows for name, rows in masks.items() if name and len(rows)}
    counts = {name: counted(labelled, rows, prior(policy).max_risk, noise) for name, rows in seen.items()}
    bounds = {
        name: learn_stratum(
            labelled.risk[rows],
            labelled.wrong[rows],
            labelled.unsure[rows],
            policy,
            confidence,
            noise,
            lent(name, counts),
        )
        for name, rows in seen.items()
    }
    return Thresholds(version, time, policy.error_budget, policy.confidence, bounds)


def counted(labelled: Labelled, rows: NDArray[np.int64], most: float, noise: float) -> tuple[float, float]:
    """Wrong labels beyond the noise among `rows` of a risk up to `most`, and how many the calibrated risks predict."""
    decided = rows[(labelled.risk[rows] <= most) & ~labelled.unsure[rows]]
    wrong = float(np.count_nonzero(labelled.wrong[decided]))
    return max(0.0, wrong - noise * len(decided)), float(np.sum(labelled.risk[decided]))


def lent(stratum: str, counts: Mapping[str, tuple[float, float]]) -> float:
    """What the labels of other strata say about the price of this one, before its own are looked at (empirical Bayes).

    A risk is the sum of the image's and the question's. What is known about a side comes from all strata that share it,
    this one left out, so that no label counts twice; the dearer of the two sides counts. 1 where nothing is known.
    """
    sides = []
    for at, half in enumerate(stratum.split("/")):
        if half == RISKLESS:
            continue
        others = [count for name, count in counts.items() if name != stratum and name.split("/")[at] == half]
        wrong, predicted = sum(count[0] for count in others), sum(count[1] for count in others)
        sides.append((wrong + TRUST) / (predicted + TRUST))
    return max(LEAST_LENT, *sides) if sides else 1.0


def noise_of(labelled: Labelled, confidence: float) -> float:
    """The least share of answers, 0 to 1, that differ from another answer of the model to the same request, at half of
    the error that `confidence` leaves. 0 where exact repeats were never found to differ, or never compared."""
    return lower_bound(labelled.repeats_wrong, labelled.repeats, (1 + confidence) / 2)


def learn_stratum(
    risks: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    unsure: NDArray[np.bool_],
    policy: Policy,
    confidence: float,
    noise: float = 0.0,
    expected: float = 1.0,
) -> Bound:
    """One stratum's threshold: learnt when a test passes; closed when what the prior serves is shown to be worse than
    any prior may be; else the prior, with its price and the number of labels still needed. `expected` is the price that
    other strata lead to expect: the mean of a gamma prior of shape `TRUST`, which the stratum's own labels outweigh.

    With a share r of wrong reuses and `noise` of the right ones seen as wrong, r + (1 - r) noise is seen; so r keeps
    the budget b where what is seen keeps b + (1 - b) noise.
    """
    doubtful = wrong | unsure
    allowed = policy.error_budget + (1 - policy.error_budget) * noise
    result = learn_then_test(risks, doubtful, allowed, confidence)
    strict = prior(policy)
    inside = risks <= strict.max_risk
    decided = inside & ~unsure
    labels, errors = int(np.count_nonzero(decided)), int(np.count_nonzero(wrong & decided))
    price = (max(0.0, errors - noise * labels) + TRUST) / (float(np.sum(risks[decided])) + TRUST / expected)
    if result.max_risk is not None:
        found = Bound(Rule.LEARNT, result.max_risk + SLACK, result.labels, result.wrong, result.upper)
        return replace(found, price=price, noise=noise)
    compared, doubted = int(np.count_nonzero(inside)), int(np.count_nonzero(doubtful & inside))
    upper = upper_bound(doubted, compared, confidence)
    if lower_bound(errors, labels, policy.confidence) > PRIOR_MOST + noise:
        return Bound(Rule.CLOSED, -1.0, labels, errors, upper, price=price, noise=noise)
    needed = max(1, labels_needed(allowed, 1 - (1 - confidence) / len(STARTS), doubted) - compared)
    return Bound(Rule.PRIOR, strict.max_risk, labels, errors, upper, needed, price, noise)


def latest_of_pair(labelled: Labelled) -> NDArray[np.int64]:
    """Rows that hold the latest label of their pair within their stratum, one with a verdict if there is any, in order
    of time."""
    order = np.lexsort((labelled.time, ~labelled.unsure))[::-1]
    keys = np.stack([labelled.pair[order], labelled.stratum[order].astype(np.int64)])
    _, first = np.unique(keys, axis=1, return_index=True)
    return np.sort(order[first])


def to_json(thresholds: Thresholds) -> str:
    """The thresholds as JSON, the form in which they are stored."""
    return json.dumps(asdict(thresholds), sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Thresholds:
    """The thresholds that `to_json` wrote."""
    raw = json.loads(text)
    bounds = {name: Bound(**{**bound, "rule": Rule(bound["rule"])}) for name, bound in raw.pop("bounds").items()}
    return Thresholds(**raw, bounds=bounds)
