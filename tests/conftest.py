"""What every test gets: nothing may block the event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

OURS = ["askonce", "gateway", "dedup_service", "inference_service"]


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fails a test in which our own code blocks the event loop with file, socket, sleep or database calls."""
    with blockbuster_ctx(OURS) as guard:
        yield guard
