"""What every test gets: nothing may block the event loop; and a Redis for those that ask for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc.aio
import pytest
import pytest_asyncio
from blockbuster import BlockBuster, blockbuster_ctx
from redis import asyncio as redis

from askonce.redis_client import connect
from benchmarks.servers import MissingServerError, RedisServer

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


@pytest_asyncio.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    """An empty Redis of our own; skips where there is none."""
    server = RedisServer()
    try:
        await server.start()
    except MissingServerError as missing:
        pytest.skip(str(missing))
    yield server
    await server.end()


@pytest_asyncio.fixture
async def redis_client(redis_server: RedisServer) -> AsyncIterator[redis.Redis]:
    """A client of that Redis."""
    client = connect(redis_server.url, 5.0)
    yield client
    await client.aclose()
