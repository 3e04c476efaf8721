"""The calibrated score."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.question.score import (
    FEATURES,
    MOST_LIKELY,
    Calibration,
    Labelled,
    QuestionEvidence,
    fit_calibration,
    gather,
    logit,
    sigmoid,
)
from dedup_service.question.veto import Veto

PRIOR = Calibration.prior()
ALIKE = QuestionEvidence(cosine=0.6, model=0.5)


def probability(evidence: QuestionEvidence) -> float:
    return PRIOR.score(evidence).probability


def test_cold_only_equal_readings_are_served() -> None:
    """Without labels and without a judge no likeness suffices, an equal reading does; never across languages."""
    assert probability(ALIKE) < PRIOR.serve_at
    assert probability(replace(ALIKE, agrees=True)) >= PRIOR.serve_at
    assert PRIOR.score(replace(ALIKE, agrees=True)).reason == "SAME_READING"
    sure = replace(ALIKE, model=MOST_LIKELY)
    assert probability(sure) < PRIOR.serve_at
    assert probability(replace(sure, same_language=False)) <= 0.5
    assert probability(replace(sure, exchanged=True)) < PRIOR.serve_at
    assert probability(replace(sure, cosine=math.nan)) < PRIOR.serve_at
    assert PRIOR.score(gather("Total?", "total", math.nan)).reason == "SAME_TEXT"
    assert probability(gather("What's the total?", "please tell me the total amount", 0.9)) >= PRIOR.serve_at


def test_a_veto_overrules_everything() -> None:
    """Neither an approving judge nor memory serves a vetoed pair, and the reason names the veto."""
    evidence = gather("amount before tax", "amount after tax", 0.99, known=8.0, judge=0.999)
    score = PRIOR.score(evidence)
    assert score.probability < 0.01
    assert score.reason == "VETO_OPPOSITE"


def test_judge_and_memory_decide_between_alike_questions() -> None:
    """A confident judge or a known intent serves what likeness alone does not; their refusal stops it."""
    assert probability(ALIKE) < PRIOR.serve_at
    assert PRIOR.score(replace(ALIKE, judge=0.98)).reason == "JUDGED_SAME"
    assert probability(replace(ALIKE, judge=0.98)) >= PRIOR.serve_at
    assert PRIOR.score(replace(ALIKE, known=5.0)).reason == "KNOWN_SAME"
    assert probability(replace(ALIKE, known=5.0)) >= PRIOR.serve_at
    refused = PRIOR.score(replace(ALIKE, agrees=True, known=-5.0))
    assert refused.probability < PRIOR.serve_at
    assert refused.reason == "KNOWN_DIFFERENT"


def test_no_witness_is_certain() -> None:
    """A judge that says 1.0 counts no more than its bound."""
    assert probability(replace(ALIKE, judge=1.0)) == probability(replace(ALIKE, judge=0.9999))


def test_questions_in_two_languages_are_not_served_cold() -> None:
    """Likeness across languages is no equal reading."""
    score = PRIOR.score(gather("what is the total", "总金额是多少", 0.95))
    assert score.reason == "OTHER_LANGUAGE"
    assert score.probability < PRIOR.serve_at


@given(st.floats(-12, 12), st.floats(-12, 12))
def test_more_alike_never_scores_less(one: float, other: float) -> None:
    """The score rises with the pair model's log-odds."""
    low, high = sorted((one, other))
    assert PRIOR.score(replace(ALIKE, model=high)).log_odds >= PRIOR.score(replace(ALIKE, model=low)).log_odds - 1e-9


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("我脸上有很多痣，怎么办", "我脸上有很多痘痘，怎么办"),
        ("I broke my phone. What can I do?", "I broke my leg. What can I do?"),
        ("He gave 5 to Ann and 7 to Bob, what is left?", "He gave 7 to Ann and 5 to Bob, what is left?"),
        ("My flight was cancelled, how do I get my money back?", "My order was cancelled, how do I get my money back?"),
    ],
)
def test_a_story_may_be_what_is_asked_about(one: str, other: str) -> None:
    """Questions that differ in what is told beside them never agree by their readings: cold, they are not served."""
    evidence = gather(one, other, 0.99)
    assert not evidence.agrees
    assert probability(evidence) < PRIOR.serve_at


def test_a_greeting_is_no_story() -> None:
    """A greeting says nothing, and keeps no two readings apart."""
    assert gather("Hi there! What is the total?", "what is the total amount", 0.9).agrees
    assert gather("您好，总金额是多少", "总额多少", 0.9).agrees


def test_other_differences_can_be_outvoted() -> None:
    """A difference that is no veto weighs; a judge together with what is known outweighs it."""
    evidence = gather("Could I see how many guests came", "what was the number of visitors", 0.6)
    assert not evidence.vetoes
    doubtful = replace(evidence, differences=(Veto("ANSWER_KIND", "see", "number"),), model=-1.0)
    assert probability(doubtful) < PRIOR.serve_at
    assert probability(replace(doubtful, judge=0.98, known=4.6)) >= PRIOR.serve_at


def test_unreadable_text_has_no_cosine() -> None:
    """Without vectors the score rests on the words, and stays finite."""
    score = PRIOR.score(gather("ᚠᚢᚦ is what", "ᚠᚢᚦ was when", math.nan))
    assert math.isfinite(score.log_odds)


def test_a_calibration_survives_json() -> None:
    """What is stored in the ledger is what is restored."""
    assert Calibration.from_dict(json.loads(json.dumps(PRIOR.to_dict()))) == PRIOR


def test_a_falling_curve_is_refused() -> None:
    """A stored calibration that would punish likeness is not loaded."""
    broken = PRIOR.to_dict()
    broken["slopes"]["model"][0] = -1.0
    with pytest.raises(ValueError, match="model"):
        Calibration.from_dict(broken)
    malformed = PRIOR.to_dict()
    malformed["slopes"]["model"] = []
    with pytest.raises(ValueError, match="model"):
        Calibration.from_dict(malformed)


def labels(count: int) -> list[Labelled]:
    """Labels that the pair model explains: same above 0, different below."""
    return [Labelled(replace(ALIKE, model=8.0 * at / count - 4.0), same=at / count > 0.5) for at in range(count)]


def test_labels_move_the_score() -> None:
    """Many labels teach the curve; a fitted score separates what the labels separate and stays monotone."""
    fitted = fit_calibration(labels(600), version="fit-1")
    low, high = (fitted.score(replace(ALIKE, model=model)).probability for model in (-3.0, 3.0))
    assert low < 0.2
    assert high > 0.8
    assert fitted.labels == 600
    assert Calibration.from_dict(fitted.to_dict()) == fitted
    assert all(slope >= 0 for slopes in fitted.slopes.values() for slope in slopes)


def test_few_labels_move_it_little() -> None:
    """A handful of labels leaves the prior nearly as it is."""
    fitted = fit_calibration(labels(6), strength=100.0)
    for model in (-3.0, 0.0, 3.0):
        evidence = replace(ALIKE, model=model)
        assert fitted.similarity_log_odds(evidence) == pytest.approx(PRIOR.similarity_log_odds(evidence), abs=0.6)


def test_nothing_to_fit_is_an_error() -> None:
    """Without a usable label there is no calibration to speak of; vetoed pairs are no labels."""
    with pytest.raises(ValueError, match="no usable label"):
        fit_calibration([Labelled(gather("is it red", "is it blue", 0.9), False)])


def test_features_lie_between_zero_and_one() -> None:
    """Every similarity is a share."""
    evidence = gather("how many red cars are there", "count the red vehicles please", 0.93)
    assert all(0.0 <= value(evidence) <= 1.0 for value in FEATURES.values())


@given(st.floats(-30, 30))
def test_log_odds_and_probability_are_inverse(value: float) -> None:
    """sigmoid undoes logit within its bounds."""
    bounded = max(-20.0, min(20.0, value))
    assert logit(sigmoid(bounded)) == pytest.approx(bounded, abs=1e-3)


def test_what_forms_an_intent_has_weighed_the_unlikeness_already() -> None:
    """Evidence in favour that suffices to merge stands by itself, however unlike the texts; a judge's word against it
    still counts, and evidence against adds to what the texts say."""
    unlike = replace(ALIKE, model=-8.0, known=5.0)
    assert PRIOR.score(unlike).log_odds == pytest.approx(5.0)
    assert PRIOR.score(replace(unlike, judge=0.02)).log_odds < 2.0
    assert PRIOR.score(replace(unlike, known=-5.0)).log_odds < PRIOR.score(replace(unlike, known=None)).log_odds
