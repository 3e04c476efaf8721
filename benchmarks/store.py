"""How the embedded store behaves as it grows: look-ups at a small and at the full size, during builds and sweeps.

    python -m benchmarks.store [--entries 1000000] [--json OUT]

Vectors are synthetic: images in clusters, as templates make them, and each looked for by a slightly changed copy.
Records are filled in batches, below `Memory`; everything timed goes through `Memory`, one call at a time. Beside the
wall time stands the processor time that the store's process spent on a look-up: it holds on a busy machine as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.expiry import Sweeper
from dedup_service.store.payloads import entry_payload, image_payload
from dedup_service.store.points import Kind, Point
from dedup_service.store.records import Entry, ImageRecord, Vector, entry_id, image_id

NOW = 1_000_000_000.0
PER_IMAGE = 5
IMAGE_SIZE, QUESTION_SIZE = 441, 384
CLUSTER = 50
"""Images to a cluster."""
BATCH = 500


@dataclass(frozen=True)
class World:
    """The synthetic records, each made from its number alone."""

    images: int

    def tenant(self, number: int) -> str:
        """Every tenth image is the small tenant's."""
        return "small" if number % 10 == 9 else "large"

    def image_vector(self, number: int, noise: float = 0.0, seed: int = 0) -> Vector:
        """A member of its cluster (cosine about 0.8 to the centre), or a copy of it with noise."""
        centre = unit(np.random.default_rng((1, number // CLUSTER)), IMAGE_SIZE)
        own = unit(np.random.default_rng((2, number)), IMAGE_SIZE)
        vector = centre + 0.75 * own
        vector /= np.linalg.norm(vector)
        if noise:
            vector = vector + noise * unit(np.random.default_rng((3, number, seed)), IMAGE_SIZE)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)

    def question_vector(self, number: int) -> Vector:
        """The vector of a question: images share 1,000 of them."""
        return unit(np.random.default_rng((4, number)), QUESTION_SIZE)

    def image(self, number: int) -> ImageRecord:
        """An image record."""
        digest = number.to_bytes(32)
        return ImageRecord(
            id=image_id(self.tenant(number), digest),
            tenant=self.tenant(number),
            digests=(digest.hex(), (number + (1 << 200)).to_bytes(32).hex()),
            perceptual_hash=np.random.default_rng((5, number)).bytes(32),
            width=1280,
            height=960,
            create_time=NOW - 10_000.0,
        )

    def entry(self, image: ImageRecord, number: int, position: int) -> Entry:
        """The answer at a position of an image; those of every tenth image expire early."""
        question = f"what is the total amount of it, and what is item {self.question(number, position)}?"
        return Entry(
            id=entry_id(image.tenant, image.id, "space", question),
            tenant=image.tenant,
            image=image.id,
            space="space",
            question=question,
            normal=question,
            language="en",
            answer=b"\x0a\xac\x02" + bytes(300),
            answer_text="The total amount is RM 138.90, and the item is a bag of rice. " * 3,
            model="zai-org/GLM-4.6V-Flash",
            model_revision="main",
            create_time=NOW - 10_000.0,
            hot_until=NOW,
            expire_time=NOW + (100.0 if number % 10 == 0 else 600_000.0),
            last_use=NOW,
            policy_revision="1",
            generate_seconds=1.0,
            tags=("benchmark",),
        )

    def question(self, number: int, position: int) -> int:
        """Which of the shared questions stands at a position of an image."""
        return (number * PER_IMAGE + position * 7) % 1000


def unit(generator: np.random.Generator, size: int) -> Vector:
    """A random direction."""
    vector = generator.standard_normal(size).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


async def fill(memory: EdgeMemory, world: World, begin: int, end: int, fingerprint: bytes) -> None:
    """Stores the images of these numbers with their entries."""
    questions = [world.question_vector(number) for number in range(1000)]
    for start in range(begin, end, BATCH // PER_IMAGE):
        images, entries = [], []
        for number in range(start, min(end, start + BATCH // PER_IMAGE)):
            image = replace(world.image(number), fingerprint_bytes=len(fingerprint))
            images.append(Point(image.id, world.image_vector(number), image_payload(image)))
            if fingerprint:
                await memory.points.put_fingerprint(image.id, fingerprint, NOW - 10_000.0)
            for position in range(PER_IMAGE):
                entry = world.entry(image, number, position)
                vector = questions[world.question(number, position)]
                entries.append(Point(entry.id, vector, entry_payload(entry)))
        await memory.points.put(Kind.IMAGES, images)
        await memory.points.put(Kind.ENTRIES, entries)


async def settled(memory: EdgeMemory) -> float:
    """Waits until no build is going on or due; returns how long that took."""
    started = time.perf_counter()
    await asyncio.sleep(2.5)
    while await memory.points.call("building"):
        await asyncio.sleep(0.5)
        if not await memory.points.call("building"):
            await asyncio.sleep(2.5)
    return time.perf_counter() - started


def store_process(memory: EdgeMemory) -> psutil.Process:
    """The process that owns the store."""
    assert memory.points.process is not None
    return psutil.Process(memory.points.process.pid)


class Clients:
    """Look-ups of every kind, timed."""

    def __init__(self, memory: EdgeMemory, world: World) -> None:
        self.memory = memory
        self.world = world
        self.random = random.Random(7)
        self.held = 0
        self.recalled = 0
        self.looked = 0

    def some_image(self) -> tuple[int, ImageRecord]:
        """An image whose entries live on."""
        while True:
            number = self.random.randrange(self.held)
            if number % 10:
                return number, self.world.image(number)

    async def digest(self) -> None:
        """The image of a file's digest."""
        _, image = self.some_image()
        found = await self.memory.image_by_digest(image.tenant, image.digests[0])
        assert found is not None

    async def unknown(self) -> None:
        """A digest that nobody knows."""
        assert await self.memory.image_by_digest("large", f"{self.random.getrandbits(256):064x}") is None

    async def exact(self) -> None:
        """The entry of an exact question."""
        number, image = self.some_image()
        found = await self.memory.entry(image.tenant, self.world.entry(image, number, 2).id)
        assert found is not None

    async def perceptual(self) -> None:
        """Images within 5 bits of four hashes."""
        _, image = self.some_image()
        value = int.from_bytes(image.perceptual_hash) ^ (1 << 200) ^ (1 << 100) ^ 1
        hashes = [value.to_bytes(32), *(self.random.randbytes(32) for _ in range(3))]
        found = await self.memory.images_by_hash(image.tenant, hashes, 5, 3)
        assert found[0].id == image.id

    async def neighbours(self) -> None:
        """The three images nearest to any of four vectors; one of the four is a noisy copy."""
        number, image = self.some_image()
        vectors = [self.world.image_vector(number, 0.3, self.random.randrange(1 << 30))]
        vectors += [unit(np.random.default_rng(self.random.randrange(1 << 30)), IMAGE_SIZE) for _ in range(3)]
        stacked = np.stack(vectors)
        started = time.perf_counter()
        found = await self.memory.images_near(image.tenant, stacked, 3)
        self.took = time.perf_counter() - started
        self.looked += 1
        self.recalled += found[0].record.id == image.id

    async def questions(self) -> None:
        """The stored questions of one image, by vector."""
        number, image = self.some_image()
        position = self.random.randrange(PER_IMAGE)
        vector = self.world.question_vector(self.world.question(number, position))
        started = time.perf_counter()
        found = await self.memory.entries_near(image.tenant, image.id, "space", vector, 20)
        self.took = time.perf_counter() - started
        assert len(found) == PER_IMAGE
        assert found[0].similarity > 0.999

    async def miss(self) -> None:
        """A miss's whole way through the store, one call after the other: digest, hashes, vectors, questions."""
        total = 0.0
        for call in (self.digest, self.perceptual, self.neighbours, self.questions):
            self.took = 0.0
            started = time.perf_counter()
            await call()
            total += self.took or time.perf_counter() - started
        self.took = total

    async def measure(self, name: str, count: int) -> dict[str, float]:
        """Times a kind of look-up. In milliseconds; `cpu` is what the store's process spent on one, on average."""
        call: Callable[[], Awaitable[None]] = getattr(self, name)
        times = []
        spent = self.cpu()
        for _ in range(count):
            self.took = 0.0
            started = time.perf_counter()
            await call()
            times.append((self.took or time.perf_counter() - started) * 1e3)
        return {**percentiles(times), "cpu": round((self.cpu() - spent) / count * 1e3, 4)}

    def cpu(self) -> float:
        """Seconds that the store's process has spent so far."""
        used = store_process(self.memory).cpu_times()
        return float(used.user + used.system)

    async def measure_all(self, count: int) -> dict[str, dict[str, float]]:
        """Times all kinds."""
        self.recalled = self.looked = 0
        measured = {}
        for name in ("digest", "unknown", "exact", "perceptual", "neighbours", "questions", "miss"):
            await self.measure(name, count // 10)
            measured[name] = await self.measure(name, count)
        measured["neighbours"]["recall"] = self.recalled / self.looked
        return measured


def percentiles(times: list[float]) -> dict[str, float]:
    """Median, 99th percentile and worst, with the number of measurements."""
    ordered = np.sort(times)
    return {
        "p50": round(float(np.quantile(ordered, 0.5)), 4),
        "p99": round(float(np.quantile(ordered, 0.99)), 4),
        "worst": round(float(ordered[-1]), 4),
        "n": len(times),
    }


def over(end: float, done: Callable[[], bool] = lambda: False) -> Callable[[], bool]:
    """Whether a time has come, or something else."""
    return lambda: time.perf_counter() > end or done()


async def mixed(clients: Clients, until: Callable[[], bool]) -> dict[str, float]:
    """Whole misses, again and again."""
    times = []
    while not until():
        await clients.miss()
        times.append(clients.took * 1e3)
        await asyncio.sleep(0.005)
    return percentiles(times)


async def run(entries: int, small: int, fingerprint_bytes: int, count: int, folder: Path) -> dict[str, Any]:
    """Fills, measures, sweeps."""
    say = Console(stderr=True).print
    world = World(entries // PER_IMAGE)
    clock = [NOW]
    identity = "synthetic"
    memory = EdgeMemory(folder, identity, IMAGE_SIZE, identity, QUESTION_SIZE, timeout=60.0, clock=lambda: clock[0])
    await memory.start()
    clients = Clients(memory, world)
    fingerprint = np.random.default_rng(9).bytes(fingerprint_bytes)
    report: dict[str, Any] = {"entries": entries, "images": world.images, "cpus": psutil.cpu_count()}
    report["machine"] = platform.platform()
    sizes: dict[str, Any] = {}
    begin = 0
    for held in (small // PER_IMAGE, world.images):
        started = time.perf_counter()
        await fill(memory, world, begin, held, fingerprint)
        filling = time.perf_counter() - started
        say(f"filled to {held * PER_IMAGE:,} entries of {held:,} images in {filling:.0f} s; waiting for builds")
        clients.held = begin = held
        during: dict[str, float] = {}
        build = asyncio.create_task(settled(memory))
        if await memory.points.call("building"):
            during = await mixed(clients, over(time.perf_counter() + 120.0, build.done))
        waiting = await build
        if held == small // PER_IMAGE:
            await memory.points.call("build", Kind.IMAGES)
            await settled(memory)
        measured = await clients.measure_all(count)
        usage = store_process(memory).memory_full_info()
        await asyncio.sleep(11.0)
        disk = (await memory.holdings()).disk_bytes
        sizes[str(held * PER_IMAGE)] = {
            "fill_seconds": round(filling, 1),
            "build_seconds": round(waiting, 1),
            "lookups_ms": measured,
            "during_build_ms": during,
            "rss_mb": round(usage.rss / 1e6),
            "anonymous_mb": round(usage.uss / 1e6),
            "disk_mb": round(disk / 1e6),
        }
        say(json.dumps(sizes[str(held * PER_IMAGE)]))
    report["sizes"] = sizes

    calm = await mixed(clients, over(time.perf_counter() + 20.0))
    before = await memory.holdings()
    clock[0] = NOW + 200.0
    sweeper = Sweeper(memory, interval=0.1, limit=500, clock=lambda: clock[0])
    expired = world.images // 10 * PER_IMAGE
    started = time.perf_counter()
    await sweeper.start()
    swept = await mixed(clients, over(started + 420.0, lambda: sweeper.total.entries >= expired))
    seconds = time.perf_counter() - started
    await sweeper.stop()
    after = await memory.holdings()
    report["sweep"] = {
        "expired": expired,
        "removed_entries": before.entries - after.entries,
        "removed_images": before.images - after.images,
        "seconds": round(seconds, 1),
        "calm_ms": calm,
        "sweeping_ms": swept,
        "p99_ratio": round(swept["p99"] / calm["p99"], 3),
    }
    started = time.perf_counter()
    await memory.close()
    report["close_seconds"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    await memory.start()
    report["open_seconds"] = round(time.perf_counter() - started, 2)
    await memory.close()
    first, last = (measured["lookups_ms"] for measured in sizes.values())
    report["p50_ratio"] = {name: round(last[name]["p50"] / first[name]["p50"], 2) for name in first}
    report["cpu_ratio"] = {name: round(last[name]["cpu"] / first[name]["cpu"], 2) for name in first}
    return report


def show(report: dict[str, Any]) -> None:
    """Prints the report as tables."""
    console = Console()
    sizes = report["sizes"]
    table = Table(title="Look-ups in the embedded store, milliseconds", caption="limit: p50 at most twice the first")
    table.add_column("what")
    for size in sizes:
        for heading in (f"{int(size):,}: p50", "p99", "cpu"):
            table.add_column(heading, justify="right")
    for heading in ("p50 ratio", "cpu ratio"):
        table.add_column(heading, justify="right")
    for name, ratio in report["p50_ratio"].items():
        cells = [f"{size['lookups_ms'][name][key]:.3f}" for size in sizes.values() for key in ("p50", "p99", "cpu")]
        table.add_row(name, *cells, f"{ratio:.2f}", f"{report['cpu_ratio'][name]:.2f}")
    console.print(table)
    for size, values in sizes.items():
        recall = values["lookups_ms"]["neighbours"]["recall"]
        console.print(
            f"{int(size):,} entries: {values['rss_mb']} MB resident ({values['anonymous_mb']} MB of its own), "
            f"{values['disk_mb']} MB on disk, recall of the nearest image {recall:.3f}, "
            f"a whole look-up during builds {values['during_build_ms'] or 'not measured'}"
        )
    console.print("sweep:", report["sweep"])
    console.print(f"opens in {report['open_seconds']} s, closes in {report['close_seconds']} s")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000, help="answers at the full size, five to an image")
    parser.add_argument("--small", type=int, default=10_000, help="answers at the small size")
    parser.add_argument("--fingerprint-bytes", type=int, default=1_000, help="real ones take 33 to 97 kB of disk each")
    parser.add_argument("--count", type=int, default=2_000, help="look-ups of each kind")
    parser.add_argument("--folder", type=Path, help="where to keep the store; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="askonce-store-"))
    try:
        report = asyncio.run(run(chosen.entries, chosen.small, chosen.fingerprint_bytes, chosen.count, folder))
    finally:
        if chosen.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


if __name__ == "__main__":
    main()
