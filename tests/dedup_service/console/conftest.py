"""The command line runs an event loop for itself alone: nothing else waits for it, so it may block."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def blockbuster() -> None:
    """Stands in for the guard that every other test gets."""
