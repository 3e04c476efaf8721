"""What a fault of a real Qdrant server costs: acknowledged answers lost, wrong reads, failures, time until it works.

    python -m benchmarks.qdrant_faults --binary PATH/TO/qdrant [--json OUT]

Starts the server (two of them as a cluster for the last fault), writes and reads through the shared store as dedup
does, and meanwhile kills it, stops it for five seconds, or fills its disk (a file system in memory of 96 MiB; needs the
right to mount, and is left out without it). Every acknowledged entry is read back at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dedup_service.settings import Qdrant
from dedup_service.store.qdrant_server import ServerMemory
from dedup_service.store.records import Entry, ImageRecord, MemoryUnavailableError, Vector, entry_id, image_id

NOW = 1_000_000_000.0
IMAGE_SIZE, QUESTION_SIZE = 64, 32
WORKERS = 4
DISK = 96


@dataclass
class Found:
    """What one fault did."""

    fault: str
    faults: int = 0
    written: int = 0
    """Acknowledged entries."""
    read: int = 0
    lost: int = 0
    """Acknowledged entries that can't be read at the end."""
    wrong: int = 0
    """Reads that gave something else than was written."""
    errors: dict[str, int] = field(default_factory=dict)
    """Failed operations by their message; every one is a miss, or an answer that is not stored."""
    unnamed: int = 0
    """Failures that are not MemoryUnavailableError."""
    recovery_seconds: list[float] = field(default_factory=list)
    """From the end of a fault to the next acknowledged write."""


class Server:
    """A Qdrant server of its own, in a folder of its own."""

    def __init__(self, binary: Path, folder: Path, bootstrap: str = "", *, clustered: bool = False) -> None:
        self.binary, self.folder = binary, folder
        self.http, self.grpc, self.peer = free_port(), free_port(), free_port()
        self.bootstrap, self.clustered = bootstrap, clustered
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        settings = {
            "SERVICE__HOST": "127.0.0.1",
            "SERVICE__HTTP_PORT": self.http,
            "SERVICE__GRPC_PORT": self.grpc,
            "STORAGE__STORAGE_PATH": self.folder / "storage",
            "STORAGE__SNAPSHOTS_PATH": self.folder / "snapshots",
            "TELEMETRY_DISABLED": "true",
            "LOG_LEVEL": "ERROR",
            "CLUSTER__ENABLED": str(self.clustered).lower(),
            "CLUSTER__P2P__PORT": self.peer,
        }
        environ = {**os.environ, **{f"QDRANT__{name}": str(value) for name, value in settings.items()}}
        command = [str(self.binary)]
        if self.clustered:
            command += ["--bootstrap", self.bootstrap] if self.bootstrap else ["--uri", self.uri]
        self.process = subprocess.Popen(
            command, env=environ, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.grpc)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit("the server does not start")

    @property
    def uri(self) -> str:
        """Where other nodes of a cluster reach it."""
        return f"http://127.0.0.1:{self.peer}"

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


class Load:
    """Writes entries and reads them back, and counts what happens."""

    def __init__(self, memory: ServerMemory, found: Found) -> None:
        self.memory, self.found = memory, found
        self.acknowledged: dict[str, str] = {}
        self.ended: float | None = None
        self.stopping = False
        self.number = 0

    async def run(self, worker: int) -> None:
        """One worker: a new entry, then a known one."""
        rng = np.random.default_rng(worker)
        while not self.stopping:
            self.number += 1
            entry, vector = an_entry(self.number)
            if await self.attempt(self.write(entry, vector)) and self.ended is not None:
                self.found.recovery_seconds.append(time.monotonic() - self.ended)
                self.ended = None
            known = list(self.acknowledged)
            if known:
                await self.attempt(self.read(known[int(rng.integers(len(known)))]))

    async def write(self, entry: Entry, vector: Vector) -> None:
        """Stores an entry."""
        await self.memory.put_entry(entry, vector, 1_000_000, lambda _: "")
        self.acknowledged[entry.id] = entry.answer_text
        self.found.written += 1

    async def read(self, entry: str) -> None:
        """Reads an entry back."""
        stored = await self.memory.entry("acme", entry)
        self.found.read += 1
        if stored is not None and stored.answer_text != self.acknowledged[entry]:
            self.found.wrong += 1

    async def attempt(self, work: Awaitable[None]) -> bool:
        """Does it, and says whether it worked."""
        try:
            await work
        except MemoryUnavailableError as error:
            self.fail(str(error))
            await asyncio.sleep(0.02)
            return False
        except Exception as error:
            self.found.unnamed += 1
            self.fail(type(error).__name__)
            return False
        return True

    def fail(self, what: str) -> None:
        """Counts a failure."""
        self.found.errors[what] = self.found.errors.get(what, 0) + 1

    async def check(self) -> None:
        """Reads everything that was acknowledged."""
        for entry, text in self.acknowledged.items():
            for _ in range(200):
                try:
                    stored = await self.memory.entry("acme", entry)
                    break
                except MemoryUnavailableError:
                    await asyncio.sleep(0.1)
            else:
                stored = None
            self.found.lost += stored is None
            self.found.wrong += stored is not None and stored.answer_text != text


Fault = Callable[[list[Server], Load], Awaitable[int]]


async def killed(servers: list[Server], load: Load, times: int = 3) -> int:
    """kill -9, and a new start."""
    for _ in range(times):
        await asyncio.sleep(1.5)
        await asyncio.to_thread(servers[0].kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(servers[0].start)
        load.ended = time.monotonic()
        await asyncio.sleep(1.5)
    return times


async def stopped(servers: list[Server], load: Load) -> int:
    """A server that does not answer for five seconds."""
    await asyncio.sleep(1.0)
    servers[-1].send(signal.SIGSTOP)
    await asyncio.sleep(5.0)
    servers[-1].send(signal.SIGCONT)
    load.ended = time.monotonic()
    await asyncio.sleep(3.0)
    return 1


async def filled(servers: list[Server], load: Load) -> int:
    """A full disk, and room again."""
    await asyncio.sleep(1.0)
    ballast = servers[0].folder / "ballast"

    def fill() -> None:
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(b"\0" * 65_536)
            except OSError:
                return

    await asyncio.to_thread(fill)
    await asyncio.sleep(4.0)
    await asyncio.to_thread(ballast.unlink)
    load.ended = time.monotonic()
    await asyncio.sleep(2.0)
    if load.ended is not None:  # some servers want a new start after that
        await asyncio.to_thread(servers[0].kill)
        await asyncio.to_thread(servers[0].start)
        await asyncio.sleep(3.0)
    return 1


async def run(name: str, servers: list[Server], fault: Fault, options: Qdrant) -> Found:
    """One fault under load."""
    found = Found(name)
    for server in servers:
        await asyncio.to_thread(server.start)
    await asyncio.sleep(2.0 if len(servers) > 1 else 0.5)
    memory = ServerMemory.connect(
        f"http://127.0.0.1:{servers[0].grpc}", "i", IMAGE_SIZE, "q", QUESTION_SIZE, options=options, clock=lambda: NOW
    )
    try:
        await memory.start()
        record, vector = an_image()
        await memory.put_image(record, vector, b"fingerprint")
        load = Load(memory, found)
        workers = [asyncio.create_task(load.run(worker)) for worker in range(WORKERS)]
        found.faults = await fault(servers, load)
        load.stopping = True
        await asyncio.gather(*workers)
        await load.check()
    finally:
        await memory.close()
        for server in servers:
            await asyncio.to_thread(server.kill)
    return found


def an_image() -> tuple[ImageRecord, Vector]:
    """The one image that everything is about."""
    digest = bytes(32)
    record = ImageRecord(image_id("acme", digest), "acme", (digest.hex(), "01" * 32), bytes(32), 640, 480, NOW)
    return record, unit(1, IMAGE_SIZE)


def an_entry(number: int) -> tuple[Entry, Vector]:
    """The entry of a number."""
    image = image_id("acme", bytes(32))
    normal = f"question {number}"
    text = f"answer {number}"
    entry = Entry(
        entry_id("acme", image, "space", normal), "acme", image, "space", normal, normal, "en", text.encode(), text,
        "glm", "", NOW, NOW + 3_600, NOW + 7_200, NOW,
    )  # fmt: skip
    return entry, unit(number, QUESTION_SIZE)


def unit(seed: int, size: int) -> Vector:
    """A vector of length 1."""
    vector = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A folder on a small disk of its own; yields whether it could be had."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    yield made.returncode == 0
    if made.returncode == 0:
        subprocess.run(["umount", str(folder)], check=False)


async def study(binary: Path) -> list[Found]:
    """All faults, one after another."""
    options = Qdrant(check_version=False, timeout=2.0)
    home = Path(tempfile.mkdtemp(prefix="askonce-qdrant-"))
    results = []
    try:
        for name, fault in (("killed, started again", killed), ("stopped for 5 s", stopped)):
            folder = home / name.replace(" ", "-")
            folder.mkdir()
            results.append(await run(name, [Server(binary, folder)], fault, options))
        with small_disk(home / "small") as had:
            if had:
                results.append(await run("disk full for 4 s", [Server(binary, home / "small")], filled, options))
        folders = [home / "one", home / "two"]
        for folder in folders:
            folder.mkdir()
        first = Server(binary, folders[0], clustered=True)
        second = Server(binary, folders[1], first.uri, clustered=True)
        pair = Qdrant(check_version=False, timeout=2.0, shards=2, replicas=2)
        results.append(await run("one of two nodes stopped for 5 s", [first, second], stopped, pair))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return results


def main() -> None:
    """Prints the table; exit code 1 when something was lost, wrong, or failed without a name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True, help="the server's program")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    results = asyncio.run(study(arguments.binary.resolve()))
    table = Table("fault", "times", "written", "read", "failed", "unnamed", "lost", "wrong", "recovery s")
    for each in results:
        table.add_row(
            each.fault, str(each.faults), f"{each.written:,}", f"{each.read:,}", f"{sum(each.errors.values()):,}",
            str(each.unnamed), str(each.lost), str(each.wrong),
            " / ".join(f"{seconds:.2f}" for seconds in each.recovery_seconds) or "-",
        )  # fmt: skip
    Console(width=140).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in results], indent=1))
    raise SystemExit(any(each.lost or each.wrong or each.unnamed for each in results))


if __name__ == "__main__":
    main()
