"""The hot tier answers exact repeats for a while, and forgets what it is told to forget: in process and in Redis."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis import asyncio as redis

from dedup_service.store.exact_cache import ExactCache, ExactKey, InProcessExactCache, NoExactCache
from dedup_service.store.exact_cache_redis import RedisExactCache
from dedup_service.store.records import Entry, MemoryUnavailableError

ENTRY = Entry(
    id="e1",
    tenant="acme",
    image="i1",
    space="s1",
    question="总额?",
    normal="总额",
    language="zh",
    answer=b"\x00\xff",
    answer_text="9",
    model="m",
    model_revision="",
    create_time=0.0,
    hot_until=100.0,
    expire_time=1_000.0,
    last_use=0.0,
    tags=("a",),
)
KEY = ExactKey("acme", "aa", "s1", "总额")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["process", pytest.param("redis", marks=pytest.mark.slow)])
async def exact_cache(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ExactCache]:
    if request.param == "process":
        yield InProcessExactCache(Clock())
        return
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed; Debian's package of that name has it")
    socket = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    server = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(socket))
    for _ in range(200):
        if await asyncio.to_thread(socket.exists):
            break
        await asyncio.sleep(0.02)
    tier = RedisExactCache(client, Clock())
    try:
        yield tier
    finally:
        await tier.close()
        server.terminate()
        await server.wait()


async def test_an_entry_comes_back_whole(exact_cache: ExactCache) -> None:
    """What is kept is what was put, bytes and Chinese text included."""
    await exact_cache.put(KEY, ENTRY)
    assert await exact_cache.get(KEY) == ENTRY
    assert await exact_cache.get(replace(KEY, normal="另一个")) is None


async def test_a_dropped_entry_is_gone_under_every_key(exact_cache: ExactCache) -> None:
    """Removing a wrong answer removes it for every file and spelling that led to it."""
    other = replace(KEY, byte_digest="bb")
    await exact_cache.put(KEY, ENTRY)
    await exact_cache.put(other, ENTRY)
    await exact_cache.drop("acme", frozenset(["e1"]))
    assert await exact_cache.get(KEY) is None
    assert await exact_cache.get(other) is None


async def test_dropping_a_tenant_leaves_the_others(exact_cache: ExactCache) -> None:
    """A purge of one tenant touches no other, and later entries of the tenant are kept again."""
    theirs = replace(KEY, tenant="globex")
    await exact_cache.put(KEY, ENTRY)
    await exact_cache.put(theirs, replace(ENTRY, id="e2", tenant="globex"))
    await exact_cache.drop("acme")
    assert await exact_cache.get(KEY) is None
    assert await exact_cache.get(theirs) is not None
    later = replace(ENTRY, create_time=time.time() + 1)
    await exact_cache.put(KEY, later)
    assert await exact_cache.get(KEY) == later


@pytest.mark.parametrize("entries", [frozenset(["e1"]), None])
async def test_what_was_dropped_is_not_brought_back(exact_cache: ExactCache, entries: frozenset[str] | None) -> None:
    """A look-up that read an entry before it was removed can't put it back afterwards; a newer answer under the same
    id is kept."""
    await exact_cache.put(KEY, ENTRY)
    await exact_cache.drop("acme", entries, before=time.time())
    await exact_cache.put(KEY, ENTRY)
    assert await exact_cache.get(KEY) is None
    newer = replace(ENTRY, create_time=time.time() + 1)
    await exact_cache.put(KEY, newer)
    assert await exact_cache.get(KEY) == newer


async def test_an_entry_cools_down() -> None:
    """Past `hot_until` an entry is no longer served from the hot tier."""
    clock = Clock()
    exact_cache = InProcessExactCache(clock)
    await exact_cache.put(KEY, ENTRY)
    clock.now = 100.0
    assert await exact_cache.get(KEY) is None


async def test_it_is_bounded() -> None:
    """However many requests come, no more keys than stated are kept."""
    exact_cache = InProcessExactCache(Clock(), keys=10)
    for number in range(1_000):
        await exact_cache.put(replace(KEY, normal=str(number)), replace(ENTRY, id=str(number)))
    assert (len(exact_cache.ids), len(exact_cache.entries)) == (10, 10)


async def test_without_a_hot_tier_nothing_is_kept() -> None:
    """Replicas without a shared tier ask the store every time."""
    exact_cache = NoExactCache()
    await exact_cache.put(KEY, ENTRY)
    assert await exact_cache.get(KEY) is None


@pytest.mark.parametrize("call", ["get", "put"])
async def test_a_tier_that_is_away_costs_no_answer(call: str, unused_tcp_port_factory: Callable[[], int]) -> None:
    """Without Redis reading finds nothing and keeping is given up, both soon; dropping says that it failed."""
    exact_cache = await asyncio.to_thread(RedisExactCache.connect, f"redis://127.0.0.1:{unused_tcp_port_factory()}/0")
    started = time.monotonic()
    if call == "get":
        assert await exact_cache.get(KEY) is None
    else:
        await exact_cache.put(KEY, replace(ENTRY, hot_until=time.time() + 60))
    assert time.monotonic() - started < 2
    with pytest.raises(MemoryUnavailableError):
        await exact_cache.drop("acme", frozenset(["e1"]))
    await exact_cache.close()
