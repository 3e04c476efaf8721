"""What the report draws."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_service.audit.curves import calibration, drift, over_time, score_histograms, shares, sweep
from dedup_service.policy.policy import Policy
from dedup_service.policy.recorded import RIGHT, UNLABELLED, WRONG
from dedup_service.policy.thresholds import PRIOR
from tests.dedup_service.audit.columns import traffic_of


def test_slots_hold_every_decision_once() -> None:
    """Requests and hits over time add up, and the curve stays short."""
    hit = np.arange(1_000) % 3 == 0
    width, slots = over_time(traffic_of(1_000, hit=hit, time=np.linspace(0, 6e5, 1_000)))
    assert len(slots) <= 57
    assert sum(slot.requests for slot in slots) == 1_000
    assert sum(slot.exact + slot.copies + slot.rephrased for slot in slots) == int(hit.sum())
    assert all(slot.start % width == 0 for slot in slots)


def test_latency_of_an_empty_slot_is_not_zero() -> None:
    """Where nothing was timed there is no value."""
    _, slots = over_time(traffic_of(2, lookup_ms=[np.nan, 4.0], time=[0, 3_000]))
    assert slots[0].p50_ms is None
    assert slots[-1].p50_ms == 4.0


def test_labels_speak_about_one_side() -> None:
    """Image scores are shown only where the question was repeated exactly, question scores only on the same file."""
    traffic = traffic_of(
        3, image_tier=["PERCEPTUAL", "BYTES", "PERCEPTUAL"], question_tier=["EXACT", "NEIGHBOUR", "NEIGHBOUR"],
        label=np.array([RIGHT, WRONG, WRONG]),
    )  # fmt: skip
    found = score_histograms(traffic)
    assert (sum(found["image"].same), sum(found["image"].different)) == (1, 0)
    assert (sum(found["question"].same), sum(found["question"].different)) == (0, 1)


def test_sweep_trades_hits_for_wrong_answers() -> None:
    """A looser threshold serves more and is wrong more often, and known rates come out."""
    draw = np.random.default_rng(3)
    size = 6_000
    score = draw.random(size) * 0.5 + 0.5
    wrong = draw.random(size) > score
    traffic = traffic_of(
        size, risk=1 - score, hit=np.zeros(size, bool), label=np.where(wrong, WRONG, RIGHT),
        reason=["QUESTION_BELOW_THRESHOLD"] * size,
    )  # fmt: skip
    points = sweep(traffic, Policy(), PRIOR)
    rates = [point.hit_rate for point in points]
    assert rates == sorted(rates, reverse=True)
    at = next(point for point in points if point.question_threshold == 0.9)
    assert at.hit_rate == pytest.approx(float((score >= 0.9).mean()))
    assert at.wrong.mid == pytest.approx(float(wrong[score >= 0.9].mean()))
    assert at.wrong.low <= at.wrong.mid <= at.wrong.high


def test_calibration_shows_overconfidence() -> None:
    """Where risks of 3 % are wrong a quarter of the time, the bin says so."""
    label = np.where(np.arange(400) % 4 == 0, WRONG, RIGHT)
    traffic = traffic_of(400, risk=np.full(400, 0.03), hit=np.zeros(400, bool), label=label)
    found = calibration(traffic, 0.95)
    assert len(found) == 1
    assert found[0].mean_risk == pytest.approx(0.03)
    assert found[0].observed.mid == pytest.approx(0.25)


def test_drift_wants_a_difference_that_matters() -> None:
    """The same scores don't drift; shifted ones do; a tiny shift of many is called steady; a popular pair counts
    once."""
    draw = np.random.default_rng(1)

    def period(shift: float, size: int = 3_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = np.clip(draw.beta(8, 2, size) - shift, 0, 1)
        return np.arange(size), scores, scores

    steady, moved, tiny = period(0.0), period(0.15), period(0.005)
    assert not any(each.drifted for each in drift(steady, period(0.0)))
    assert all(each.drifted for each in drift(moved, steady))
    assert not any(each.drifted for each in drift(tiny, steady))
    popular = (np.zeros(5_000, np.int64), np.full(5_000, 0.1), np.full(5_000, 0.1))
    mixed = tuple(np.concatenate(parts) for parts in zip(steady, popular, strict=True))
    assert not any(each.drifted for each in drift((mixed[0], mixed[1], mixed[2]), steady))


def test_shares_of_tenants() -> None:
    """Each tenant's part, the largest first, with its own estimate."""
    tenant = ["acme"] * 30 + ["globex"] * 10
    verified = np.where(np.arange(40) < 30, RIGHT, UNLABELLED)
    traffic = traffic_of(40, tenant=tenant, verified=verified)
    found = shares(traffic, traffic.tenant.code, traffic.tenant.words, 0.95)
    assert [each.name for each in found] == ["acme", "globex"]
    assert found[0].verified == 30
    assert found[1].wrong.high == 1.0
    assert found[0].saved_seconds == 30.0
