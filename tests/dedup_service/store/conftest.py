"""A store of every kind, and a time that tests set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dedup_service.store.qdrant_server import ServerMemory, ServerPoints
from dedup_service.store.repository import PointMemory
from tests.dedup_service.store.memories import (
    LAYOUT,
    OPTIONS,
    Clock,
    edge_memory,
)
from tests.dedup_service.store.servers import STORES, client_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
async def memory(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[PointMemory]:
    opened: PointMemory
    if request.param == "edge":
        opened = edge_memory(tmp_path, clock)
    else:
        opened = ServerMemory(ServerPoints(await client_of(request.param), LAYOUT, OPTIONS), clock)
    await opened.start()
    yield opened
    await opened.close()
