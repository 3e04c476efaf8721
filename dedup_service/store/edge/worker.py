"""The process that owns the embedded store: Qdrant Edge for the points, SQLite for the fingerprints.

Qdrant Edge holds Python's global lock for as long as a call takes, an index build of minutes included, so no thread can
keep it from stalling an event loop. It therefore lives in a process of its own, which serves one call after another
over a socket (`serve`), and has larger indexes built by a third process (`build`) while it goes on answering.

Messages are pickles behind a length, between processes of one user that are each other's parent and child.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import qdrant_edge as edge
import structlog

from askonce import logs
from dedup_service.store.edge.build import Build, build
from dedup_service.store.edge.fingerprints import Fingerprints
from dedup_service.store.edge.framing import LENGTH, receive, send
from dedup_service.store.edge.integrity import QUARANTINE, DamageError, quarantined, read_manifest
from dedup_service.store.edge.shard import (
    BUILD_PAGE,
    SYNC_SECONDS,
    Collection,
    filter_of,
    generation_path,
    sync_files,
)
from dedup_service.store.points import (
    Above,
    Kind,
    Layout,
    Leftover,
)

log = structlog.get_logger("edge_store")
READ_ONLY = "STORE_READ_ONLY: "
"""What an answer begins with that says why nothing can be stored."""
IDLE_SECONDS = 0.2
"""How often the process looks around when nobody asks for anything."""
BUILD_PAUSE = 0.02
"""Longest time in seconds that look-ups keep a build waiting for its next page."""


# Points


# Fingerprints


# The store


@dataclass(frozen=True, slots=True)
class Options:
    """How a store is opened."""

    patience: float = 15.0
    """Seconds to wait for another process that still owns the folder."""
    aside: bool = False
    """Whether what is damaged is set aside, and an empty collection made in its place, instead of refusing to start."""
    least_free: int = 256 << 20
    """Free bytes on the disk below which nothing is stored or changed."""


CHANGES = frozenset(("put", "change", "remove", "put_fingerprint", "remove_fingerprints"))
"""Calls that write."""


class ReadOnlyError(Exception):
    """Nothing can be stored at the moment; the message says why."""


class EdgeStore:
    """All shelves of one folder, one call at a time.

    When the disk is full or fails the store goes on reading and refuses changes, until the trouble is over.
    """

    def __init__(self, folder: Path, layout: Layout, options: Options) -> None:
        """Opens or creates. Raises TimeoutError when another process owns the folder, DamageError for what is broken
        unless that may be set aside."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.options = options
        self.owner = own(folder / "owner.lock", options.patience)
        self.collections: dict[Kind, Collection] = {}
        try:
            for kind in Kind:
                path = folder / layout.name(kind)
                self.collections[kind] = Collection(path, kind, layout.dimension(kind), aside=options.aside)
            images = self.collections[Kind.IMAGES].count(())
            path = folder / f"{layout.fingerprints}.sqlite"
            self.fingerprints = Fingerprints(path, images, aside=options.aside)
        except BaseException:
            for collection in self.collections.values():
                collection.shard.close()
                collection.counter.close()
            self.owner.close()
            raise
        self.findings = [finding for collection in self.collections.values() for finding in collection.findings]
        self.findings += self.fingerprints.findings
        self.building: Build | None = None
        self.build_checked = 0.0
        self.measured = (-60.0, 0)
        self.trouble = self.short_of_room()
        """Why nothing can be stored; empty when it can."""
        self.closing = threading.Event()
        self.syncing = threading.Thread(target=self.sync, name="sync", daemon=True)
        self.syncing.start()

    def sync(self) -> None:
        """Brings changes to the disk once a second, beside the calls. What fails is tried again at the next turn."""
        while not self.closing.wait(SYNC_SECONDS):
            try:
                trouble = self.short_of_room()
                if not trouble:
                    for collection in self.collections.values():
                        collection.sync()
                    self.fingerprints.sync()
            except Exception as error:
                trouble = f"the disk does not take what was stored: {type(error).__name__}: {error}"
            if bool(trouble) != bool(self.trouble):
                log.warning("store_read_only" if trouble else "store_writable", problem=trouble)
            self.trouble = trouble

    def short_of_room(self) -> str:
        """Says so when the disk is nearly full: native code that writes into a full disk ends the process."""
        free = shutil.disk_usage(self.folder).free
        if free >= self.options.least_free:
            return ""
        return f"{free >> 20} MiB are free on the disk, less than {self.options.least_free >> 20}"

    def problems(self) -> list[str]:
        """What an operator should know."""
        found = list(self.findings)
        if self.trouble:
            found.append(f"STORE_READ_ONLY: {self.trouble}")
        if not self.syncing.is_alive():
            found.append("the thread that brings changes to the disk has ended")
        found += [f"{path.name} was set aside and awaits `askonce store repair`" for path in quarantined(self.folder)]
        return found

    def call(self, method: str, arguments: tuple[Any, ...]) -> object:
        """Runs one of the calls that `Points` makes."""
        if method == "build":
            return self.begin(*arguments)
        if method in CHANGES and self.trouble:
            raise ReadOnlyError(self.trouble)
        if isinstance(arguments[0] if arguments else None, Kind):
            collection = self.collections[arguments[0]]
            run: Callable[..., object] = getattr(collection, method)
            return run(*arguments[1:])
        named: dict[str, Callable[..., object]] = {
            "put_fingerprint": self.fingerprints.put,
            "fingerprint": self.fingerprints.get,
            "remove_fingerprints": self.fingerprints.remove,
            "fingerprint_ids": self.fingerprints.ids,
            "disk_bytes": self.disk_bytes,
            "problems": self.problems,
            "building": lambda: self.building is not None or any(c.wants_build() for c in self.collections.values()),
            "rewrite": self.rewrite,
        }
        return named[method](*arguments)

    def disk_bytes(self) -> int:
        """Bytes taken on disk, sparse files counted as they are; measured at most every ten seconds."""
        now = time.monotonic()
        if now - self.measured[0] >= 10.0:
            total = 0
            for folder, _, names in os.walk(self.folder):  # unlike a glob it bears folders that vanish meanwhile
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        total += os.stat(os.path.join(folder, name)).st_blocks * 512
            self.measured = (now, total)
        return self.measured[1]

    def tend(self, now: float) -> None:
        """What is due between calls: flushes, and the next step of a build."""
        if self.trouble:
            return
        for collection in self.collections.values():
            collection.note_count(now)
            if collection.presynced:
                try:
                    collection.flush()
                except Exception as error:  # the engine raises whatever it likes; its log still has everything
                    self.trouble = f"a flush failed: {type(error).__name__}: {error}"
                    log.warning("store_read_only", problem=self.trouble)
                    return
        if self.building is None and now - self.build_checked >= 1.0:
            self.build_checked = now
            for kind, collection in self.collections.items():
                if collection.wants_build():
                    self.begin(kind)
                    break

    def rewrite(self, within: float) -> None:
        """Has what was removed leave the files, log included: builds begin `within` seconds, one after the other."""
        for collection in self.collections.values():
            collection.rewrite(within)
        self.fingerprints.empty_log()
        self.build_checked = min(self.build_checked, time.monotonic() + within - 1.0)

    def begin(self, kind: Kind) -> int:
        """Starts the process that builds a collection's next generation; its id, or 0 when one is going on already."""
        if self.building is not None:
            return 0
        collection = self.collections[kind]
        folder = collection.path(collection.generation + 1)
        shutil.rmtree(folder, ignore_errors=True)
        near, far = socket.socketpair()
        command = [sys.executable, "-m", "dedup_service.store.edge.worker", "build", str(far.fileno())]
        process = subprocess.Popen(command, pass_fds=[far.fileno()], stdin=subprocess.DEVNULL)
        far.close()
        send(near, (str(folder), kind, collection.dimension))
        collection.begin_build()
        self.building = Build(kind, folder, process, near)
        return process.pid

    def advance(self) -> None:
        """Does the next bit of work for a build that is busy."""
        build = self.building
        if build is None or not build.busy:
            return
        build.last = time.monotonic()
        collection = self.collections[build.kind]
        if build.fresh is None:
            self.feed(build, collection)
        elif collection.changed:
            collection.catch_up(build.fresh)
        elif build.syncing is None:
            build.syncing = threading.Thread(target=sync_files, args=(build.folder,), name="sync-build")
            build.syncing.start()
        else:
            collection.take_over(build.fresh, build.given)
            self.building = None

    def feed(self, build: Build, collection: Collection) -> None:
        """Hands the builder its next page."""
        records, following = collection.shard.scroll(
            edge.ScrollRequest(offset=build.after, limit=BUILD_PAGE, with_payload=True, with_vector=True)
        )
        page = [(str(one.id), np.asarray(one.vector, np.float32), one.payload) for one in records]
        build.given += len(page)
        build.after = None if following is None else str(following)
        build.ended = following is None
        build.waiting = False
        try:
            send(build.connection, (page, build.ended))
        except OSError:
            self.abandon()

    def heard(self) -> None:
        """Takes a word from the builder: it asks for more, or it is done, or it is gone."""
        build = self.building
        if build is None:
            return
        try:
            word = build.connection.recv(1)
        except OSError:
            word = b""
        if word == b"+":
            build.waiting = True
        elif word == b".":
            self.part(build)
            build.fresh = edge.EdgeShard.load(str(build.folder))
        else:
            self.abandon()

    def abandon(self) -> None:
        """Gives a build up; the next one is tried when the thresholds are passed again, a minute later."""
        build, self.building = self.building, None
        if build is None:
            return
        log.warning("build_given_up", kind=str(build.kind))
        self.collections[build.kind].changed = None
        if build.syncing is not None:
            build.syncing.join()
        if build.fresh is not None:
            build.fresh.close()
        else:
            build.process.kill()
            self.part(build)
        shutil.rmtree(build.folder, ignore_errors=True)
        self.build_checked = time.monotonic() + 60.0

    def part(self, build: Build) -> None:
        """Parts from the builder."""
        build.connection.close()
        build.process.wait()

    def close(self) -> None:
        """Flushes and closes everything."""
        self.closing.set()
        self.syncing.join()
        self.abandon()
        for collection in self.collections.values():
            try:
                collection.close()
            except Exception as error:  # a full disk, mostly: the engine's own log has everything
                log.warning("collection_not_closed", error=f"{type(error).__name__}: {error}")
        self.fingerprints.close()
        self.owner.close()


def survey(folder: Path, layout: Layout, now: float) -> list[Leftover]:
    """The collections in a folder that belong to other encoders."""
    found = []
    for name in sorted({path.name.split(".")[0] for path in folder.iterdir()}):
        if not layout.foreign(name) or QUARANTINE in name:
            continue
        leftover, path = Leftover(name), folder / name
        if (manifest := read_manifest(path)) is not None:
            shard = edge.EdgeShard.load(str(generation_path(path, manifest.generation)))
            leftover = count_leftover(leftover, shard, now)
            shard.close()
        found.append(leftover)
    return found


def count_leftover(leftover: Leftover, shard: edge.EdgeShard, now: float) -> Leftover:
    """What a shard of other encoders holds."""
    points = int(shard.count(edge.CountRequest(exact=True)))
    if leftover.kind == Kind.ENTRIES:
        live = shard.count(edge.CountRequest(exact=True, filter=filter_of((Above("expire_time", now),))))
        return replace(leftover, points=points, live=int(live))
    if leftover.kind != Kind.IMAGES:
        return replace(leftover, points=points)
    aliases, after = 0, None
    while True:
        records, after = shard.scroll(edge.ScrollRequest(offset=after, limit=1_000, with_payload=["digests"]))
        aliases += sum(len(record.payload["digests"]) - 1 for record in records if record.payload)
        if after is None:
            return replace(leftover, points=points, aliases=aliases)


def own(path: Path, patience: float) -> BinaryIO:
    """Locks the folder for this process; waits for a predecessor that is on its way out."""
    file = path.open("wb")
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                file.close()
                raise TimeoutError(f"{path.parent} is in use by another process") from None
            time.sleep(0.05)
        else:
            return file


# Processes


def serve(connection: socket.socket) -> None:
    """Answers calls until the other side hangs up. The first message is what the store opens with."""
    stream = connection.makefile("rb")
    folder, layout, options = receive(stream)
    try:
        store = EdgeStore(Path(folder), layout, Options(**options))
    except Exception as error:
        damaged = "STORE_DAMAGED: " if isinstance(error, DamageError) else ""
        send(connection, (0, False, f"{damaged}{type(error).__name__}: {error}"))
        return
    send(connection, (0, True, store.findings))
    received = bytearray()
    try:
        while True:
            build = store.building
            with selectors.DefaultSelector() as selector:
                selector.register(connection, selectors.EVENT_READ)
                if build is not None and build.fresh is None:
                    selector.register(build.connection, selectors.EVENT_READ)
                busy = build is not None and build.busy
                ready = {key.fileobj for key, _ in selector.select(0.0 if busy else IDLE_SECONDS)}
            if connection in ready:
                arrived = connection.recv(1 << 20)
                if not arrived:
                    return
                received += arrived
                answer(store, connection, received)
            if build is not None and build.connection in ready:
                store.heard()
            now = time.monotonic()
            if build is not None and (connection not in ready or now - build.last > BUILD_PAUSE):
                store.advance()
            store.tend(now)
    finally:
        store.close()


def answer(store: EdgeStore, connection: socket.socket, received: bytearray) -> None:
    """Answers each complete call in what was received, and takes it out."""
    while len(received) >= LENGTH.size:
        (length,) = LENGTH.unpack_from(received)
        end = LENGTH.size + length
        if len(received) < end:
            return
        number, method, arguments = pickle.loads(bytes(received[LENGTH.size : end]))
        del received[:end]
        try:
            outcome = (number, True, store.call(method, arguments))
        except ReadOnlyError as error:
            outcome = (number, False, f"{READ_ONLY}{error}")
        except Exception as error:
            outcome = (number, False, f"{type(error).__name__}: {error}")
        send(connection, outcome)


def count(connection: socket.socket) -> None:
    """Looks through the collections of other encoders, which nobody has open, and says what they hold."""
    os.nice(10)
    folder, layout, now = receive(connection.makefile("rb"))
    send(connection, (0, True, survey(Path(folder), layout, now)))


def main() -> None:
    """Runs one of the processes on the socket whose number is given."""
    logs.configure_child()
    role, number = sys.argv[1:]
    run = {"serve": serve, "build": build, "count": count}[role]
    gone = (EOFError, BrokenPipeError, ConnectionResetError)  # nobody is left to answer to
    with socket.socket(fileno=int(number)) as connection, contextlib.suppress(*gone):
        run(connection)


if __name__ == "__main__":
    main()
