"""A running gateway and pictures to ask about."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis import asyncio as redis

from askonce.redis_client import connect
from benchmarks.servers import MissingServerError, RedisServer
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RedisServer]:
    """A Redis of our own; skips where there is none."""
    server = RedisServer()
    try:
        await server.__aenter__()
    except MissingServerError as missing:
        pytest.skip(str(missing))
    yield server
    await server.__aexit__(None, None, None)


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: RedisServer) -> AsyncIterator[redis.Redis]:
    """A client of that Redis, which is empty."""
    client = connect(server.url, 5.0)
    await client.flushall()
    yield client
    await client.aclose()
