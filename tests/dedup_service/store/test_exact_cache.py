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

from dedup_service.store.exact_cache import Hot, HotKey, NoHot, ProcessHot
from dedup_service.store.exact_cache_redis import RedisHot
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
KEY = HotKey("acme", "aa", "s1", "总额")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["process", pytest.param("redis", marks=pytest.mark.slow)])
async def hot(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hot]:
    if request.param == "process":
        yield ProcessHot(Clock())
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
    tier = RedisHot(client, Clock())
    try:
        yield tier
    finally:
        await tier.close()
        server.terminate()
        await server.wait()


async def test_an_entry_comes_back_whole(hot: Hot) -> None:
    """What is kept is what was put, bytes and Chinese text included."""
    await hot.put(KEY, ENTRY)
    assert await hot.get(KEY) == ENTRY
    assert await hot.get(replace(KEY, normal="另一个")) is None


async def test_a_dropped_entry_is_gone_under_every_key(hot: Hot) -> None:
    """Removing a wrong answer removes it for every file and spelling that led to it."""
    other = replace(KEY, byte_digest="bb")
    await hot.put(KEY, ENTRY)
    await hot.put(other, ENTRY)
    await hot.drop("acme", frozenset(["e1"]))
    assert await hot.get(KEY) is None
    assert await hot.get(other) is None


async def test_dropping_a_tenant_leaves_the_others(hot: Hot) -> None:
    """A purge of one tenant touches no other, and later entries of the tenant are kept again."""
    theirs = replace(KEY, tenant="globex")
    await hot.put(KEY, ENTRY)
    await hot.put(theirs, replace(ENTRY, id="e2", tenant="globex"))
    await hot.drop("acme")
    assert await hot.get(KEY) is None
    assert await hot.get(theirs) is not None
    later = replace(ENTRY, create_time=time.time() + 1)
    await hot.put(KEY, later)
    assert await hot.get(KEY) == later


@pytest.mark.parametrize("entries", [frozenset(["e1"]), None])
async def test_what_was_dropped_is_not_brought_back(hot: Hot, entries: frozenset[str] | None) -> None:
    """A look-up that read an entry before it was removed can't put it back afterwards; a newer answer under the same
    id is kept."""
    await hot.put(KEY, ENTRY)
    await hot.drop("acme", entries, before=time.time())
    await hot.put(KEY, ENTRY)
    assert await hot.get(KEY) is None
    newer = replace(ENTRY, create_time=time.time() + 1)
    await hot.put(KEY, newer)
    assert await hot.get(KEY) == newer


async def test_an_entry_cools_down() -> None:
    """Past `hot_until` an entry is no longer served from the hot tier."""
    clock = Clock()
    hot = ProcessHot(clock)
    await hot.put(KEY, ENTRY)
    clock.now = 100.0
    assert await hot.get(KEY) is None


async def test_it_is_bounded() -> None:
    """However many requests come, no more keys than stated are kept."""
    hot = ProcessHot(Clock(), keys=10)
    for number in range(1_000):
        await hot.put(replace(KEY, normal=str(number)), replace(ENTRY, id=str(number)))
    assert (len(hot.ids), len(hot.entries)) == (10, 10)


async def test_without_a_hot_tier_nothing_is_kept() -> None:
    """Replicas without a shared tier ask the store every time."""
    hot = NoHot()
    await hot.put(KEY, ENTRY)
    assert await hot.get(KEY) is None


@pytest.mark.parametrize("call", ["get", "put"])
async def test_a_tier_that_is_away_costs_no_answer(call: str, unused_tcp_port_factory: Callable[[], int]) -> None:
    """Without Redis reading finds nothing and keeping is given up, both soon; dropping says that it failed."""
    hot = await asyncio.to_thread(RedisHot.connect, f"redis://127.0.0.1:{unused_tcp_port_factory()}/0")
    started = time.monotonic()
    if call == "get":
        assert await hot.get(KEY) is None
    else:
        await hot.put(KEY, replace(ENTRY, hot_until=time.time() + 60))
    assert time.monotonic() - started < 2
    with pytest.raises(MemoryUnavailableError):
        await hot.drop("acme", frozenset(["e1"]))
    await hot.close()
