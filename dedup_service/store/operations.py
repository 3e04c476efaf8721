"""Times every operation on a store, counts those that fail, and makes each a span of the request's trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from askonce import tracing

SECONDS = Histogram(
    "askonce_dedup_store_seconds",
    "Time of one operation on a store, waiting for the store included.",
    ["store", "operation"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
FAILURES = Counter("askonce_dedup_store_failures_total", "Operations on a store that failed.", ["store", "operation"])


@contextmanager
def operation(store: str, name: str) -> Iterator[None]:
    """Measures the block as one operation. `store` is qdrant-edge, qdrant or redis, `name` a method of its port: both
    are labels, so they come from the code, never from a request."""
    started = time.perf_counter()
    try:
        with tracing.span(f"{store} {name}"):
            yield
    except Exception:
        FAILURES.labels(store, name).inc()
        raise
    finally:
        SECONDS.labels(store, name).observe(time.perf_counter() - started)
