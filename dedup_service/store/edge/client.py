"""The embedded store: Qdrant Edge in a process of its own, reached over a socket."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import prometheus_client
import structlog

from dedup_service.store.operations import operation
from dedup_service.store.points import Found, Kind, Layout, Leftover, Page, Point, Where
from dedup_service.store.records import MemoryDamagedError, MemoryReadOnlyError, MemoryUnavailableError, Vector
from dedup_service.store.repository import PointMemory

LENGTH_BYTES = 4
DAMAGED, READ_ONLY = "STORE_DAMAGED: ", "STORE_READ_ONLY: "
"""What the process's answers begin with that say so."""
SET_ASIDE = prometheus_client.Counter(
    "askonce_dedup_store_set_aside_total", "Damaged collections that a start set aside."
)
log = structlog.get_logger("edge_store")


class EdgePoints:
    """Implements `Points` by the process in `worker`. When that process dies, calls fail until it is back, which
    is tried at once and then at growing intervals."""

    kind = "qdrant-edge"

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        timeout: float = 10.0,
        opening: float = 120.0,
        waiting: int = 1024,
        aside: bool = False,
        least_free: int = 256 << 20,
    ) -> None:
        """`timeout` and `opening` bound one call and the start in seconds; `waiting` bounds the calls under way.
        Damaged collections are set aside if `aside`, else the start fails; with less than `least_free` bytes on the
        disk nothing is stored."""
        self.folder = folder
        self.layout = layout
        self.timeout = timeout
        self.opening = opening
        self.limit = waiting
        self.options = {"aside": aside, "least_free": least_free}
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self.number = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.task: asyncio.Task[None] | None = None
        self.closing = False

    async def start(self) -> None:
        """Starts the process, which opens or creates the collections."""
        self.closing = False
        reader = await self.open()
        self.task = asyncio.create_task(self.keep(reader), name="edge-process")

    async def open(self) -> asyncio.StreamReader:
        """Starts the process and waits until it has opened the store."""
        self.process, reader, writer = await connect("serve")
        try:
            self.write(writer, (str(self.folder), self.layout, self.options))
            _, opened, found = await asyncio.wait_for(self.read(reader), self.opening)
            if not opened:
                raise failure(found)
            for finding in found:
                SET_ASIDE.inc()
                log.error("store_set_aside", finding=finding)
        except (OSError, EOFError, TimeoutError) as error:
            await self.part(writer)
            raise MemoryUnavailableError("the embedded store does not open") from error
        except BaseException:
            await self.part(writer)
            raise
        self.writer = writer
        return reader

    async def keep(self, reader: asyncio.StreamReader) -> None:
        """Hands answers to those who wait for them; starts the process again when it has died."""
        while True:
            with suppress(OSError, EOFError):
                while True:
                    number, fine, value = await self.read(reader)
                    future = self.pending.pop(number, None)
                    if future is not None and not future.done():
                        if fine:
                            future.set_result(value)
                        else:
                            future.set_exception(failure(value))
            writer, self.writer = self.writer, None
            self.fail("the embedded store has stopped")
            if writer is not None:
                await self.part(writer)
            if self.closing:
                return
            log.error("edge_process_died", status=self.process.returncode if self.process else None)
            delay = 0.1
            while True:
                try:
                    reader = await self.open()
                    break
                except MemoryUnavailableError as error:
                    log.error("edge_process_not_started", error=str(error), retry_seconds=delay)
                    await asyncio.sleep(delay)
                    delay = min(10.0, 2 * delay)

    async def close(self) -> None:
        """Lets the process finish, flush and end. Safe to call twice."""
        self.closing = True
        if self.writer is not None and self.writer.can_write_eof():
            self.writer.write_eof()
        if self.task is not None:
            with suppress(asyncio.CancelledError):
                if self.writer is None:  # between two processes: nothing to wait for
                    self.task.cancel()
                await self.task
            self.task = None
        self.fail("the embedded store is closed")

    async def part(self, writer: asyncio.StreamWriter) -> None:
        """Hangs up, and waits for the process to end: the folder is free then."""
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        if self.process is not None:
            await asyncio.to_thread(end, self.process)

    def fail(self, problem: str) -> None:
        """Tells everyone who waits that no answer will come."""
        pending, self.pending = self.pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(MemoryUnavailableError(problem))
                future.exception()

    async def read(self, reader: asyncio.StreamReader) -> tuple[int, bool, Any]:
        """Reads one message."""
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
        return cast("tuple[int, bool, Any]", pickle.loads(await reader.readexactly(length)))

    def write(self, writer: asyncio.StreamWriter, message: object) -> None:
        """Writes one message."""
        body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        writer.write(len(body).to_bytes(LENGTH_BYTES) + body)

    async def call(self, method: str, *arguments: object) -> Any:
        """Has the process do something, in the order of calls."""
        with operation(self.kind, method):
            return await self.answer(method, arguments)

    async def answer(self, method: str, arguments: tuple[object, ...]) -> Any:
        """Sends one call and waits for its answer."""
        if self.writer is None:
            raise MemoryUnavailableError("the embedded store is not running")
        if len(self.pending) >= self.limit:
            raise MemoryUnavailableError("too many calls are waiting for the embedded store")
        self.number += 1
        number = self.number
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.pending[number] = future
        try:
            self.write(self.writer, (number, method, arguments))
            return await asyncio.wait_for(future, self.timeout)
        except TimeoutError as error:
            raise MemoryUnavailableError(f"the embedded store took more than {self.timeout:g} s") from error
        finally:
            self.pending.pop(number, None)

    async def retrieve(self, kind: Kind, ids: Sequence[str], vectors: bool = False) -> list[Found]:
        return cast("list[Found]", await self.call("retrieve", kind, list(ids), vectors))

    async def nearest(self, kind: Kind, vectors: Vector, where: Where, limit: int) -> list[Found]:
        return cast("list[Found]", await self.call("nearest", kind, vectors, where, limit))

    async def page(
        self,
        kind: Kind,
        where: Where,
        limit: int,
        *,
        after: str | None = None,
        fields: tuple[str, ...] | None = None,
        vectors: bool = False,
    ) -> Page:
        return cast("Page", await self.call("page", kind, where, limit, after, fields, vectors))

    async def lowest(self, kind: Kind, key: str, below: float, limit: int, fields: tuple[str, ...]) -> list[Found]:
        return cast("list[Found]", await self.call("lowest", kind, key, below, limit, fields))

    async def count(self, kind: Kind, where: Where = ()) -> int:
        return cast("int", await self.call("count", kind, where))

    async def put(self, kind: Kind, points: Sequence[Point]) -> None:
        await self.call("put", kind, list(points))

    async def change(self, kind: Kind, changes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        await self.call("change", kind, list(changes))

    async def remove(self, kind: Kind, ids: Sequence[str]) -> None:
        await self.call("remove", kind, list(ids))

    async def rewrite(self, within: float) -> None:
        await self.call("rewrite", within)

    async def put_fingerprint(self, image: str, content: bytes, time: float) -> None:
        await self.call("put_fingerprint", image, content, time)

    async def fingerprint(self, image: str) -> bytes | None:
        return cast("bytes | None", await self.call("fingerprint", image))

    async def remove_fingerprints(self, images: Sequence[str]) -> None:
        await self.call("remove_fingerprints", list(images))

    async def fingerprint_ids(
        self, before: float, limit: int, after: str | None = None
    ) -> tuple[list[str], str | None]:
        return cast("tuple[list[str], str | None]", await self.call("fingerprint_ids", before, limit, after))

    async def leftovers(self, now: float) -> list[Leftover]:
        """Has a process of its own look: opening a collection can take seconds."""
        if not await asyncio.to_thread(self.foreign):
            return []
        process, reader, writer = await connect("count")
        try:
            self.write(writer, (str(self.folder), self.layout, now))
            _, _, found = await self.read(reader)
        except (OSError, EOFError) as error:
            raise MemoryUnavailableError("what other encoders left can't be read") from error
        finally:
            writer.close()
            await asyncio.to_thread(end, process)
        return cast("list[Leftover]", found)

    def foreign(self) -> bool:
        """Whether there is anything of other encoders. Blocks."""
        return any(self.layout.foreign(path.name.split(".")[0]) for path in self.folder.iterdir())

    async def drop(self, names: Sequence[str]) -> None:
        await asyncio.to_thread(remove_collections, self.folder, [name for name in names if self.layout.foreign(name)])

    async def disk_bytes(self) -> int:
        return cast("int", await self.call("disk_bytes"))

    async def problems(self) -> list[str]:
        return cast("list[str]", await self.call("problems"))


class EdgeMemory(PointMemory):
    """Memory in a folder of this machine."""

    points: EdgePoints

    def __init__(
        self,
        data: Path,
        image_identity: str,
        image_dimension: int,
        question_identity: str,
        question_dimension: int,
        *,
        timeout: float = 10.0,
        aside: bool = False,
        least_free: int = 256 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`data` gets a sub-folder `edge`. `timeout` bounds one call in seconds; `clock` gives seconds of the epoch;
        see `EdgePoints` for the others."""
        layout = Layout(image_identity, image_dimension, question_identity, question_dimension)
        super().__init__(EdgePoints(data / "edge", layout, timeout=timeout, aside=aside, least_free=least_free), clock)


def failure(problem: str) -> MemoryUnavailableError:
    """The error that a process's answer names."""
    if problem.startswith(READ_ONLY):
        return MemoryReadOnlyError(problem.removeprefix(READ_ONLY))
    if problem.startswith(DAMAGED):
        return MemoryDamagedError(problem.removeprefix(DAMAGED).partition(": ")[2])
    return MemoryUnavailableError(problem)


async def connect(role: str) -> tuple[subprocess.Popen[bytes], asyncio.StreamReader, asyncio.StreamWriter]:
    """Starts a process and opens a connection to it."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        process = await asyncio.to_thread(launch, role, far.fileno())
    return process, *await asyncio.open_connection(sock=near)


def launch(role: str, number: int) -> subprocess.Popen[bytes]:
    """Starts a process with the other end of the socket. It is no member of our process group: a Ctrl-C is ours to
    handle, and the process ends when we hang up."""
    command = [sys.executable, "-m", "dedup_service.store.edge.worker", role, str(number)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        command, pass_fds=[number], stdin=subprocess.DEVNULL, start_new_session=True, env=environment
    )


def remove_collections(folder: Path, names: Sequence[str]) -> None:
    """Removes the files of collections that nobody has open. Blocks."""
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
        for suffix in (".sqlite", ".sqlite-wal", ".sqlite-shm"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Waits for the process to end by itself, then makes it."""
    try:
        process.wait(30.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
