"""Suggests thresholds: the most hits for which labels show that the error budget holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.preview import serves
from dedup_service.policy.recorded import RIGHT, UNLABELLED, Recorded
from dedup_service.policy.risk import STARTS, labels_needed, learn_then_test, upper_bound
from dedup_service.policy.thresholds import Thresholds, latest_of_pair, learn

IMAGE_LADDER = (0.999, 0.99, 0.98, 0.95, 0.9)
"""Image thresholds that are tried, fixed beforehand; for each, question thresholds are tested from strict to loose."""


@dataclass(frozen=True)
class Suggestion:
    """What to set, and what it rests on."""

    reason: str
    """SUGGESTED; TOO_FEW_LABELS; BUDGET_NOT_REACHED when there are enough labels and every threshold fails."""
    policy: Policy
    """The policy with the suggested thresholds; unchanged unless the reason is SUGGESTED."""
    hit_rate_now: float
    """Share of the recorded decisions that the current policy serves, 0 to 1."""
    hit_rate_then: float
    """Share that the suggested static thresholds serve, 0 to 1."""
    labels: int
    """Labels of distinct pairs above the suggested thresholds, or all of them when nothing is suggested."""
    wrong: int
    """Wrong ones among them, those without a verdict included."""
    upper: float
    """Upper confidence bound of their wrong-answer rate, 0 to 1."""
    needed: int
    """How many more labels, all right, would allow a suggestion at the least; 0 when there is one."""
    learnt: Thresholds
    """What VERIFIED mode learns from the same labels, per kind of evidence."""


def suggest(recorded: Recorded, policy: Policy, thresholds: Thresholds, *, time: float) -> Suggestion:
    """The pair of thresholds that serves most of the recorded decisions, among those whose wrong-answer rate stays
    within the policy's budget with its confidence.

    Each image threshold of the ladder starts one fixed sequence over question thresholds (see
    `risk.learn_then_test`); the ladder shares the error probability, so picking the best of what passed keeps the
    confidence. A label without a verdict counts as wrong. Exact repeats count as hits and bring no labels: with them
    the overall rate is lower still. `time` is now, in seconds since the epoch.
    """
    learnt = learn(
        recorded.labelled(cross_language=policy.cross_language), policy, version=thresholds.version + 1, time=time
    )
    total = max(1, len(recorded))
    now = int(np.count_nonzero(serves(recorded, policy, thresholds))) / total
    compared = (recorded.label != UNLABELLED) & ~recorded.exact & recorded.comparable
    scored = np.isfinite(recorded.image_score) & np.isfinite(recorded.question_score) & np.isfinite(recorded.risk)
    rows = recorded.rows(compared & scored & (policy.cross_language | ~recorded.cross_language))
    rows = rows.rows(latest_of_pair(rows.labelled(cross_language=True)))
    wrong = rows.label != RIGHT
    confidence = 1 - (1 - policy.confidence) / len(IMAGE_LADDER)
    best: Suggestion | None = None
    for image_threshold in IMAGE_LADDER:
        above = rows.image_score >= max(image_threshold, policy.image_floor)
        tested = learn_then_test(1 - rows.question_score[above], wrong[above], policy.error_budget, confidence)
        if tested.max_risk is None:
            continue
        question_threshold = max(0.0, round_down(1 - tested.max_risk))
        proposed = replace(policy, image_threshold=image_threshold, question_threshold=question_threshold)
        then = int(np.count_nonzero(serves(recorded, as_static(proposed), thresholds))) / total
        if best is None or then > best.hit_rate_then:
            best = Suggestion("SUGGESTED", proposed, now, then, tested.labels, tested.wrong, tested.upper, 0, learnt)
    if best is not None:
        return best
    count, errors = len(rows), int(np.count_nonzero(wrong))
    level = (1 - confidence) / len(STARTS)
    least = labels_needed(policy.error_budget, 1 - level) if policy.error_budget > 0 else 0
    upper = upper_bound(errors, count, policy.confidence)
    if policy.error_budget <= 0 or count >= least:
        needed = max(1, labels_needed(policy.error_budget, 1 - level, errors) - count) if policy.error_budget > 0 else 0
        return Suggestion("BUDGET_NOT_REACHED", policy, now, now, count, errors, upper, needed, learnt)
    return Suggestion("TOO_FEW_LABELS", policy, now, now, count, errors, upper, least - count, learnt)


def as_static(policy: Policy) -> Policy:
    """The same policy with its thresholds as the whole rule."""
    return replace(policy, mode=Mode.STATIC)


def round_down(probability: float) -> float:
    """A probability cut to nine decimals, so that what passed at the exact value passes at the one that is stored."""
    return float(np.floor(probability * 1e9) / 1e9)
