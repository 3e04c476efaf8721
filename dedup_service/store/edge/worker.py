"""The process that owns the embedded store: Qdrant Edge for the points, SQLite for the fingerprints.

Qdrant Edge holds Python's global lock for as long as a call takes, an index build of minutes included, so no thread can
keep it from stalling an event loop. It therefore lives in a process of its own, which serves one call after another
over a socket (`serve`), and has larger indexes built by a third process (`build`) while it goes on answering.

Messages are pickles behind a length, between processes of one user that are each other's parent and child.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import pickle
import selectors
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import qdrant_edge as edge

from dedup_service.store.points import (
    KEYWORDS,
    NUMBERS,
    Above,
    Among,
    AnyOf,
    Below,
    Condition,
    Equals,
    Found,
    Layout,
    Leftover,
    Page,
    Point,
    Shelf,
    Where,
)
from dedup_service.store.records import Vector

LENGTH = struct.Struct("!I")
SYNC_SECONDS = 1.0
"""Longest time that a change is only in the page cache: a killed process loses nothing, a machine without power at most
this much."""
FLUSH_SECONDS = 60.0
FLUSH_CHANGES = 20_000
"""When a shard is flushed, which empties its log. A start replays about 15,000 changes a second from the log."""
IDLE_SECONDS = 0.2
"""How often the process looks around when nobody asks for anything."""
BUILD_PAGE = 200
"""Points handed to a build in one go, about 2 ms of work."""
BUILD_PAUSE = 0.02
"""Longest time in seconds that look-ups keep a build waiting for its next page."""
BUILD_NEW = 1_000
BUILD_NEW_SHARE = 0.01
"""How many images, absolutely and as a share, may be new before their index is built. Until then they are compared one
by one: 1,000 take about 0.1 ms a vector. A build takes about 0.3 ms of a core an image, at low priority."""
BUILD_GONE = 10_000
BUILD_GONE_SHARE = 0.3
"""How many points may be gone before a build gives their room back."""
INDEXED = {Shelf.IMAGES: True, Shelf.ENTRIES: False}
"""Whether a shelf's vectors get an HNSW graph. An entry is only ever looked for among the few of its image, which the
payload index finds: 0.06 ms among 10,000 and 0.08 ms among 1,000,000 (measured), without any graph."""
EF_CONSTRUCT = 100
GRAPH_LINKS = 16
"""Qdrant's defaults for HNSW (Malkov and Yashunin, arXiv:1603.09320)."""
EF_SEARCH = 32
"""Candidates kept during a search: a third of the default, for a copy lies far nearer than anything else."""

SEARCH_THREADS = 2
"""Threads of one search: one walks the graph while the other compares what is not in it yet."""


def send(connection: socket.socket, message: object) -> None:
    """Writes one message."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    connection.sendall(LENGTH.pack(len(body)) + body)


def receive(stream: BinaryIO) -> Any:
    """Reads one message. Raises EOFError when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError
    return pickle.loads(body)


# Points


def configuration(dimension: int, indexed: bool) -> edge.EdgeConfig:
    """How a shard keeps its vectors and payloads: on disk, those that are searched also in the page cache.

    A graph is walked, and made, over numbers of 8 bits, a quarter of the bytes to fetch; what it finds is scored anew
    with the vectors themselves.
    """
    memory = edge.Memory.Cached if indexed else edge.Memory.Cold
    coarse = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Pinned)
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            dimension, edge.Distance.Cosine, memory=memory, quantization_config=coarse if indexed else None
        ),
        hnsw_config=edge.HnswIndexConfig(
            m=0,  # no graph over all tenants: every search names one, and gets that one's own graph
            ef_construct=EF_CONSTRUCT,
            full_scan_threshold=10_000,
            max_indexing_threads=1,
            payload_m=GRAPH_LINKS if indexed else 0,
        ),
        payload_memory=edge.Memory.Cold,
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=1),
        max_search_threads=SEARCH_THREADS,
    )


def create_shard(folder: Path, shelf: Shelf, dimension: int) -> edge.EdgeShard:
    """A new shard with the indexes of its shelf."""
    folder.mkdir(parents=True)
    shard = edge.EdgeShard.create(str(folder), configuration(dimension, INDEXED[shelf]))
    for key in KEYWORDS[shelf]:
        tenant = key == "tenant"
        schema = edge.KeywordIndexParams(is_tenant=tenant, enable_hnsw=tenant and INDEXED[shelf])
        shard.update(edge.UpdateOperation.create_field_index(key, schema))
    for key in NUMBERS[shelf]:
        shard.update(edge.UpdateOperation.create_field_index(key, edge.FloatIndexParams(enable_hnsw=False)))
    shard.flush()
    return shard


def condition_of(condition: Condition) -> Any:
    """A condition in the engine's words."""
    if isinstance(condition, Equals):
        return edge.FieldCondition(condition.key, match=edge.MatchValue(condition.value))
    if isinstance(condition, AnyOf):
        return edge.FieldCondition(condition.key, match=edge.MatchAny(list(condition.values)))
    if isinstance(condition, Below):
        return edge.FieldCondition(condition.key, range=edge.RangeFloat(lt=condition.value))
    if isinstance(condition, Above):
        return edge.FieldCondition(condition.key, range=edge.RangeFloat(gt=condition.value))
    if isinstance(condition, Among):
        return edge.HasIdCondition(set(condition.ids))
    parts = [condition_of(part) for part in condition.conditions]
    return edge.Filter(min_should=edge.MinShould(parts, condition.count))


def filter_of(where: Where) -> edge.Filter | None:
    """Conditions in the engine's words; None for none."""
    return edge.Filter(must=[condition_of(condition) for condition in where]) if where else None


def point_of(point: str, vector: Any, payload: dict[str, Any] | None) -> edge.Point:
    """A point to be stored. The engine takes the vector as an array, shape (D,), or as a list."""
    return edge.Point(point, vector, payload)


def found_of(record: Any, score: float = 0.0) -> Found:
    """A point as it was found."""
    vector = np.asarray(record.vector, np.float32) if record.vector is not None else None
    return Found(str(record.id), record.payload or {}, score, vector)


@dataclass
class Build:
    """A new generation on its way: what the builder has been given, and what changed since."""

    shelf: Shelf
    folder: Path
    process: subprocess.Popen[bytes]
    connection: socket.socket
    after: str | None = None
    given: int = 0
    """Points that it has been given."""
    ended: bool = False
    """Whether it has been given everything."""
    waiting: bool = False
    """Whether it asks for the next page."""
    fresh: edge.EdgeShard | None = None
    """The finished generation, which still lacks what changed meanwhile."""
    syncing: threading.Thread | None = None
    """Brings the finished generation to the disk before it is relied upon."""
    last: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether there is something to do for it now."""
        if self.syncing is not None:
            return not self.syncing.is_alive()
        return self.fresh is not None or (self.waiting and not self.ended)


class Collection:
    """One shelf: a shard in a folder of its own, replaced as a whole by a build.

    `current` names the folder in use and how many points it was built with; other folders are left-overs.
    """

    def __init__(self, folder: Path, shelf: Shelf, dimension: int) -> None:
        self.folder = folder
        self.shelf = shelf
        self.dimension = dimension
        self.changed: set[str] | None = None
        """Ids changed since a build began."""
        self.removed = 0
        """Points removed or replaced since the last build; counts again from zero after a start."""
        self.unflushed = 0
        self.since = 0.0
        self.unsynced = False
        self.presynced = False
        """Whether the files have been synced for a flush that is due."""
        self.removal: threading.Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.generation, self.built = self.read_current()
        for other in folder.iterdir():
            if other.is_dir() and other != self.path(self.generation):
                shutil.rmtree(other, ignore_errors=True)
        if self.path(self.generation).exists():
            self.shard = edge.EdgeShard.load(str(self.path(self.generation)))
        else:
            self.shard = create_shard(self.path(self.generation), shelf, dimension)
            self.write_current()

    def path(self, generation: int) -> Path:
        """The folder of a generation."""
        return generation_path(self.folder, generation)

    def read_current(self) -> tuple[int, int]:
        """The generation in use, and with how many points it was built."""
        if (current := current_of(self.folder)) is not None:
            return current
        if self.path(1).exists():  # killed while the first generation was being made: nothing was stored yet
            shutil.rmtree(self.path(1))
        return 1, 0

    def write_current(self) -> None:
        """Makes the present generation the one that a start opens, all or nothing."""
        fresh = self.folder / "current.json.new"
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({"generation": self.generation, "built": self.built}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / "current.json")

    def update(self, operation: edge.UpdateOperation, ids: Sequence[str]) -> None:
        """Applies one change; it is in the write-ahead log on return."""
        self.shard.update(operation)
        if self.changed is not None:
            self.changed.update(ids)
        if not self.unflushed:
            self.since = time.monotonic()
        self.unflushed += len(ids)
        self.unsynced = True

    def put(self, points: Sequence[Point]) -> None:
        """Stores points."""
        self.update(
            edge.UpdateOperation.upsert_points([point_of(one.id, one.vector, one.payload) for one in points]),
            [one.id for one in points],
        )

    def change(self, changes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Sets payload fields of points that exist."""
        for point, payload in changes:
            self.update(edge.UpdateOperation.set_payload([point], payload), [point])

    def remove(self, ids: Sequence[str]) -> None:
        """Removes points."""
        self.update(edge.UpdateOperation.delete_points(list(ids)), ids)
        self.removed += len(ids)

    def retrieve(self, ids: Sequence[str], vectors: bool) -> list[Found]:
        """The points of these ids."""
        return [found_of(record) for record in self.shard.retrieve(list(ids), True, vectors)]

    def nearest(self, vectors: Vector, where: Where, limit: int) -> list[Found]:
        """The nearest points to any of the vectors. Of several vectors' finds, payloads are read for the best alone: to
        read all would take a third of the time."""
        condition, params = filter_of(where), edge.SearchParams(hnsw_ef=EF_SEARCH)
        whole = len(vectors) == 1
        requests = [
            edge.QueryRequest(
                limit, query=edge.Query.Nearest(vector), filter=condition, with_payload=whole, params=params
            )
            for vector in np.ascontiguousarray(vectors, np.float32)
        ]
        if whole:
            return [found_of(record, record.score) for record in self.shard.query(requests[0])]
        scores: dict[str, float] = {}
        for answer in self.shard.query_batch(edge.QueryBatchRequest(requests)):
            for record in answer:
                scores[str(record.id)] = max(record.score, scores.get(str(record.id), -1.0))
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:limit]
        found = {one.id: one for one in self.retrieve(best, vectors=False)}
        return [replace(found[point], score=scores[point]) for point in best]

    def page(self, where: Where, limit: int, after: str | None, fields: tuple[str, ...] | None, vectors: bool) -> Page:
        """A run of points in the order of ids."""
        records, following = self.shard.scroll(
            edge.ScrollRequest(
                offset=after,
                limit=limit,
                filter=filter_of(where),
                with_payload=True if fields is None else list(fields),
                with_vector=vectors,
            )
        )
        return Page(tuple(found_of(record) for record in records), None if following is None else str(following))

    def lowest(self, key: str, below: float, limit: int, fields: tuple[str, ...]) -> list[Found]:
        """The points with the smallest numbers. Reads along the number's index: a filter alone would gather all that
        are below, at every call."""
        records, _ = self.shard.scroll(
            edge.ScrollRequest(
                limit=limit, filter=filter_of((Below(key, below),)), with_payload=[*fields], order_by=edge.OrderBy(key)
            )
        )
        return [found_of(record) for record in records]

    def count(self, where: Where) -> int:
        """The number of points to which the conditions apply."""
        return int(self.shard.count(edge.CountRequest(exact=True, filter=filter_of(where))))

    def flush_due(self, now: float) -> bool:
        """Whether changes have waited long enough."""
        return self.unflushed >= FLUSH_CHANGES or (self.unflushed > 0 and now - self.since >= FLUSH_SECONDS)

    def flush(self) -> None:
        """Writes to disk what is only in the log."""
        self.shard.flush()
        self.unflushed = 0
        self.presynced = False

    def sync(self) -> None:
        """Brings the log to the disk, and every file when a flush is due. For another thread: it only opens files."""
        path = self.path(self.generation)
        if self.unsynced:
            self.unsynced = False
            sync_files(path / "wal")
        if not self.presynced and self.flush_due(time.monotonic()):
            sync_files(path)
            self.presynced = True

    def wants_build(self) -> bool:
        """Whether enough has been added without an index, or removed, that a new generation pays.

        The graph is built anew each time, so the share that may be new bounds the work: 100 builds of an image's worth.
        """
        points = self.shard.info().points_count
        if self.removed > max(BUILD_GONE, BUILD_GONE_SHARE * points):
            return True
        new = points + self.removed - self.built
        return INDEXED[self.shelf] and new > max(BUILD_NEW, BUILD_NEW_SHARE * self.built)

    def catch_up(self, fresh: edge.EdgeShard) -> None:
        """Brings some of what has changed since a build began into its result."""
        ids = [self.changed.pop() for _ in range(min(BUILD_PAGE, len(self.changed)))] if self.changed else []
        kept = self.shard.retrieve([*ids], True, True)
        if kept:
            points = [point_of(str(one.id), one.vector, one.payload) for one in kept]
            fresh.update(edge.UpdateOperation.upsert_points(points))
        gone = set(ids) - {str(one.id) for one in kept}
        if gone:
            fresh.update(edge.UpdateOperation.delete_points([*gone]))

    def take_over(self, fresh: edge.EdgeShard, built: int) -> None:
        """Puts a generation, built with so many points, in place of the present one."""
        old, former = self.shard, self.path(self.generation)
        self.shard, self.generation, self.built = fresh, self.generation + 1, built
        self.changed, self.removed, self.presynced = None, 0, False
        self.write_current()
        old.close()
        self.removal = threading.Thread(target=shutil.rmtree, args=(former, True), name="remove-generation")
        self.removal.start()


def current_of(folder: Path) -> tuple[int, int] | None:
    """The generation that a collection's folder has in use and with how many points it was built; None before the
    first."""
    try:
        current = json.loads((folder / "current.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return int(current["generation"]), int(current["built"])


def generation_path(folder: Path, generation: int) -> Path:
    """The folder of one generation of a collection."""
    return folder / f"{generation:06d}"


def sync_files(folder: Path) -> None:
    """Brings a folder's files to the disk. Unlike the engine's own flush it lets other threads run meanwhile."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                number = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(number)
                finally:
                    os.close(number)


# Fingerprints


class Fingerprints:
    """Fingerprints by image. They are 33 to 97 kB each and never searched: a table keeps them out of the points, where
    every look at a payload and every build would carry them along."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unsynced = False
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=NORMAL")
        self.database.execute("PRAGMA wal_autocheckpoint=0")  # `sync` does it, in its own thread
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS fingerprint (image TEXT PRIMARY KEY, time REAL NOT NULL, content BLOB NOT NULL)"
        )

    def put(self, image: str, content: bytes, stored: float) -> None:
        """Stores a fingerprint."""
        self.database.execute("INSERT OR REPLACE INTO fingerprint VALUES (?, ?, ?)", (image, stored, content))
        self.unsynced = True

    def get(self, image: str) -> bytes | None:
        """A fingerprint."""
        row = self.database.execute("SELECT content FROM fingerprint WHERE image = ?", (image,)).fetchone()
        return bytes(row[0]) if row else None

    def remove(self, images: Sequence[str]) -> None:
        """Removes fingerprints."""
        self.database.executemany("DELETE FROM fingerprint WHERE image = ?", [(image,) for image in images])
        self.unsynced = True

    def ids(self, before: float, limit: int, after: str | None) -> tuple[list[str], str | None]:
        """Images in order, and where the next run starts."""
        rows = self.database.execute(
            "SELECT image, time FROM fingerprint WHERE image >= ? ORDER BY image LIMIT ?", (after or "", limit + 1)
        ).fetchall()
        following = rows[limit][0] if len(rows) > limit else None
        return [image for image, stored in rows[:limit] if stored < before], following

    def sync(self) -> None:
        """Moves the log into the database and both to the disk. For another thread."""
        if self.unsynced:
            self.unsynced = False
            with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Closes the database."""
        self.database.close()


# The store


class EdgeStore:
    """All shelves of one folder, one call at a time."""

    def __init__(self, folder: Path, layout: Layout, patience: float) -> None:
        """Opens or creates. Raises TimeoutError when another process still owns the folder after `patience` seconds."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.owner = own(folder / "owner.lock", patience)
        self.collections = {
            shelf: Collection(folder / layout.name(shelf), shelf, layout.dimension(shelf)) for shelf in Shelf
        }
        self.fingerprints = Fingerprints(folder / f"{layout.fingerprints}.sqlite")
        self.building: Build | None = None
        self.build_checked = 0.0
        self.measured = (-60.0, 0)
        self.closing = threading.Event()
        self.syncing = threading.Thread(target=self.sync, name="sync")
        self.syncing.start()

    def sync(self) -> None:
        """Brings changes to the disk once a second, beside the calls."""
        while not self.closing.wait(SYNC_SECONDS):
            for collection in self.collections.values():
                collection.sync()
            self.fingerprints.sync()

    def call(self, method: str, arguments: tuple[Any, ...]) -> object:
        """Runs one of the calls that `Points` makes."""
        if method == "build":
            return self.begin(*arguments)
        if isinstance(arguments[0] if arguments else None, Shelf):
            collection = self.collections[arguments[0]]
            run: Callable[..., object] = getattr(collection, method)
            return run(*arguments[1:])
        named: dict[str, Callable[..., object]] = {
            "put_fingerprint": self.fingerprints.put,
            "fingerprint": self.fingerprints.get,
            "remove_fingerprints": self.fingerprints.remove,
            "fingerprint_ids": self.fingerprints.ids,
            "disk_bytes": self.disk_bytes,
            "building": lambda: self.building is not None,
        }
        return named[method](*arguments)

    def disk_bytes(self) -> int:
        """Bytes taken on disk, sparse files counted as they are; measured at most every ten seconds."""
        now = time.monotonic()
        if now - self.measured[0] >= 10.0:
            total = 0
            for path in self.folder.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_blocks * 512
            self.measured = (now, total)
        return self.measured[1]

    def tend(self, now: float) -> None:
        """What is due between calls: flushes, and the next step of a build."""
        for collection in self.collections.values():
            if collection.presynced:
                collection.flush()
        if self.building is None and now - self.build_checked >= 1.0:
            self.build_checked = now
            for shelf, collection in self.collections.items():
                if collection.wants_build():
                    self.begin(shelf)
                    break

    def begin(self, shelf: Shelf) -> int:
        """Starts the process that builds a shelf's next generation; its id, or 0 when one is going on already."""
        if self.building is not None:
            return 0
        collection = self.collections[shelf]
        folder = collection.path(collection.generation + 1)
        shutil.rmtree(folder, ignore_errors=True)
        near, far = socket.socketpair()
        command = [sys.executable, "-m", "dedup_service.store.edge.worker", "build", str(far.fileno())]
        process = subprocess.Popen(command, pass_fds=[far.fileno()], stdin=subprocess.DEVNULL)
        far.close()
        send(near, (str(folder), shelf, collection.dimension))
        collection.changed = set()
        self.building = Build(shelf, folder, process, near)
        return process.pid

    def advance(self) -> None:
        """Does the next bit of work for a build that is busy."""
        build = self.building
        if build is None or not build.busy:
            return
        build.last = time.monotonic()
        collection = self.collections[build.shelf]
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
        logging.getLogger(__name__).warning("the build of %s was given up", build.shelf)
        self.collections[build.shelf].changed = None
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
            collection.flush()
            collection.shard.close()
            if collection.removal is not None:
                collection.removal.join()
        self.fingerprints.close()
        self.owner.close()


def survey(folder: Path, layout: Layout, now: float) -> list[Leftover]:
    """The collections in a folder that belong to other encoders."""
    found = []
    for name in sorted({path.name.split(".")[0] for path in folder.iterdir()}):
        if not layout.foreign(name):
            continue
        leftover, path = Leftover(name), folder / name
        if (current := current_of(path)) is not None:
            shard = edge.EdgeShard.load(str(generation_path(path, current[0])))
            leftover = count_leftover(leftover, shard, now)
            shard.close()
        found.append(leftover)
    return found


def count_leftover(leftover: Leftover, shard: edge.EdgeShard, now: float) -> Leftover:
    """What a shard of other encoders holds."""
    points = int(shard.count(edge.CountRequest(exact=True)))
    if leftover.shelf == Shelf.ENTRIES:
        live = shard.count(edge.CountRequest(exact=True, filter=filter_of((Above("expire_time", now),))))
        return replace(leftover, points=points, live=int(live))
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
    folder, layout, patience = receive(stream)
    try:
        store = EdgeStore(Path(folder), layout, patience)
    except Exception as error:
        send(connection, (0, False, f"{type(error).__name__}: {error}"))
        return
    send(connection, (0, True, None))
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
        except Exception as error:
            outcome = (number, False, f"{type(error).__name__}: {error}")
        send(connection, outcome)


def build(connection: socket.socket) -> None:
    """Builds one generation from the pages it is given, at low priority, and says when it is done."""
    os.nice(10)
    stream = connection.makefile("rb")
    folder, shelf, dimension = receive(stream)
    shard = create_shard(Path(folder), shelf, dimension)
    ended = False
    while not ended:
        connection.sendall(b"+")
        page, ended = receive(stream)
        if page:
            points = [point_of(point, vector, payload) for point, vector, payload in page]
            shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()
    if INDEXED[shelf]:
        shard.optimize()
    shard.close()
    connection.sendall(b".")


def count(connection: socket.socket) -> None:
    """Looks through the collections of other encoders, which nobody has open, and says what they hold."""
    os.nice(10)
    folder, layout, now = receive(connection.makefile("rb"))
    send(connection, (0, True, survey(Path(folder), layout, now)))


def main() -> None:
    """Runs one of the processes on the socket whose number is given."""
    role, number = sys.argv[1:]
    run = {"serve": serve, "build": build, "count": count}[role]
    gone = (EOFError, BrokenPipeError, ConnectionResetError)  # nobody is left to answer to
    with socket.socket(fileno=int(number)) as connection, contextlib.suppress(*gone):
        run(connection)


if __name__ == "__main__":
    main()
