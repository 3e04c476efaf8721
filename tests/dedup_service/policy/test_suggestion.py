"""Suggested thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_service.policy.policy import Policy
from dedup_service.policy.preview import serves
from dedup_service.policy.recorded import RIGHT, WRONG, Recorded
from dedup_service.policy.reuse import SAME, Side
from dedup_service.policy.suggestion import as_static, suggest
from dedup_service.policy.thresholds import PRIOR
from tests.dedup_service.policy.test_preview import record


def near_misses(count: int, seed: int = 1, *, wrong_below: float = 0.9) -> Recorded:
    """Labelled candidates on equal images: right above a question score, wrong half of the time below it."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.5, 1, count)
    recorded = record([(Side(SAME, "BYTES", 1.0), Side(SAME, "NEIGHBOUR", float(s)), False) for s in scores], Policy())
    recorded.label[:] = np.where((scores < wrong_below) & (rng.random(count) < 0.5), WRONG, RIGHT)
    return recorded


@pytest.mark.slow
def test_the_suggestion_finds_where_answers_turn_wrong() -> None:
    """With labels that turn wrong below 0.9, the suggested threshold lies a little below it at most, and the rate
    that it gives on fresh traffic keeps the budget."""
    found = suggest(near_misses(8_000), Policy(), PRIOR, time=0.0)
    assert found.reason == "SUGGESTED"
    assert 0.88 < found.policy.question_threshold < 0.93
    assert found.upper <= 0.01
    assert found.hit_rate_then > found.hit_rate_now
    fresh = near_misses(15_000, seed=2)
    served = serves(fresh, as_static(found.policy), PRIOR)
    assert np.mean(fresh.label[served] == WRONG) <= 0.01


def test_too_few_labels_say_how_many_are_missing() -> None:
    """Fewer labels than any test could pass with: no suggestion, and the number that is missing."""
    found = suggest(near_misses(100), Policy(), PRIOR, time=0.0)
    assert (found.reason, found.policy) == ("TOO_FEW_LABELS", Policy())
    assert found.needed > 200
    more = suggest(near_misses(100 + found.needed, wrong_below=0.0), Policy(), PRIOR, time=0.0)
    assert more.reason == "SUGGESTED"


def test_enough_labels_that_fail_are_another_matter() -> None:
    """When answers are wrong at every score, more labels would not help, and the reason says so."""
    found = suggest(near_misses(8_000, wrong_below=1.0), Policy(), PRIOR, time=0.0)
    assert found.reason == "BUDGET_NOT_REACHED"
    assert found.policy == Policy()


def test_a_larger_budget_suggests_more_hits() -> None:
    """The suggested hit rate grows with the budget."""
    recorded = near_misses(8_000)
    rates = [
        suggest(recorded, Policy(error_budget=budget), PRIOR, time=0.0).hit_rate_then for budget in (0.005, 0.02, 0.1)
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_no_budget_and_no_records() -> None:
    """A budget of zero can't be shown to hold by labels; an empty ledger has too few of them."""
    assert suggest(near_misses(500), Policy(error_budget=0), PRIOR, time=0.0).reason == "BUDGET_NOT_REACHED"
    assert suggest(record([], Policy()), Policy(), PRIOR, time=0.0).reason == "TOO_FEW_LABELS"
