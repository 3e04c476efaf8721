"""Previews: another policy on the decisions on record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_service.policy.account import CREDIT, entered
from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.preview import preview, serves
from dedup_service.policy.recorded import FORBIDDEN, RIGHT, UNLABELLED, WRONG, Recorded
from dedup_service.policy.reuse import (
    DIFFERENT,
    SAME,
    UNSURE,
    Side,
    decide,
    is_repeat,
    stratum_of,
)
from dedup_service.policy.thresholds import PRIOR, Bound, Rule, Thresholds

Candidate = tuple[Side, Side, bool]


def record(candidates: list[Candidate], policy: Policy, thresholds: Thresholds = PRIOR) -> Recorded:
    """What the ledger would hold after `policy` decided on the candidates, without labels."""
    made = [decide(image, question, policy, thresholds, cross_language=cross) for image, question, cross in candidates]
    strata = ("", *sorted({reuse.stratum for reuse in made} - {""}))
    return Recorded(
        id=np.array([f"{n:032x}" for n in range(len(made))]).astype(np.bytes_),
        time=np.arange(len(made), dtype=float),
        hit=np.array([reuse.hit for reuse in made], bool),
        would_hit=np.array([reuse.would_hit for reuse in made], bool),
        exact=np.array([is_repeat(i.tier, q.tier) for i, q, _ in candidates], bool),
        open=np.array([reuse.reason not in FORBIDDEN for reuse in made], bool),
        cross_language=np.array([cross for _, _, cross in candidates], bool),
        image_score=np.array([i.probability for i, _, _ in candidates], float),
        question_score=np.array([q.probability for _, q, _ in candidates], float),
        risk=np.array([reuse.risk for reuse in made], float),
        stratum=np.array([strata.index(reuse.stratum) for reuse in made], np.int32),
        strata=strata,
        pair=np.arange(len(made), dtype=np.int64),
        propensity=np.where([reuse.would_hit for reuse in made], policy.exploration_rate, 0.0),
        verified=np.full(len(made), UNLABELLED, np.int8),
        label=np.full(len(made), UNLABELLED, np.int8),
    )


sides = st.floats(0, 1).map(lambda p: round(p, 3))
candidates = st.tuples(
    st.builds(
        Side,
        verdict=st.sampled_from([SAME, SAME, SAME, DIFFERENT, UNSURE]),
        tier=st.sampled_from(["BYTES", "PIXELS", "PERCEPTUAL", "NEIGHBOUR"]),
        probability=sides,
    ),
    st.builds(
        Side,
        verdict=st.sampled_from([SAME, SAME, UNSURE, DIFFERENT]),
        tier=st.sampled_from(["EXACT", "NORMALISED", "KNOWN", "NEIGHBOUR", "JUDGED"]),
        probability=sides,
        vetoed=st.booleans(),
    ),
    st.booleans(),
)
learnt = st.dictionaries(
    st.sampled_from([stratum_of(i, q) for i in ("BYTES", "NEIGHBOUR") for q in ("NORMALISED", "KNOWN", "NEIGHBOUR")]),
    st.one_of(st.floats(0, 0.5).map(lambda risk: Bound(Rule.LEARNT, risk)), st.just(Bound(Rule.CLOSED, -1.0))),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(candidates, min_size=1, max_size=30),
    learnt,
    st.sampled_from(Mode),
    sides,
    sides,
    sides,
    st.booleans(),
)
def test_columns_decide_as_the_decision_does(
    rows: list[Candidate],
    bounds: dict[str, Bound],
    mode: Mode,
    threshold: float,
    question: float,
    floor: float,
    cross: bool,
) -> None:
    """For any evidence and any policy, deciding a column of records again gives what deciding one by one gives."""
    thresholds = Thresholds(1, 0.0, 0.01, 0.95, bounds)
    recorded = record(rows, Policy())
    proposed = Policy(
        mode=mode,
        image_threshold=threshold,
        question_threshold=question,
        question_floor=floor,
        cross_language=cross,
    )
    expected, balance = [], CREDIT
    for image, asked, other in rows:
        reuse = decide(image, asked, proposed, thresholds, cross_language=other, balance=balance)
        expected.append(reuse.hit)
        if reuse.hit and mode is Mode.VERIFIED:
            balance = entered(balance, reuse.cost, proposed.error_budget)
    assert serves(recorded, proposed, thresholds).tolist() == expected


def hits_and_near_misses() -> Recorded:
    """1,000 exact hits, 400 known hits at risk 0.005, 600 scored misses at risk 0.06 of which a tenth are wrong."""
    rows: list[Candidate] = [(Side(SAME, "BYTES", 1.0), Side(SAME, "EXACT", 1.0), False)] * 1_000
    rows += [(Side(SAME, "BYTES", 1.0), Side(SAME, "KNOWN", 0.995), False)] * 400
    rows += [(Side(SAME, "BYTES", 1.0), Side(SAME, "NEIGHBOUR", 0.94), False)] * 600
    recorded = record(rows, Policy())
    recorded.label[1_400:] = np.where(np.arange(600) % 10 == 0, WRONG, RIGHT)
    recorded.verified[0:1_400:10] = RIGHT
    recorded.label[0:1_400:10] = RIGHT
    return recorded


def test_loosening_shows_more_hits_and_what_they_cost() -> None:
    """A looser policy turns the near-misses into hits, and the preview knows how many of them were wrong."""
    found = preview(
        hits_and_near_misses(),
        Policy(),
        Policy(mode=Mode.STATIC, question_threshold=0.9),
        PRIOR,
    )
    assert (found.hits_now, found.hits_then, found.to_hit, found.to_miss) == (1_400, 2_000, 600, 0)
    assert found.wrong_now.mid == 0
    assert found.wrong_then.low < 60 / 2_000 < found.wrong_then.high
    assert found.wrong_then.mid == pytest.approx(60 / 2_000)
    assert found.labelled_then == 740


def test_tightening_shows_lost_hits_and_no_new_ones() -> None:
    """A budget of zero keeps the exact hits alone."""
    found = preview(hits_and_near_misses(), Policy(), Policy(error_budget=0), PRIOR)
    assert (found.hits_then, found.to_miss, found.to_hit) == (1_000, 400, 0)
    assert found.hit_rate_then == 0.5


def test_examples_begin_with_what_is_known_to_be_wrong() -> None:
    """The first examples of flips are those that would have served a wrong answer."""
    recorded = hits_and_near_misses()
    found = preview(recorded, Policy(), Policy(mode=Mode.STATIC, question_threshold=0.9), PRIOR, examples=70)
    wrong = {recorded.id[n].decode() for n in range(1_400, 2_000, 10)}
    assert set(found.examples[:60]) == wrong
    assert len(found.examples) == 70


def test_what_records_can_not_tell_is_said() -> None:
    """A change that needs evidence to be gathered anew is named, not judged."""
    found = preview(hits_and_near_misses(), Policy(), Policy(phash_distance=7, protected_terms=("tax",)), PRIOR)
    assert found.not_previewed == ("phash_distance", "protected_terms")


def test_an_empty_ledger_previews_nothing() -> None:
    """Without decisions there is nothing to say, and the wrong-answer rate may be anything."""
    found = preview(record([], Policy()), Policy(), Policy(mode=Mode.STATIC), PRIOR)
    assert (found.decisions, found.hit_rate_then, found.wrong_then.high) == (0, 0.0, 1.0)
