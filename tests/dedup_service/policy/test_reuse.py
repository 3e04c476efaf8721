"""The decision about one candidate."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.policy.policy import Mode, Policy, Tightening, tighten
from dedup_service.policy.reuse import (
    DIFFERENT,
    NORMALISED_PROBABILITY,
    PIXELS_PROBABILITY,
    SAME,
    UNKNOWN,
    UNSURE,
    Reuse,
    Side,
    combine,
    decide,
    exploration,
    explored,
    stratum_of,
)
from dedup_service.policy.thresholds import PRIOR, Bound, Rule, Thresholds

BYTES = Side(SAME, "BYTES", 1.0)
COPY = Side(SAME, "NEIGHBOUR", 0.999)
SAME_TEXT = Side(SAME, "EXACT", 1.0)
SAME_SPELLING = Side(SAME, "NORMALISED", NORMALISED_PROBABILITY)
KNOWN = Side(SAME, "KNOWN", 0.995)
SCORED = Side(SAME, "NEIGHBOUR", 0.85)

verdicts = st.sampled_from([SAME, DIFFERENT, UNSURE, UNKNOWN])
images = st.builds(
    Side,
    verdict=verdicts,
    tier=st.sampled_from(["", "BYTES", "PIXELS", "PERCEPTUAL", "NEIGHBOUR"]),
    probability=st.floats(0, 1),
)
questions = st.builds(
    Side,
    verdict=verdicts,
    tier=st.sampled_from(["", "EXACT", "NORMALISED", "KNOWN", "NEIGHBOUR", "JUDGED"]),
    probability=st.floats(0, 1),
    vetoed=st.booleans(),
)


def learnt(stratum: str, max_risk: float, rule: Rule = Rule.LEARNT, budget: float = 0.01) -> Thresholds:
    """Thresholds with one stratum."""
    return Thresholds(1, 0.0, budget, 0.95, {stratum: Bound(rule, max_risk)})


@pytest.mark.parametrize(
    ("image", "question", "reason"),
    [
        (Side(UNKNOWN), Side(UNKNOWN), "IMAGE_UNKNOWN"),
        (Side(DIFFERENT, "NEIGHBOUR", 0.99), SAME_TEXT, "IMAGE_LOOKALIKE"),
        (Side(UNSURE, "PERCEPTUAL", 0.999), SAME_TEXT, "IMAGE_UNSURE"),
        (BYTES, Side(UNKNOWN), "QUESTION_UNKNOWN"),
        (BYTES, Side(SAME, "NEIGHBOUR", 1.0, vetoed=True), "QUESTION_VETOED"),
        (BYTES, Side(SAME, "KNOWN", 1.0, vetoed=True), "QUESTION_VETOED"),
        (BYTES, Side(DIFFERENT, "NEIGHBOUR", 0.99), "QUESTION_DIFFERENT"),
        (BYTES, SCORED, "RISK_OVER_BUDGET"),
        (BYTES, Side(UNSURE, "NEIGHBOUR", 0.9), "QUESTION_UNSURE"),
        (Side(SAME, "NEIGHBOUR", 0.9), SAME_TEXT, "RISK_OVER_BUDGET"),
        (Side(SAME, "NEIGHBOUR", 0.97), Side(SAME, "NEIGHBOUR", 0.97), "RISK_OVER_BUDGET"),
    ],
)
def test_every_miss_has_its_reason(image: Side, question: Side, reason: str) -> None:
    """A miss names the first thing that stands in the way, at the shipped defaults."""
    assert decide(image, question, Policy(), PRIOR).reason == reason
    assert not decide(image, question, Policy(), PRIOR).hit


@pytest.mark.parametrize(
    ("image", "question", "reason", "risk"),
    [
        (BYTES, Side(SAME, "EXACT", 1.0), "EXACT", 0.0),
        (Side(SAME, "PIXELS", PIXELS_PROBABILITY), SAME_TEXT, "EXACT", 0.0001),
        (BYTES, SAME_SPELLING, "NORMALISED", 0.001),
        (COPY, SAME_TEXT, "EXACT", 0.001),
        (BYTES, KNOWN, "KNOWN", 0.005),
        (COPY, KNOWN, "KNOWN", 0.006),
        (BYTES, Side(SAME, "JUDGED", 0.99), "JUDGED", 0.01),
        (BYTES, Side(SAME, "NEIGHBOUR", 0.97), "SCORED", 0.03),
    ],
)
def test_hits_within_the_prior(image: Side, question: Side, reason: str, risk: float) -> None:
    """Before there are labels, a candidate is served when its calibrated risk lies within five budgets."""
    reuse = decide(image, question, Policy(), PRIOR)
    assert (reuse.hit, reuse.reason) == (True, reason)
    assert reuse.risk == pytest.approx(risk)


@given(images, questions, st.sampled_from([Mode.STATIC, Mode.VERIFIED]), st.booleans())
def test_forbidden_evidence_is_never_served(image: Side, question: Side, mode: Mode, exact_only: bool) -> None:
    """No probability and no mode overrides a veto, a different or unsure image, a different question, or nothing
    found."""
    policy = Policy(mode=mode, image_threshold=0, question_threshold=0, error_budget=0.5)
    loose = learnt(stratum_of(image.tier, question.tier), 2.0, budget=0.5)
    reuse = decide(image, question, policy, loose, exact_only=exact_only)
    if reuse.hit:
        assert image.verdict == SAME
        assert question.verdict in (SAME, UNSURE)
        assert not question.vetoed
        assert image.tier
        assert question.tier
    assert reuse.reason.isupper()


@given(images, questions)
def test_off_serves_nothing(image: Side, question: Side) -> None:
    """With mode OFF not even an exact repeat is served."""
    assert decide(image, question, Policy(mode=Mode.OFF), PRIOR).reason == "MODE_OFF"


@given(images, questions)
def test_shadow_decides_as_verified_and_serves_nothing(image: Side, question: Side) -> None:
    """SHADOW withholds exactly what VERIFIED would serve, with the same risk, and gives the same reasons for misses."""
    verified = decide(image, question, Policy(), PRIOR)
    shadow = decide(image, question, Policy(mode=Mode.SHADOW), PRIOR)
    assert not shadow.hit
    assert shadow.would_hit == verified.hit
    assert shadow.reason == ("SHADOW" if verified.hit else verified.reason)
    assert shadow.risk == verified.risk


@given(images, questions, st.floats(0.98, 1), st.floats(0.98, 1))
def test_a_tightened_request_hits_no_more(image: Side, question: Side, first: float, second: float) -> None:
    """Whatever a request's limits, it never gets a hit that the policy alone would refuse."""
    for thresholds in (PRIOR, learnt(stratum_of(image.tier, question.tier), 0.3)):
        plain = decide(image, question, Policy(), thresholds)
        tightened = decide(image, question, tighten(Policy(), Tightening(first, second)), thresholds)
        assert plain.hit or not tightened.hit


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_static_thresholds_are_the_whole_rule(image: float, question: float, threshold: float) -> None:
    """In STATIC mode exactly the two thresholds decide; a threshold of 0 is 0."""
    policy = Policy(mode=Mode.STATIC, image_threshold=threshold, question_threshold=0.0)
    reuse = decide(Side(SAME, "NEIGHBOUR", image), Side(SAME, "NEIGHBOUR", question), policy, PRIOR)
    assert reuse.hit == (image >= threshold)
    asked = Side(SAME, "NEIGHBOUR", question)
    assert decide(BYTES, asked, Policy(mode=Mode.STATIC), PRIOR).hit == (question >= 0.95)


def test_static_misses_name_the_threshold() -> None:
    """In STATIC mode a miss says which of the two thresholds was not reached."""
    static = Policy(mode=Mode.STATIC)
    assert decide(BYTES, SCORED, static, PRIOR).reason == "QUESTION_BELOW_THRESHOLD"
    assert decide(Side(SAME, "NEIGHBOUR", 0.9), KNOWN, static, PRIOR).reason == "IMAGE_BELOW_THRESHOLD"


def test_a_hit_must_be_affordable() -> None:
    """A hit that costs more than the account and its own budget hold is a miss; an exact repeat costs nothing; labels
    that make a kind of evidence dearer make it unaffordable sooner; STATIC mode keeps no account."""
    risky = Side(SAME, "KNOWN", 0.97)
    assert decide(BYTES, risky, Policy(), PRIOR, balance=0.025).hit
    assert decide(BYTES, risky, Policy(), PRIOR, balance=0.0249).reason == "BUDGET_SPENT"
    assert decide(BYTES, SAME_TEXT, Policy(), PRIOR, balance=0.0) == Reuse(True, "EXACT", 0.0, "exact/exact", True)
    dearer = Thresholds(1, 0.0, 0.01, 0.95, {"exact/known": Bound(Rule.PRIOR, 0.05, price=1.5)})
    assert decide(BYTES, risky, Policy(), dearer, balance=0.039).reason == "BUDGET_SPENT"
    assert decide(BYTES, risky, Policy(), dearer, balance=0.0401).cost == pytest.approx(0.045)
    twice = Thresholds(1, 0.0, 0.01, 0.95, {"exact/known": Bound(Rule.PRIOR, 0.05, price=2.0)})
    assert decide(BYTES, risky, Policy(), twice).reason == "RISK_OVER_BUDGET"
    assert decide(BYTES, risky, Policy(mode=Mode.STATIC), PRIOR, balance=0.0).hit


def test_what_is_taken_for_equal_has_a_risk_of_its_own() -> None:
    """One normal form, or equal pixels in another file, is a kind of evidence like any other: it has a stratum, costs
    what its prior says, is served at once, and is closed when labels show it wrong. Only the very same request risks
    nothing."""
    pixels = Side(SAME, "PIXELS", PIXELS_PROBABILITY)
    for image, question, stratum in (
        (BYTES, SAME_SPELLING, "exact/normalised"),
        (pixels, SAME_TEXT, "pixels/exact"),
        (pixels, SAME_SPELLING, "pixels/normalised"),
    ):
        reuse = decide(image, question, Policy(), PRIOR, exact_only=True)
        assert reuse.hit
        assert reuse.stratum == stratum
        assert reuse.cost == pytest.approx(reuse.risk)
        assert 0 < reuse.risk < 0.005
        closed = Thresholds(1, 0.0, 0.01, 0.95, {stratum: Bound(Rule.CLOSED, -1.0)})
        assert decide(image, question, Policy(), closed).reason == "STRATUM_CLOSED"
    closed = Thresholds(1, 0.0, 0.01, 0.95, {"exact/exact": Bound(Rule.CLOSED, -1.0)})
    assert decide(BYTES, SAME_TEXT, Policy(), closed).hit


def test_learnt_thresholds_replace_the_prior() -> None:
    """A learnt stratum is served up to its own risk, above or below what the prior allows."""
    assert decide(BYTES, SCORED, Policy(), learnt("exact/scored", 0.1500001)).reason == "SCORED"
    assert decide(BYTES, SCORED, Policy(), learnt("exact/scored", 0.05)).reason == "RISK_OVER_BUDGET"
    assert decide(BYTES, SCORED, Policy(), learnt("exact/known", 0.2)).reason == "RISK_OVER_BUDGET"
    assert decide(BYTES, KNOWN, Policy(), learnt("exact/known", 0.001)).reason == "RISK_OVER_BUDGET"


def test_a_closed_stratum_serves_nothing() -> None:
    """Evidence that labels showed to break the budget is not served at any risk."""
    perfect = Side(SAME, "KNOWN", 1.0)
    closed = learnt("copy/known", -1.0, Rule.CLOSED)
    assert decide(COPY, perfect, Policy(), closed).reason == "STRATUM_CLOSED"
    assert decide(BYTES, SAME_TEXT, Policy(), closed).hit


def test_thresholds_for_a_larger_budget_do_not_apply() -> None:
    """Thresholds learnt for 5 % say nothing about a budget of 1 %, nor those for 95 % about a confidence of 99 %."""
    five = learnt("exact/scored", 0.2, budget=0.05)
    assert decide(BYTES, SCORED, Policy(error_budget=0.05), five).hit
    assert not decide(BYTES, SCORED, Policy(error_budget=0.01), five).hit
    assert not decide(BYTES, SCORED, Policy(error_budget=0.05, confidence=0.99), five).hit


def test_a_budget_of_zero_serves_exact_repeats_only() -> None:
    """With no budget for errors, only the very same request is served."""
    policy = Policy(error_budget=0)
    assert decide(BYTES, SAME_TEXT, policy, PRIOR).hit
    assert not decide(BYTES, SAME_SPELLING, policy, PRIOR).hit
    assert not decide(BYTES, Side(SAME, "KNOWN", 1.0), policy, PRIOR).hit
    assert not decide(Side(SAME, "NEIGHBOUR", 1.0), SAME_TEXT, policy, PRIOR).hit


def test_floors_hold_whatever_was_learnt() -> None:
    """A floor stops what a learnt threshold would let through."""
    thresholds = learnt("exact/scored", 0.5)
    assert decide(BYTES, SCORED, Policy(), thresholds).hit
    assert decide(BYTES, SCORED, Policy(question_floor=0.86), thresholds).reason == "QUESTION_BELOW_FLOOR"


def test_languages_cross_only_when_allowed() -> None:
    """An answer to a Chinese question serves an English one only if the policy says so."""
    assert decide(BYTES, KNOWN, Policy(), PRIOR, cross_language=True).reason == "CROSS_LANGUAGE"
    assert decide(BYTES, KNOWN, Policy(cross_language=True), PRIOR, cross_language=True).hit


def test_exact_only_takes_nothing_else() -> None:
    """A request for exact repeats gets no copy and no known paraphrase."""
    assert decide(COPY, SAME_TEXT, Policy(), PRIOR, exact_only=True).reason == "NOT_EXACT"
    assert decide(BYTES, KNOWN, Policy(), PRIOR, exact_only=True).reason == "NOT_EXACT"
    assert decide(BYTES, SAME_TEXT, Policy(), PRIOR, exact_only=True).hit


@given(st.floats(0, 1), st.floats(0, 1))
def test_risk_is_the_union_bound(image: float, question: float) -> None:
    """The combined risk is never below either error's probability, nor below what independence would give."""
    risk = combine(image, question)
    assert max(1 - image, 1 - question) - 1e-12 <= risk <= 1
    assert risk >= 1 - image * question - 1e-12


def test_a_riskier_candidate_is_never_served_instead_of_a_safer_one() -> None:
    """With equal tiers, lowering a probability never turns a miss into a hit."""
    thresholds = learnt("copy/scored", 0.03)
    hits = [
        decide(dataclasses.replace(COPY, probability=p / 1000), Side(SAME, "NEIGHBOUR", 0.99), Policy(), thresholds).hit
        for p in range(1001)
    ]
    assert hits == sorted(hits)
    assert any(hits)


def test_exploration_draws_its_share() -> None:
    """The draw follows the rate, is the same for the same decision, and takes none at 0 and all at 1."""
    ids = [f"{n:032x}" for n in range(20_000)]
    assert 0.045 < sum(explored(i, 0.05) for i in ids) / len(ids) < 0.055
    assert [explored(i, 0.05) for i in ids[:50]] == [explored(i, 0.05) for i in ids[:50]]
    assert not any(explored(i, 0.0) for i in ids)
    assert all(explored(i, 1.0) for i in ids)


def test_a_judges_word_is_verified_more_often() -> None:
    """What rests on a judge alone is drawn at five times the rate, never above 1; a rate of 0 stays 0."""
    assert exploration(0.01, judged=False) == 0.01
    assert exploration(0.01, judged=True) == pytest.approx(0.05)
    assert exploration(0.5, judged=True) == 1.0
    assert exploration(0.0, judged=True) == 0.0


def test_reuse_is_a_plain_value() -> None:
    """Two decisions on the same evidence are equal."""
    assert decide(BYTES, KNOWN, Policy(), PRIOR) == decide(BYTES, KNOWN, Policy(), PRIOR)
    assert isinstance(decide(BYTES, KNOWN, Policy(), PRIOR), Reuse)
