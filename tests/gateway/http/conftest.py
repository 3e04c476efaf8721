"""A running gateway with its HTTP edge."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from gateway.settings import Edge, Settings
from tests.gateway.doubles import Running, running


@pytest_asyncio.fixture
async def web() -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A gateway with its HTTP edge, and a client."""
    async with running(Settings(edge=Edge(listen="127.0.0.1:0"))) as system:
        assert system.gateway.http is not None
        base = f"http://{system.gateway.http.address}"
        async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as client:
            yield system, client
