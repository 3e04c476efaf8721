"""Which part of the wrong answers is the model's own, and which is reuse's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from dedup_service.policy.noise import blame
from dedup_service.policy.policy import Policy
from dedup_service.policy.recorded import RIGHT, UNDECIDED, WRONG, Recorded
from dedup_service.policy.reuse import SAME, Side
from tests.dedup_service.policy.test_preview import record

REPEAT = (Side(SAME, "BYTES", 1.0), Side(SAME, "EXACT", 1.0), False)
KNOWN = (Side(SAME, "BYTES", 1.0), Side(SAME, "KNOWN", 0.999), False)


def traffic(noise: float, reuse: float, seed: int, size: int = 4_000) -> Recorded:
    """Hits, half of them very same requests, every one verified: any comparison errs with `noise`, and the other half
    with `reuse` on top."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(2 * size) < noise
    wrong[size:] |= rng.random(size) < reuse
    verified = np.where(wrong, WRONG, RIGHT).astype(np.int8)
    return replace(unlabelled(size), verified=verified, label=verified.copy())


@cache
def unlabelled(size: int) -> Recorded:
    """So many hits of either kind before anyone looked at them."""
    return record([REPEAT] * size + [KNOWN] * size, Policy())


@pytest.mark.parametrize(("noise", "reuse"), [(0.05, 0.0), (0.05, 0.02), (0.0, 0.02), (0.0, 0.0)])
def test_each_part_is_told_from_the_other(noise: float, reuse: float) -> None:
    """With 5 % noisy answers and no wrong reuse, the model has the blame and reuse is bounded near nothing; the bounds
    hold the truth in nearly every run."""
    held = 0
    for seed in range(20):
        recorded = traffic(noise, reuse, seed)
        found = blame(recorded, recorded.would_hit, 0.95)
        truth = 0.5 * reuse * (1 - noise)
        held += found.model.low <= noise <= found.model.high and found.reuse.low <= truth <= found.reuse.high
        assert found.reuse.high < truth + 0.02
        assert (found.repeats, found.others) == (4_000, 4_000)
    assert held >= 18


def test_what_was_not_verified_may_be_all_wrong() -> None:
    """Without verified repeats nothing is the model's for sure; without verified reuse all of it may be wrong."""
    recorded = record([REPEAT] * 10 + [KNOWN] * 30, Policy())
    found = blame(recorded, recorded.would_hit, 0.95)
    assert (found.model.low, found.model.high) == (0.0, 1.0)
    assert (found.reuse.low, found.reuse.high) == (0.0, 0.75)


def test_no_verdict_counts_against_both_ends() -> None:
    """A comparison without a verdict widens the interval upwards only."""
    recorded = record([REPEAT] * 100 + [KNOWN] * 100, Policy())
    recorded.verified[:] = RIGHT
    recorded.verified[150:160] = UNDECIDED
    recorded.label[:] = recorded.verified
    found = blame(recorded, recorded.would_hit, 0.95)
    assert found.reuse.low == found.reuse.mid == 0.0
    assert found.reuse.high > 0.05


def test_nothing_served_is_nobodys() -> None:
    """With no hits there is nothing to part."""
    recorded = record([KNOWN], Policy())
    assert blame(recorded, np.zeros(1, np.bool_), 0.95).reuse.high == 0.0
