"""What every test gets: nothing may block the event loop."""

from __future__ import annotations

from collections.abc import Iterator

import grpc.aio
import pytest
from blockbuster import BlockBuster, blockbuster_ctx

OURS = ["askonce", "gateway", "dedup_service", "inference_service"]


@pytest.fixture(scope="session", autouse=True)
def poller() -> None:
    """Keeps gRPC's poller for the whole run. It would end, which blocks, whenever the garbage collector finds the last
    object of a test that is over, and that may be in the middle of another one."""
    grpc.aio.init_grpc_aio()


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fails a test in which our own code blocks the event loop with file, socket, sleep or database calls."""
    with blockbuster_ctx(OURS) as guard:
        yield guard
