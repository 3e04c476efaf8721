"""The estimate of the wrong-answer rate, and which hits to label for it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dedup_service.audit.sampling import Accuracy, accuracy, cells, draw_of, gate, next_to_label, note_of
from dedup_service.policy.recorded import RIGHT, UNDECIDED, UNLABELLED, WRONG
from dedup_service.policy.risk import Interval
from tests.dedup_service.audit.columns import traffic_of


def explored(truth: np.ndarray, rate: float, draw: np.random.Generator) -> np.ndarray:
    """The labels of a random share of the hits."""
    return np.where(draw.random(len(truth)) < rate, np.where(truth, WRONG, RIGHT), UNLABELLED)


@pytest.mark.parametrize("rate", [0.002, 0.01, 0.05])
def test_exploration_covers_the_truth(rate: float) -> None:
    """With hits verified at random, the 95 % interval holds the true rate at least nineteen times out of twenty."""
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        truth = draw.random(5_000) < rate
        found = accuracy(traffic_of(5_000, verified=explored(truth, 0.1, draw), propensity=np.full(5_000, 0.1)), 0.95)
        covered += found.interval.low <= truth.mean() <= found.interval.high
    assert covered >= 190


@pytest.mark.parametrize("unverified", [0.0, 0.3, 1.0])
def test_the_estimate_covers_the_truth_when_busy_moments_are_the_wrong_ones(unverified: float) -> None:
    """Answers go wrong far more often while the engine is busy. However many of the hits drawn then end unverified, the
    interval holds the true rate: they count as possibly wrong. Leaving them out, as dropping what finds the engine busy
    would, puts the whole interval below the truth."""
    draw = np.random.default_rng(12)
    covered, naive, size = 0, 0, 4_000
    for _ in range(100):
        busy = np.sin(np.arange(size) / 40) > 0.4
        truth = draw.random(size) < np.where(busy, 0.08, 0.002)
        verified = explored(truth, 0.2, draw)
        lost = (verified != UNLABELLED) & busy & (draw.random(size) < unverified)
        for labels, count in (
            (np.where(lost, UNDECIDED, verified), True),
            (np.where(busy, UNLABELLED, verified), False),
        ):
            found = accuracy(traffic_of(size, verified=labels, propensity=np.full(size, 0.2)), 0.95).interval
            inside = found.low <= truth.mean() <= found.high
            covered += inside and count
            naive += inside and not count
    assert covered >= 94
    assert naive == 0


@pytest.mark.slow
def test_labels_of_people_keep_the_estimate_unbiased() -> None:
    """Where people label what the plan shows, risky hits far more often than others, the estimate stays centred on the
    truth and its interval covers it; the plain share of wrong labels would be far off."""
    draw = np.random.default_rng(8)
    size, errors, naive, covered = 3_000, [], [], 0
    for _ in range(60):
        risk = np.where(draw.random(size) < 0.1, 0.04, 0.001)
        truth = draw.random(size) < risk * 2
        verified = explored(truth, 0.02, draw)
        traffic = traffic_of(size, risk=risk, verified=verified)
        rows = [row for row, _, _ in next_to_label(traffic, 300)]
        people = np.zeros(size, bool)
        people[rows] = True
        verified = np.where(people, np.where(truth, WRONG, RIGHT), verified)
        found = accuracy(traffic_of(size, risk=risk, verified=verified, by_person=people), 0.95)
        errors.append(found.interval.mid - truth.mean())
        naive.append(truth[verified != UNLABELLED].mean() - truth.mean())
        covered += found.interval.low <= truth.mean() <= found.interval.high
    standard_error = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) < 3 * standard_error + 1e-4
    assert np.mean(naive) > 0.005
    assert covered >= 56


def test_stopping_early_leaves_a_random_sample() -> None:
    """Whoever stops after a part of a cell has labelled its first hits in the order of the draw, which knows nothing
    but the ids."""
    traffic = traffic_of(500)
    rows = [row for row, _, _ in next_to_label(traffic, 60)]
    expected = sorted(range(500), key=lambda row: draw_of(traffic.recorded.id[row].decode()))[:60]
    assert rows == expected


def test_labels_go_where_they_narrow_the_interval() -> None:
    """Hits that look risky are shown more often than their share; safe ones are shown all the same."""
    risk = np.where(np.arange(2_000) % 10 == 0, 0.04, 0.0015)
    rows = np.array([row for row, _, _ in next_to_label(traffic_of(2_000, risk=risk), 100)])
    risky = np.mean(risk[rows] > 0.01)
    assert 0.2 < risky < 0.9
    assert np.unique(risk[rows]).size == 2


def test_a_picked_label_notes_no_draw() -> None:
    """The note tells a random draw, with its cell and share, from a pair that was picked by hand."""
    assert json.loads(note_of(0.25, "draw=0.01 risk=3")) == {
        "draw": "random", "cell": "draw=0.01 risk=3", "propensity": 0.25,
    }  # fmt: skip
    assert "propensity" not in json.loads(note_of(None, ""))


def test_nothing_verified_is_not_nothing_wrong() -> None:
    """Without a verified hit the interval is everything, and the method says so."""
    found = accuracy(traffic_of(100), 0.95)
    assert found.interval == Interval(0.0, 0.0, 1.0)
    assert found.upper == 1.0
    assert found.blind == 1.0
    assert "nothing is known" in found.method


def test_a_comparison_without_verdict_counts_against_both_ends() -> None:
    """It may have been right, for the lower end, or wrong, for the upper."""
    verified = np.full(200, RIGHT)
    verified[:20] = UNDECIDED
    unsure = accuracy(traffic_of(200, verified=verified), 0.95)
    sure = accuracy(traffic_of(200, verified=np.full(200, RIGHT)), 0.95)
    assert unsure.unsure == 20
    assert unsure.interval.low == 0.0
    assert unsure.upper > 0.1 > sure.upper


def test_two_exploration_rates_are_weighted() -> None:
    """After a change of the rate, hits drawn at the old one stand for as many as they should."""
    size = 4_000
    propensity = np.where(np.arange(size) < 2_000, 0.5, 0.05)
    wrong = np.arange(size) % 10 == 0
    wrong[:2_000] = False
    drawn = (np.arange(size) < 1_000) | ((np.arange(size) >= 2_000) & (np.arange(size) % 2_000 < 100))
    verified = np.where(drawn, np.where(wrong, WRONG, RIGHT), UNLABELLED)
    found = accuracy(traffic_of(size, verified=verified, propensity=propensity), 0.95)
    assert found.interval.mid == pytest.approx(0.05, abs=1e-9)
    assert len(cells(traffic_of(size, propensity=propensity), np.ones(size, bool), by_risk=False)) == 2


def judged(verified: int, wrong: int) -> Accuracy:
    """The estimate after so many verified hits."""
    labels = np.full(verified, RIGHT)
    labels[:wrong] = WRONG
    return accuracy(traffic_of(verified, verified=labels), 0.95)


@pytest.mark.parametrize(
    ("verified", "wrong", "code", "reason"),
    [
        (299, 0, 0, "BOUND_HOLDS"),
        (298, 0, 3, "TOO_FEW_LABELS"),
        (1_000, 30, 1, "BOUND_BROKEN"),
        (20, 20, 1, "BOUND_BROKEN"),
        (100, 1, 3, "TOO_FEW_LABELS"),
        (400, 2, 3, "TOO_FEW_LABELS"),
    ],
)
def test_gate(verified: int, wrong: int, code: int, reason: str) -> None:
    """The gate opens when the bound holds (299 right labels show 1 % with 95 %), breaks when the estimate itself lies
    above with labels enough or the lower bound does, and else asks for more labels."""
    assert gate(judged(verified, wrong), 0.01) == (code, reason)


def test_gate_with_a_budget_of_zero_is_never_passed() -> None:
    """No sample can show that nothing is ever wrong."""
    assert gate(judged(1_000, 0), 0.0)[0] == 3
    assert gate(replace(judged(1_000, 1)), 0.0)[0] == 1
