"""Seconds survive the way into a message and back."""

from __future__ import annotations

import pytest

from askonce.times import to_duration, to_seconds, to_timestamp


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.5, -3.125, 1_764_000_000.5])
def test_there_and_back(seconds: float) -> None:
    """A length of time and a moment come back as they went in."""
    assert to_seconds(to_duration(seconds)) == seconds
    assert to_seconds(to_timestamp(seconds)) == seconds
