"""Operations on a store are timed, and counted when they fail."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from dedup_service.store.operations import operation


def shown(name: str, operation: str) -> float:
    """A sample of the operations' metrics."""
    return REGISTRY.get_sample_value(f"askonce_dedup_store_{name}", {"store": "test", "operation": operation}) or 0.0


def test_what_ends_well_is_timed() -> None:
    """One observation an operation, no failure."""
    with operation("test", "count"):
        pass
    assert (shown("seconds_count", "count"), shown("failures_total", "count")) == (1, 0)


def test_what_fails_is_timed_and_counted() -> None:
    """The error goes on to the caller."""
    with pytest.raises(OSError, match="away"), operation("test", "put"):
        raise OSError("away")
    assert (shown("seconds_count", "put"), shown("failures_total", "put")) == (1, 1)


def test_a_caller_that_leaves_is_no_failure() -> None:
    """A cancelled call says nothing about the store."""
    with pytest.raises(asyncio.CancelledError), operation("test", "page"):
        raise asyncio.CancelledError
    assert (shown("seconds_count", "page"), shown("failures_total", "page")) == (1, 0)
