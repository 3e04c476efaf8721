"""The statistics behind the error budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from dedup_service.policy.risk import (
    Interval,
    Sample,
    clopper_pearson,
    estimate,
    labels_needed,
    learn_then_test,
    lower_bound,
    upper_bound,
)


@given(st.integers(0, 300), st.integers(1, 300), st.floats(0.5, 0.999))
def test_clopper_pearson_matches_an_independent_implementation(wrong: int, total: int, confidence: float) -> None:
    """The interval equals SciPy's exact binomial interval."""
    wrong = min(wrong, total)
    found = clopper_pearson(wrong, total, confidence)
    exact = binomtest(wrong, total).proportion_ci(confidence, method="exact")
    assert found.low == pytest.approx(exact.low, abs=1e-6)
    assert found.high == pytest.approx(exact.high, abs=1e-6)


def test_nothing_observed_bounds_nothing() -> None:
    """Without observations the rate may be anything."""
    assert clopper_pearson(0, 0) == Interval(0.0, 0.0, 1.0)
    assert upper_bound(0, 0, 0.95) == 1.0
    assert lower_bound(0, 10, 0.95) == 0.0
    assert upper_bound(10, 10, 0.95) == 1.0


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("total", [10, 70, 400])
def test_one_sided_bound_covers_at_any_size(rate: float, total: int) -> None:
    """The exact probability that the 95 % upper bound lies below the true rate is at most 5 %, for small samples
    too."""
    missed = sum(binom.pmf(k, total, rate) for k in range(total + 1) if upper_bound(k, total, 0.95) < rate)
    assert missed <= 0.05 + 1e-9


@given(st.sampled_from([0.002, 0.01, 0.05]), st.sampled_from([0.9, 0.95, 0.99]), st.integers(0, 20))
def test_labels_needed_is_the_least_number_that_passes(budget: float, confidence: float, wrong: int) -> None:
    """With so many labels the bound lies within the budget, with one less it does not."""
    needed = labels_needed(budget, confidence, wrong)
    assert upper_bound(wrong, needed, confidence) <= budget + 1e-9
    assert upper_bound(wrong, needed - 1, confidence) > budget


def test_the_rule_of_299() -> None:
    """A bound of 1 % at 95 % takes 299 labels when all are right, and 473 with one wrong."""
    assert labels_needed(0.01, 0.95) == 299
    assert labels_needed(0.01, 0.95, 1) == 473


def draw(rng: np.random.Generator, count: int, excess: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates whose true risk is `excess` times the estimated one: risks, true risks, labels."""
    risks = rng.beta(0.5, 20, count)
    true = np.clip(risks * excess, 0, 1)
    return risks, true, rng.random(count) < true


@pytest.mark.slow
@pytest.mark.parametrize("excess", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("budget", [0.002, 0.01, 0.05])
def test_learnt_thresholds_break_the_budget_no_more_often_than_promised(excess: float, budget: float) -> None:
    """Over 600 sets of labels, the true rate at the learnt threshold exceeds the budget in at most 5 % of them, whether
    the estimated risks are too high, right, or three times too low."""
    rng = np.random.default_rng(7)
    fresh, fresh_true, _ = draw(rng, 200_000, excess)
    order = np.argsort(fresh)
    rate = np.cumsum(fresh_true[order]) / np.arange(1, len(order) + 1)
    broken = 0
    for _ in range(600):
        risks, _, wrong = draw(rng, 1_500, excess)
        found = learn_then_test(risks, wrong, budget, 0.95)
        if found.max_risk is not None:
            at = np.searchsorted(fresh[order], found.max_risk, side="right") - 1
            broken += bool(at >= 0 and rate[at] > budget)
    assert broken <= binom.ppf(0.999, 600, 0.05)


def test_more_labels_and_a_larger_budget_open_more() -> None:
    """The learnt threshold grows with the budget, and with the number of labels from none to a useful one."""
    rng = np.random.default_rng(3)
    risks, _, wrong = draw(rng, 20_000, 1.0)
    by_budget = [learn_then_test(risks, wrong, budget, 0.95).max_risk or 0.0 for budget in (0.002, 0.01, 0.05)]
    assert by_budget == sorted(by_budget)
    assert by_budget[0] < by_budget[-1]
    assert learn_then_test(risks[:200], wrong[:200], 0.01, 0.95).max_risk is None
    assert learn_then_test(risks, wrong, 0.01, 0.95).max_risk is not None


def test_equal_risks_stand_or_fall_together() -> None:
    """Candidates of one risk can't be told apart by a threshold: half of them being wrong closes all."""
    risks = np.full(2_000, 0.01)
    wrong = np.arange(2_000) >= 1_000
    assert learn_then_test(risks, wrong, 0.01, 0.95).max_risk is None
    assert learn_then_test(risks, np.zeros(2_000, bool), 0.01, 0.95).max_risk == pytest.approx(0.01)


def test_a_wrong_label_among_the_first_does_not_end_everything() -> None:
    """One wrong label at the strictest end is survived by the sequences that begin later."""
    risks = np.linspace(0, 0.2, 6_000)
    wrong = np.zeros(6_000, bool)
    wrong[10] = True
    assert learn_then_test(risks, wrong, 0.01, 0.95).max_risk == pytest.approx(0.2)


def test_bad_budgets_learn_nothing() -> None:
    """A budget of zero or no labels at all gives no threshold."""
    assert learn_then_test(np.zeros(1_000), np.zeros(1_000, bool), 0.0, 0.95).max_risk is None
    assert learn_then_test(np.zeros(0), np.zeros(0, bool), 0.01, 0.95).max_risk is None


def test_one_rate_pools_to_clopper_pearson() -> None:
    """Parts drawn at one rate are one binomial sample."""
    parts = [Sample(1_000, 9, 1), Sample(2_000, 20, 0)]
    assert estimate(parts) == Interval(*(getattr(clopper_pearson(1, 30), end) for end in ("low", "mid", "high")))


def test_the_estimate_weighs_parts_by_what_they_stand_for() -> None:
    """A part labelled throughout does not outweigh a part labelled sparsely: 9,000 answers at 10 % and 1,000 at 50
    %."""
    found = estimate([Sample(9_000, 90, 10), Sample(1_000, 500, 500)])
    assert found.mid == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)
    assert found.low < found.mid < found.high


@pytest.mark.parametrize("rates", [(0.0, 0.3), (0.005, 0.02), (0.01, 0.01), (0.1, 0.0)])
@pytest.mark.parametrize("drawn", [(70, 400), (20, 400), (300, 60)])
def test_the_weighted_interval_covers(rates: tuple[float, float], drawn: tuple[int, int]) -> None:
    """Over 1,500 repetitions with two sampling rates, the 95 % interval misses the truth in at most 5 %, up to
    chance."""
    rng = np.random.default_rng(11)
    populations = (6_000, 800)
    truth = sum(p * r for p, r in zip(populations, rates, strict=True)) / sum(populations)
    missed = 0
    for _ in range(1_500):
        wrong = [int(rng.binomial(n, r)) for n, r in zip(drawn, rates, strict=True)]
        parts = [Sample(p, n - w, w) for p, n, w in zip(populations, drawn, wrong, strict=True)]
        found = estimate(parts)
        missed += not found.low <= truth <= found.high
    assert missed <= binom.ppf(0.999, 1_500, 0.05)


def test_no_verdict_widens_both_ways() -> None:
    """A comparison without verdict may be right or wrong: it raises the upper end and lowers the lower one."""
    certain = estimate([Sample(1_000, 90, 10)])
    unsure = estimate([Sample(1_000, 90, 10, 20)])
    assert unsure.high > certain.high
    assert unsure.low < certain.low
    assert unsure.mid == pytest.approx(certain.mid)


def test_an_unseen_part_may_be_anything() -> None:
    """Half of the answers never verified: the upper end says that they may all be wrong."""
    found = estimate([Sample(500, 50, 0), Sample(500, 0, 0)])
    assert found.high >= 0.5
    assert found.low == 0.0
    assert estimate([]) == Interval(0.0, 0.0, 1.0)
    assert estimate([Sample(500, 0, 0)]) == Interval(0.0, 0.0, 1.0)


@settings(max_examples=200)
@given(
    st.lists(
        st.builds(Sample, st.integers(1, 10_000), st.integers(0, 500), st.integers(0, 100), st.integers(0, 50)),
        max_size=6,
    )
)
def test_an_interval_is_always_an_interval(parts: list[Sample]) -> None:
    """Whatever was counted, 0 <= low <= mid <= high <= 1."""
    found = estimate(parts)
    assert 0 <= found.low <= found.mid <= found.high <= 1


@pytest.mark.parametrize("verified_when_busy", [0.0, 0.3, 1.0])
def test_the_estimate_covers_when_wrongness_goes_with_load(verified_when_busy: float) -> None:
    """Hits of busy moments are ten times as often wrong and often can't be verified: counted as undecided, the interval
    holds the truth; left out, as if they had not been drawn, it does not."""
    chance = np.random.default_rng(5)
    covered = left_out = 0
    for _ in range(200):
        busy = chance.random(20_000) < 0.5
        wrong = chance.random(20_000) < np.where(busy, 0.10, 0.01)
        drawn = chance.random(20_000) < 0.05
        seen = drawn & (~busy | (chance.random(20_000) < verified_when_busy))
        right, bad, unsure = (int(np.count_nonzero(part)) for part in (seen & ~wrong, seen & wrong, drawn & ~seen))
        truth = wrong.mean()
        whole, part = (estimate([Sample(20_000, right, bad, each)]) for each in (unsure, 0))
        covered += whole.low <= truth <= whole.high
        left_out += part.low <= truth <= part.high
    assert covered >= 190 - 10
    if not verified_when_busy:
        assert left_out < 20
