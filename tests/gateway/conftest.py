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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Running]:
    """One gateway for all of these tests: every one of them also proves that it survived the one before."""
    async with running() as system:
        yield system
