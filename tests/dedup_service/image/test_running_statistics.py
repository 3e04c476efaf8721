"""Statistics taken one by one, or in parts that are merged, are those of all samples together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.image.running_statistics import RunningStatistics


def taken(samples: np.ndarray, seen: np.ndarray) -> RunningStatistics:
    statistics = RunningStatistics.empty(samples.shape[1])
    for sample, where in zip(samples, seen, strict=True):
        statistics = statistics.merge(RunningStatistics.of(sample, where))
    return statistics


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(0, 20))
def test_merging_is_adding_up(seed: int, count: int, cut: int) -> None:
    """However samples are parted and in whichever order the parts are merged, mean and variance are the same."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(3, 2, (count, 7)).astype(np.float32)
    seen = rng.random((count, 7)) < 0.7
    one, other = taken(samples[:cut], seen[:cut]), taken(samples[cut:], seen[cut:])
    for merged in (one.merge(other), other.merge(one)):
        for cell in range(7):
            there = samples[seen[:, cell], cell].astype(np.float64)
            assert merged.count[cell] == len(there)
            if len(there):
                assert abs(merged.mean[cell] - there.mean()) < 1e-4
                assert abs(merged.variance()[cell] - there.var()) < 1e-3


def test_what_nobody_saw_is_nothing() -> None:
    """A cell that no sample shows has no mean and no variance, and does not become infinite."""
    statistics = taken(np.ones((2, 3), np.float32), np.zeros((2, 3), bool))
    assert statistics.samples == 0
    assert not statistics.mean.any()
    assert not statistics.variance().any()
