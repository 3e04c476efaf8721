"""A running gateway and pictures to ask about."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.gateway.doubles import Running, running


@pytest_asyncio.fixture
async def system() -> AsyncIterator[Running]:
    """A gateway over gRPC between two doubles, with the default settings."""
    async with running() as system:
        yield system
