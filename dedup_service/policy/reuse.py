"""The decision: may this stored answer be reused? Pure, and it always says why."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from dedup_service.policy.account import affordable
from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.thresholds import Bound, Rule, Thresholds

SAME = "SAME"
DIFFERENT = "DIFFERENT"
UNSURE = "UNSURE"
UNKNOWN = "UNKNOWN"
"""Verdicts on one side: the same, different, can't tell, nothing stored to compare with."""

EXACT_IMAGE_TIERS = frozenset({"BYTES", "PIXELS"})
"""Tiers that take an image to be the same without comparing it."""
EXACT_QUESTION_TIERS = frozenset({"EXACT", "NORMALISED"})
"""Tiers that take a question to be the same without comparing it."""
PIXELS_PROBABILITY = 0.9999
"""Probability that a file with equal decoded pixels is the same image to the model as well: one decoder makes both, and
what a file says besides its pixels is dropped. A prior, until labels of its stratum say otherwise."""
NORMALISED_PROBABILITY = 0.999
"""Probability that two questions of one normal form ask the same. `python -m benchmarks.equality` bounds the share of
meaningful edits that merge; this prior is kept well above that bound, for kinds of edits that nobody thought of, until
labels of its stratum say otherwise."""
JUDGED_FACTOR = 5.0
"""How many times as often a hit is verified that rests on a judge's word alone."""
IMAGE_STRATA = {"BYTES": "exact", "PIXELS": "pixels", "ALIAS": "copy", "PERCEPTUAL": "copy", "NEIGHBOUR": "copy"}
"""The image's half of a stratum's name, by tier."""
QUESTION_STRATA = {
    "EXACT": "exact",
    "NORMALISED": "normalised",
    "KNOWN": "known",
    "JUDGED": "judged",
    "NEIGHBOUR": "scored",
}
"""The question's half of a stratum's name, by tier."""


@dataclass(frozen=True)
class Side:
    """What is known about one of the two questions, "same image?" or "same question?"."""

    verdict: str
    """SAME, DIFFERENT, UNSURE or UNKNOWN."""
    tier: str = ""
    """The tier that settled it. Image: BYTES, PIXELS, ALIAS, PERCEPTUAL, NEIGHBOUR. Question: EXACT, NORMALISED, KNOWN,
    NEIGHBOUR, JUDGED. Empty when nothing was found."""
    probability: float = 0.0
    """Calibrated probability that the two are the same, 0 to 1."""
    reason: str = ""
    """The verdict's own reason, UPPER_SNAKE."""
    vetoed: bool = False
    """Whether a difference was found that forbids reuse whatever the probability."""


@dataclass(frozen=True)
class Reuse:
    """The decision about one candidate."""

    hit: bool
    """Whether the stored answer is to be served."""
    reason: str
    """Why, UPPER_SNAKE. Hits: EXACT, NORMALISED, KNOWN, JUDGED, SCORED. Misses: see `decide`."""
    risk: float
    """Estimated probability that reuse gives a wrong answer, 0 to 1."""
    stratum: str
    """The kind of evidence, such as "copy/known"; empty when there is no candidate."""
    would_hit: bool = False
    """Whether it would have been served but for SHADOW mode; equals `hit` in any other mode."""
    cost: float = 0.0
    """Expected wrong answers, 0 to 1, that a hit takes from the account; 0 for an exact repeat."""


def combine(image: float, question: float) -> float:
    """Risk of reuse from the probabilities that the images and the questions are the same, each 0 to 1.

    The union bound, min(1, (1 - image) + (1 - question)): the greatest probability that either is wrong, however the
    two errors depend on each other (Fréchet 1935). Independence would give slightly less, and nothing warrants it.
    """
    return min(1.0, max(0.0, 1.0 - image) + max(0.0, 1.0 - question))


def stratum_of(image_tier: str, question_tier: str) -> str:
    """The stratum of a pair of tiers, such as "exact/known"; empty when either side found nothing. "exact/exact" is the
    very same request once more: whatever is wrong with it is the model's own doing."""
    image, question = IMAGE_STRATA.get(image_tier, ""), QUESTION_STRATA.get(question_tier, "")
    return f"{image}/{question}" if image and question else ""


def decide(
    image: Side,
    question: Side,
    policy: Policy,
    thresholds: Thresholds,
    *,
    cross_language: bool = False,
    exact_only: bool = False,
    balance: float = math.inf,
) -> Reuse:
    """Decides about one candidate whose tenant and answer space are already the request's own.

    `cross_language` says that the stored question is in another language; `exact_only` that the request takes nothing
    but an exact repeat; `balance` is what the tenant's account holds (see `account`), which only VERIFIED mode asks.
    Reasons of a miss, in the order in which they are tested:

    MODE_OFF; IMAGE_UNKNOWN, IMAGE_LOOKALIKE, IMAGE_UNSURE; QUESTION_UNKNOWN, QUESTION_VETOED, QUESTION_DIFFERENT;
    CROSS_LANGUAGE; NOT_EXACT; IMAGE_BELOW_FLOOR, QUESTION_BELOW_FLOOR; in STATIC mode IMAGE_BELOW_THRESHOLD,
    QUESTION_BELOW_THRESHOLD; else STRATUM_CLOSED (labels showed that this kind of evidence is wrong far too often),
    RISK_OVER_BUDGET, BUDGET_SPENT (the hits so far leave no room for this one's risk); SHADOW. QUESTION_UNSURE stands
    for the question's threshold and for the risk when that was the verdict.

    An unsure image is always a miss. An unsure question is left to its probability: that is what thresholds are for.
    """
    stratum = stratum_of(image.tier, question.tier)
    repeat = is_repeat(image.tier, question.tier)
    exact = image.tier in EXACT_IMAGE_TIERS and question.tier in EXACT_QUESTION_TIERS
    risk = 0.0 if repeat else combine(image.probability, question.probability)

    def miss(reason: str, risk: float = risk) -> Reuse:
        return Reuse(False, reason, risk, stratum)

    if policy.mode is Mode.OFF:
        return miss("MODE_OFF")
    if (reason := forbidden(image, question)) is not None:
        return miss(reason, 1.0)
    if cross_language and not policy.cross_language:
        return miss("CROSS_LANGUAGE")
    cost = 0.0
    if not repeat:
        bound = thresholds.bound(stratum, policy)
        cost = 0.0 if policy.mode is Mode.STATIC else bound.cost(risk)
        if exact_only and not exact:
            return miss("NOT_EXACT")
        if (reason := short_of(image, question, risk, policy, bound)) is not None:
            return miss(reason)
        if policy.mode is not Mode.STATIC and not affordable(cost, balance, policy.error_budget):
            return miss("BUDGET_SPENT")
    if policy.mode is Mode.SHADOW:
        return Reuse(False, "SHADOW", risk, stratum, True, cost)
    return Reuse(True, hit_reason(question.tier, exact), risk, stratum, True, cost)


def is_repeat(image_tier: str, question_tier: str) -> bool:
    """Whether a candidate is the very same request: equal bytes and an equal text. Reuse risks nothing there."""
    return image_tier == "BYTES" and question_tier == "EXACT"


def forbidden(image: Side, question: Side) -> str | None:
    """The reason why no threshold could allow this candidate, or None."""
    if image.verdict == UNKNOWN or not image.tier:
        return "IMAGE_UNKNOWN"
    if image.verdict == DIFFERENT or image.vetoed:
        return "IMAGE_LOOKALIKE"
    if image.verdict != SAME:
        return "IMAGE_UNSURE"
    if question.verdict == UNKNOWN or not question.tier:
        return "QUESTION_UNKNOWN"
    if question.vetoed:
        return "QUESTION_VETOED"
    if question.verdict == DIFFERENT:
        return "QUESTION_DIFFERENT"
    return None


def short_of(image: Side, question: Side, risk: float, policy: Policy, bound: Bound) -> str | None:
    """The reason why this candidate does not reach what the policy asks for, or None."""
    if image.probability < policy.image_floor:
        return "IMAGE_BELOW_FLOOR"
    if question.probability < policy.question_floor:
        return "QUESTION_BELOW_FLOOR"
    unsure = question.verdict == UNSURE
    if policy.mode is Mode.STATIC:
        if image.probability < policy.image_threshold:
            return "IMAGE_BELOW_THRESHOLD"
        if question.probability < policy.question_threshold:
            return "QUESTION_UNSURE" if unsure else "QUESTION_BELOW_THRESHOLD"
        return None
    if bound.rule is Rule.CLOSED:
        return "STRATUM_CLOSED"
    if risk > bound.most:
        return "QUESTION_UNSURE" if unsure else "RISK_OVER_BUDGET"
    return None


def hit_reason(question_tier: str, exact: bool) -> str:
    """The reason of a hit: EXACT, NORMALISED, KNOWN, JUDGED or SCORED.

    A copy of an image with an exactly repeated question has the question's reason too: the image's own tier is in the
    evidence beside it.
    """
    if exact or question_tier in EXACT_QUESTION_TIERS:
        return question_tier
    return "SCORED" if question_tier == "NEIGHBOUR" else question_tier


def exploration(rate: float, *, judged: bool) -> float:
    """The probability with which a hit is drawn for verification, at a policy's `rate` (both 0 to 1).

    A hit that rests on a judge's word alone is drawn `JUDGED_FACTOR` times as often: a judge that is wrong about a pair
    is wrong about it on every image, so one look is worth many. Once an answer has confirmed the pair, it is a hit like
    any other."""
    return min(1.0, rate * (JUDGED_FACTOR if judged else 1.0))


def explored(decision: str, rate: float) -> bool:
    """Whether the hit with this decision id is drawn for verification, with probability `rate` (0 to 1).

    Drawn from the id's hash: reproducible, independent of everything that a client controls, and the same on a retry.
    """
    draw = int.from_bytes(hashlib.blake2b(decision.encode(), digest_size=8, person=b"explore").digest(), "big")
    return draw < rate * 2.0**64
