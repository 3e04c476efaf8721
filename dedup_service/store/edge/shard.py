"""One shelf of the embedded store: a Qdrant Edge shard in a folder of its own, replaced as a whole by a build."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from dedup_service.store.points import (
    GRAPHED,
    KEYWORDS,
    NUMBERS,
    Above,
    Among,
    AnyOf,
    Below,
    Condition,
    Equals,
    Found,
    Page,
    Point,
    Shelf,
    Where,
)
from dedup_service.store.records import Vector

SYNC_SECONDS = 1.0
"""Longest time that a change is only in the page cache: a killed process loses nothing, a machine without power at most
this much."""


FLUSH_SECONDS = 60.0


FLUSH_CHANGES = 20_000
"""When a shard is flushed, which empties its log. A start replays about 15,000 changes a second from the log."""


BUILD_PAGE = 200
"""Points handed to a build in one go, about 2 ms of work."""
BUILD_NEW = 1_000


BUILD_NEW_SHARE = 0.01
"""How many images, absolutely and as a share, may be new before their index is built. Until then they are compared one
by one: 1,000 take about 0.1 ms a vector. A build takes about 0.3 ms of a core an image, at low priority."""


BUILD_GONE = 10_000


BUILD_GONE_SHARE = 0.3
"""How many points may be gone before a build gives their room back."""


EF_CONSTRUCT = 100


GRAPH_LINKS = 16
"""Qdrant's defaults for HNSW (Malkov and Yashunin, arXiv:1603.09320)."""


EF_SEARCH = 32
"""Candidates kept during a search: a third of the default, for a copy lies far nearer than anything else."""


SEARCH_THREADS = 2
"""Threads of one search: one walks the graph while the other compares what is not in it yet."""


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
    shard = edge.EdgeShard.create(str(folder), configuration(dimension, shelf in GRAPHED))
    for key in KEYWORDS[shelf]:
        schema = edge.KeywordIndexParams(is_tenant=key == "tenant", enable_hnsw=key == GRAPHED.get(shelf))
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
        return self.shelf in GRAPHED and new > max(BUILD_NEW, BUILD_NEW_SHARE * self.built)

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
    for within, _, names in os.walk(folder):  # unlike a glob it bears folders that vanish meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                number = os.open(os.path.join(within, name), os.O_RDONLY)
                try:
                    os.fsync(number)
                finally:
                    os.close(number)
