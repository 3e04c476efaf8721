"""What the gateway measures."""

from __future__ import annotations

from prometheus_client import REGISTRY

from gateway.metrics import Interval


def observed() -> tuple[float, float]:
    """Number and sum of the intervals between requests."""
    name = "askonce_gateway_request_interval_seconds"
    return REGISTRY.get_sample_value(f"{name}_count") or 0.0, REGISTRY.get_sample_value(f"{name}_sum") or 0.0


def test_interval_is_the_time_between_two_requests() -> None:
    """The first request has none before it; each later one is measured from the one before."""
    count, total = observed()
    interval = Interval()
    for moment in (10.0, 10.5, 12.5):
        interval.tick(moment)
    after = observed()
    assert (after[0] - count, round(after[1] - total, 6)) == (2, 2.5)
