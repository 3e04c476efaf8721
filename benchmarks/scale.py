"""How large a deployment has to be: sizes on paper, replicas by simulation, and the simulation beside a measurement.

    python -m benchmarks.scale paper [--images 1e8] [--answers 1e9] [--rate 5000] [--exact .6] [--copies .25]
    python -m benchmarks.scale measure [--replicas 1,2,3] [--gateways 1] [--seconds 4] [--json TIMES]
    python -m benchmarks.scale partitions
    python -m benchmarks.scale simulate --times TIMES [--rate 5000] [--gateways N] [--replicas N] [--workers N]

`measure` runs the services with 1, 2, 3 dedup replicas on this machine, asks exact repeats with 32 callers, copies and
new pages one by one, and notes the processor time of each. Then it simulates the same closed loop with these times and
as much processor as the processes really got, and prints both. `paper` measures bytes of the ledger (SQLite) and of
Redis and multiplies; what it takes from elsewhere it says. `partitions` tries the
ledger on PostgreSQL with decisions in a partition a day. `simulate` is an open stream of requests on a fleet.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import simpy
from PIL import Image

from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from benchmarks.hot_tier import entry_of
from benchmarks.latency import OPTIONS, make_requests
from benchmarks.ledger import fill
from benchmarks.servers import PostgresServer, RedisServer
from compose.local import ROOT, System
from dedup_service.image.dct import DctEncoder
from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Decision, new_id
from dedup_service.store.exact_cache import ExactKey
from dedup_service.store.exact_cache_redis import RedisExactCache

CALLERS = 32
ODD = 0.02
"""The share of calls that may be no exact repeats: on a busy machine a look-up may come too late; then the model is
asked."""
QUESTION_DIMENSION, DESCRIPTOR_DIMENSION = 384, 256
POINT_BYTES = 200
"""Assumed: bytes in memory of a Qdrant point besides its vectors (id, indexes of its payload, links)."""
FINGERPRINT_BYTES = 56_000
"""Median of real fingerprints (docs/tune-image.md)."""
NODE_BYTES = 64 * 10**9
"""Memory of one node of Qdrant that data may fill by `FULL`."""
FULL = 0.6
"""The share of memory and of processors that is planned for."""
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Times:
    """Processor time in seconds."""

    client: float
    """One call of the measuring client."""
    gateway: float
    """One exact repeat, at the gateway."""
    exact: float
    """One exact repeat, at dedup."""
    copy: float
    """One copy of a known image, at dedup with its child processes."""
    miss: float
    """One new page, at dedup with its child processes, storing the answer included."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: so many replicas, what it did and what it got."""

    gateways: int
    replicas: int
    throughput: float
    """Exact repeats a second."""
    processors: float
    """Processor seconds that client and services got in a second: what other work left them."""
    times: Times


def tree_cpu(pid: int) -> float:
    """Processor time of a process and of all its children, in seconds."""
    process = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


def own_cpu(pid: int) -> float:
    """Processor time of one process, in seconds."""
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


async def measure(replicas: int, gateways: int, seconds: float, known: tuple[float, float] | None) -> Measured:
    """Runs the services with so many replicas of dedup; see the module. `known` are the times of a new page and of a
    copy where they were measured already."""
    names = ["inference", *numbered("dedup", replicas), *numbered("gateway", gateways)]
    requests = make_requests(200)[:12]
    with tempfile.TemporaryDirectory(prefix="askonce-scale-", ignore_cleanup_errors=True) as folder:
        modules = {"inference": "benchmarks.ready_model"}
        async with System(Path(folder), names=names, modules=modules) as system:
            pids = {name: child.process.pid for name, child in system.children.items()}
            dedups = [pid for name, pid in pids.items() if name.startswith("dedup")]
            doors = [pid for name, pid in pids.items() if name.startswith("gateway")]
            channels = [grpc.aio.insecure_channel(at, options=OPTIONS) for at in system.all("gateway")]
            stubs = [answer_pb2_grpc.AnswerServiceStub(channel) for channel in channels]
            miss, copy = known or await one_by_one(stubs[0], dedups)
            await warm(stubs, requests)
            before = (time.process_time(), sum(map(own_cpu, doors)), sum(map(own_cpu, dedups)), time.monotonic())
            count, others = await repeats(stubs, requests, seconds)
            after = (time.process_time(), sum(map(own_cpu, doors)), sum(map(own_cpu, dedups)), time.monotonic())
            client, door, exact, wall = (late - early for late, early in zip(after, before, strict=True))
            for channel in channels:
                await channel.close()
    if others > ODD * count:
        raise SystemExit(f"{others} calls were no exact repeats: the figure would measure something else")
    times = Times(client / count, door / count, exact / count, copy, miss)
    return Measured(gateways, replicas, count / wall, (client + door + exact) / wall, times)


def numbered(name: str, count: int) -> list[str]:
    """The names of so many replicas of a service."""
    return [name if number == 0 else f"{name}-{number + 1}" for number in range(count)]


async def one_by_one(stub: Any, dedups: Sequence[int]) -> tuple[float, float]:
    """Processor time at dedup of a new page and of a copy of it, on the pages that come with the examples."""
    pages = sorted((ROOT / "examples" / "pages").iterdir())
    files = [await asyncio.to_thread(path.read_bytes) for path in pages if path.suffix in (".png", ".jpg")]
    spent = []
    for content in (lambda file: file, saved_anew):
        before = sum(map(tree_cpu, dedups))
        for file in files:
            await stub.Answer(asking(await asyncio.to_thread(content, file), "What is shown?"), timeout=60)
        await asyncio.sleep(1.0)  # what is stored is stored behind the answer
        spent.append((sum(map(tree_cpu, dedups)) - before) / len(files))
    return spent[0], spent[1]


def saved_anew(file: bytes) -> bytes:
    """The image as another file."""
    with Image.open(io.BytesIO(file)) as image, io.BytesIO() as out:
        image.convert("RGB").save(out, "JPEG", quality=88)
        return out.getvalue()


def asking(content: bytes, question: str) -> answer_pb2.AnswerRequest:
    """A request."""
    return answer_pb2.AnswerRequest(
        image=content_pb2.Image(content=content), question=content_pb2.Question(text=question)
    )


async def warm(stubs: Sequence[Any], requests: Sequence[answer_pb2.AnswerRequest]) -> None:
    """Asks until all is an exact repeat at every replica: one that has more than its share hands some to the next."""
    for _ in range(30):
        count, others = await repeats(stubs, requests, 1.0)
        if count and others <= ODD * count:
            return
    raise SystemExit("the answers were not stored: there are no repeats to measure")


async def repeats(
    stubs: Sequence[Any], requests: Sequence[answer_pb2.AnswerRequest], seconds: float
) -> tuple[int, int]:
    """Keeps `CALLERS` calls under way; returns how many were answered, and how many were no exact repeats."""
    until, count, others = time.monotonic() + seconds, 0, 0

    async def caller(number: int) -> None:
        nonlocal count, others
        turn = number
        while time.monotonic() < until:
            answer = await stubs[number % len(stubs)].Answer(requests[turn % len(requests)], timeout=60)
            others += answer.provenance.reason != "EXACT"
            turn, count = turn + 1, count + 1

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return count, others


def closed_loop(times: Times, gateways: int, replicas: int, processors: float, seconds: float = 20.0) -> float:
    """Simulated exact repeats a second: `CALLERS` callers, every process one thread that computes, all of them sharing
    this machine's processors, of which they get `processors` in all."""
    world, chance = simpy.Environment(), random.Random(3)
    count = psutil.cpu_count() or 1
    cores, slow = simpy.Resource(world, count), count / processors
    client = simpy.Resource(world, 1)
    doors = [simpy.Resource(world, 1) for _ in range(gateways)]
    dedups = [simpy.Resource(world, 1) for _ in range(replicas)]
    done = 0

    def compute(process: simpy.Resource, work: float) -> Generator[Any, Any, None]:
        with process.request() as turn:
            yield turn
            with cores.request() as core:
                yield core
                yield world.timeout(work * slow)

    def caller(number: int) -> Generator[Any, Any, None]:
        nonlocal done
        while True:
            door, dedup = doors[number % gateways], chance.choice(dedups)
            yield from compute(client, times.client / 2)
            yield from compute(door, times.gateway / 2)
            yield from compute(dedup, times.exact)
            yield from compute(door, times.gateway / 2)
            yield from compute(client, times.client / 2)
            done += 1

    for number in range(CALLERS):
        world.process(caller(number))
    world.run(seconds)
    return done / seconds


def open_stream(
    times: Times, shares: tuple[float, float], rate: float, gateways: int, replicas: int, workers: int, seconds: float
) -> dict[str, float]:
    """A simulated fleet with processors of its own for each process: requests arrive at random (Poisson), `shares` of
    exact repeats and of copies, the rest new. Each replica has `workers` children that work on images. Returns seconds
    at dedup and gateway by kind: the median and the 99th percentile; the model's own time is left out."""
    world, chance = simpy.Environment(), random.Random(5)
    doors = [simpy.Resource(world, 1) for _ in range(gateways)]
    dedups = [simpy.Resource(world, 1) for _ in range(replicas)]
    children = [simpy.Resource(world, workers) for _ in range(replicas)]
    took: dict[str, list[float]] = {"exact": [], "copy": [], "miss": []}

    def compute(process: simpy.Resource, work: float) -> Generator[Any, Any, None]:
        with process.request() as turn:
            yield turn
            yield world.timeout(work)

    def request() -> Generator[Any, Any, None]:
        began, drawn = world.now, chance.random()
        kind = "exact" if drawn < shares[0] else "copy" if drawn < sum(shares) else "miss"
        door, number = chance.choice(doors), chance.randrange(replicas)
        yield from compute(door, times.gateway / 2)
        yield from compute(dedups[number], times.exact)
        if kind != "exact":
            yield from compute(children[number], max(0.0, getattr(times, kind) - times.exact))
        yield from compute(door, times.gateway / 2)
        took[kind].append(world.now - began)

    def arrivals() -> Generator[Any, Any, None]:
        while True:
            yield world.timeout(chance.expovariate(rate))
            world.process(request())

    world.process(arrivals())
    world.run(seconds)
    figures: dict[str, float] = {}
    for kind, each in took.items():
        if len(each) > 1:
            cuts = statistics.quantiles(each, n=100)
            figures |= {f"{kind}_p50_ms": round(1e3 * cuts[49], 2), f"{kind}_p99_ms": round(1e3 * cuts[98], 2)}
    return figures


def fleet_for(times: Times, shares: tuple[float, float], rate: float) -> dict[str, int]:
    """Processes that keep each at `FULL` of a processor: gateways, replicas by their own loop, children for images."""
    missing = 1 - sum(shares)
    images = shares[1] * max(0.0, times.copy - times.exact) + missing * max(0.0, times.miss - times.exact)
    return {
        "gateways": math.ceil(rate * times.gateway / FULL),
        "replicas": math.ceil(rate * times.exact / FULL),
        "image_workers": math.ceil(rate * images / FULL),
    }


def ledger_bytes(decisions: int = 5_000) -> float:
    """Bytes of one decision with its share of labels, in SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        engine = open_database(f"sqlite:///{file}")
        empty = file.stat().st_size
        ledger = Ledger(engine)
        fill(ledger, decisions)
        ledger.close(60)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
        return (file.stat().st_size - empty) / decisions


async def redis_bytes(entries: int = 2_000) -> float:
    """Bytes of one answer in Redis, keys included."""
    async with RedisServer() as server:
        cache = RedisExactCache.connect(server.url, timeout=5.0)
        before = (await cache.client.info("memory"))["used_memory"]
        for number in range(entries):
            entry = entry_of(number, time.time())
            await cache.put(ExactKey(entry.tenant, f"{number:064x}", entry.space, entry.normal), entry)
        after = (await cache.client.info("memory"))["used_memory"]
        await cache.close()
    return float(after - before) / entries


PARTITIONED = """
ALTER TABLE decisions RENAME TO decisions_before;
CREATE TABLE decisions (LIKE decisions_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (id);
ALTER TABLE decisions ADD PRIMARY KEY (id);
CREATE INDEX ON decisions (tenant, time);
CREATE INDEX ON decisions (time);
"""
"""Makes the table of decisions one of partitions. An id begins with the microseconds of its decision (`new_id`), so
that ranges of ids are ranges of time."""


def first_id(seconds: float) -> str:
    """Where the ids of a time begin."""
    return f"{int(seconds * 1e6):014x}"


async def partitioned(days: int = 4, each: int = 5_000) -> list[tuple[str, str, str]]:
    """The ledger on PostgreSQL with decisions by day: whether it writes and reads, and what the end of a day costs."""
    async with PostgresServer() as server:
        return await asyncio.to_thread(by_day, server.url, days, each)


def by_day(url: str, days: int, each: int) -> list[tuple[str, str, str]]:
    """See `partitioned`."""
    engine = open_database(url)
    now = time.time()
    with engine.begin() as connection:
        connection.exec_driver_sql(PARTITIONED)
        for day in range(days):
            bounds = f"FROM ('{first_id(now - (day + 1) * DAY)}') TO ('{first_id(now - day * DAY)}')"
            connection.exec_driver_sql(f"CREATE TABLE decisions_{day} PARTITION OF decisions FOR VALUES {bounds}")
    ledger = Ledger(engine)
    for number in range(days * each):
        at = now - days * DAY * (number + 0.5) / (days * each)
        ledger.record_decision(Decision(new_id(at), "acme", at, question_text="q" * 60), keep_text=True)
    written = ledger.flush(120)
    counts = [Reader(engine).count(Span(now - (day + 1) * DAY, now - day * DAY)) for day in range(days)]
    began = time.perf_counter()
    ledger.sweep({}, (days - 1) * DAY, now=now, limit=each)
    swept = time.perf_counter() - began
    began = time.perf_counter()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE decisions_0")
    dropped = time.perf_counter() - began
    ledger.close(60)
    engine.dispose()
    return [
        ("decisions written into partitions", f"{sum(counts)}", f"of {days * each}, all flushed: {written}"),
        ("a day's end by the sweeper", f"{swept:.3f} s", f"{each} rows, deleted one batch"),
        ("a day's end by DROP TABLE", f"{dropped:.3f} s", "whatever their number"),
    ]


def paper(images: float, answers: float, rate: float) -> list[tuple[str, str, str]]:
    """Rows of what, how much, and where from."""
    row, hot = ledger_bytes(), asyncio.run(redis_bytes())
    memory = {
        "images": images * (DctEncoder.dimension + POINT_BYTES),
        "descriptors": images * (DESCRIPTOR_DIMENSION + POINT_BYTES),
        "answers": answers * (QUESTION_DIMENSION + POINT_BYTES),
    }
    total = sum(memory.values())
    disk = 5 * total + images * FINGERPRINT_BYTES
    nodes = math.ceil(2 * total / (FULL * NODE_BYTES))
    warm = rate * 7_200
    found = [
        ("one decision in the ledger", f"{row:,.0f} B", "measured, SQLite, indexes included"),
        ("decisions a day", f"{rate * DAY / 1e6:,.0f} million", "rate times a day"),
        ("ledger a day", f"{rate * DAY * row / 1e9:,.0f} GB", "product"),
        ("one answer in Redis", f"{hot:,.0f} B", "measured, keys included"),
        ("hot tier, 2 h, no repeat in it", f"{min(warm, answers) * hot / 1e9:,.0f} GB", "most that the rate can fill"),
    ]
    found += [
        (f"Qdrant memory, {name}", f"{size / 1e9:,.0f} GB", f"int8 vectors + {POINT_BYTES} B a point (assumed)")
        for name, size in memory.items()
    ]
    return [
        *found,
        ("Qdrant memory, two copies", f"{2 * total / 1e9:,.0f} GB", "sum, twice"),
        (f"nodes of {NODE_BYTES / 1e9:.0f} GB at {FULL:.0%}", f"{nodes}", "quotient"),
        ("shards a collection", f"{2 * nodes}", "two a node, so that nodes can be added"),
        ("disk, one copy", f"{disk / 1e12:,.1f} TB", "full vectors, payloads (as large again), fingerprints of 56 kB"),
    ]


def read_times(file: Path) -> Times:
    """The times of the run with one replica."""
    return Times(**json.loads(file.read_text(encoding="utf-8"))[0]["times"])


def show_measured(each: Measured, simulated: float) -> None:
    """Prints one run beside its simulation."""
    print(
        f"gateways {each.gateways}, dedup {each.replicas}: {each.throughput:7.0f} measured, {simulated:7.0f} simulated "
        f"repeats/s; {each.processors:.2f} processors got; ms of processor: "
        + ", ".join(f"{name} {1e3 * value:.2f}" for name, value in asdict(each.times).items()),
        flush=True,
    )


def main() -> None:
    """Runs one of the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("paper", "measure", "simulate", "partitions"))
    parser.add_argument("--images", type=float, default=1e8)
    parser.add_argument("--answers", type=float, default=1e9)
    parser.add_argument("--rate", type=float, default=5_000.0, help="requests a second")
    parser.add_argument("--exact", type=float, default=0.6, help="share of exact repeats")
    parser.add_argument("--copies", type=float, default=0.25, help="share of copies; the rest is new")
    parser.add_argument("--replicas", default="", help="of dedup; several with commas for measure")
    parser.add_argument("--gateways", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4, help="children of a replica for images")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--times", type=Path, help="what measure wrote")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    shares = (chosen.exact, chosen.copies)
    if chosen.part == "measure":
        runs = []
        known: tuple[float, float] | None = None
        for replicas in (int(each) for each in (chosen.replicas or "1,2,3").split(",")):
            found = asyncio.run(measure(replicas, chosen.gateways or 1, chosen.seconds, known))
            known = (found.times.miss, found.times.copy)
            show_measured(found, closed_loop(found.times, found.gateways, found.replicas, found.processors))
            runs.append(asdict(found))
            if chosen.json:
                chosen.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
        return
    if chosen.part == "partitions":
        for what, much, source in asyncio.run(partitioned()):
            print(f"{what:34}{much:>16}   {source}")
        return
    times = read_times(chosen.times) if chosen.times else None
    if chosen.part == "paper":
        for what, much, source in paper(chosen.images, chosen.answers, chosen.rate):
            print(f"{what:34}{much:>16}   {source}")
    if times is None:
        return
    needed = fleet_for(times, shares, chosen.rate)
    print(f"for {chosen.rate:,.0f} requests/s at {FULL:.0%} of each processor: {needed}")
    if chosen.part == "simulate":
        gateways = chosen.gateways or needed["gateways"]
        replicas = int(chosen.replicas or max(needed["replicas"], math.ceil(needed["image_workers"] / chosen.workers)))
        print(f"simulated: {gateways} gateways, {replicas} replicas with {chosen.workers} workers each")
        for name, value in open_stream(
            times, shares, chosen.rate, gateways, replicas, chosen.workers, chosen.seconds
        ).items():
            print(f"  {name:16}{value:>8}")


if __name__ == "__main__":
    main()
