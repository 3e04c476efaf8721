"""One collection of the embedded store: a Qdrant Edge shard in a folder of its own, replaced as a whole by a build."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from dedup_service.store.edge.integrity import (
    COUNTER,
    REMOVED,
    UNFINISHED,
    Counter,
    DamageError,
    Manifest,
    compare_files,
    fold,
    quarantine,
    read_manifest,
    survey_files,
    sync_folder,
    write_manifest,
)
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
    Kind,
    Page,
    Point,
    Where,
)
from dedup_service.store.records import Vector

SUMMED_AT_START = 64 << 20
"""Most bytes of a collection whose checksums a start compares, about a tenth of a second; of larger ones it looks at
sizes and counts, and `askonce store verify` at everything."""
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


REWRITE_SECONDS = 3_600.0
"""How long the bytes of what was removed may stay in a generation's segments and log: then it is built anew."""


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


def create_shard(folder: Path, kind: Kind, dimension: int) -> edge.EdgeShard:
    """A new shard with the indexes of its kind."""
    folder.mkdir(parents=True, exist_ok=True)
    shard = edge.EdgeShard.create(str(folder), configuration(dimension, kind in GRAPHED))
    for key in KEYWORDS[kind]:
        schema = edge.KeywordIndexParams(is_tenant=key == "tenant", enable_hnsw=key == GRAPHED.get(kind))
        shard.update(edge.UpdateOperation.create_field_index(key, schema))
    for key in NUMBERS[kind]:
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
    """One collection: a shard in a folder of its own, replaced as a whole by a build.

    The manifest names the folder in use. A start deletes other generations only where they are older than one that was
    opened and found whole, or were never in use.
    """

    def __init__(self, folder: Path, kind: Kind, dimension: int, *, aside: bool = False) -> None:
        """Opens or creates. Where what is there is damaged, DamageError is raised or, with `aside`, it is set aside
        (`findings` says what and where) and an empty collection made."""
        self.folder = folder
        self.kind = kind
        self.dimension = dimension
        self.changed: set[str] | None = None
        """Ids changed since a build began."""
        self.removed = 0
        """Points removed since the last build; counts again from one after a start."""
        self.rewrite_due = math.inf
        """When (on the monotonic clock) a build is due because of them."""
        self.removed_meanwhile, self.due_meanwhile = 0, math.inf
        """The same, counted from the beginning of the build under way."""
        self.unflushed = 0
        self.since = 0.0
        self.unsynced = False
        self.presynced = False
        """Whether the files have been synced for a flush that is due."""
        self.removal: threading.Thread | None = None
        self.findings: list[str] = []
        """What was found damaged and where it is now."""
        self.generation, self.built = 1, 0
        self.shard: edge.EdgeShard
        try:
            self.open()
        except DamageError as damage:
            if not aside:
                raise
            moved = quarantine(folder)
            self.findings.append(f"{damage}; set aside as {moved.name}")
            self.open()
        points = self.count(())
        self.counter = Counter(folder / COUNTER)
        self.counter.write(points)
        self.recount = 0.0
        """When the points may be counted again."""
        self.write_current(points)
        self.clear()
        if (self.path(self.generation) / REMOVED).exists():
            self.note_removed(1)

    def open(self) -> None:
        """Opens the generation in use, or makes the first. Raises DamageError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = read_manifest(self.folder)
        if manifest is None:
            self.create()
            return
        self.generation, self.built = manifest.generation, manifest.built
        self.shard = load_generation(self.folder, manifest)

    def create(self) -> None:
        """Makes the first generation, where there is none that was ever in use. Raises DamageError."""
        used = [path for path in generations(self.folder) if not (path / UNFINISHED).exists()]
        if used:
            raise DamageError(f"{self.folder.name} has {len(used)} generations and no manifest that names one")
        path = self.path(1)
        shutil.rmtree(path, ignore_errors=True)
        begin_generation(path)
        self.shard = create_shard(path, self.kind, self.dimension)
        self.write_current(0)
        end_generation(path)

    def clear(self) -> None:
        """Deletes generations that are superseded or were never in use."""
        for other in generations(self.folder):
            old = int(other.name) < self.generation or (other / UNFINISHED).exists()
            if old and other != self.path(self.generation):
                shutil.rmtree(other, ignore_errors=True)

    def path(self, generation: int) -> Path:
        """The folder of a generation."""
        return generation_path(self.folder, generation)

    def write_current(self, points: int) -> None:
        """Makes the present generation, with so many points, the one that a start opens, all or nothing."""
        write_manifest(self.folder, Manifest(self.generation, self.built, points))

    def note_count(self, now: float) -> None:
        """Notes how many points there are, after changes, once a second or seldomer: a count takes 0.16 microseconds
        a point, and must not take more than a two-hundredth of the time."""
        if self.counter.changes and now >= self.recount:
            self.counter.write(self.count(()))
            self.recount = now + max(1.0, 200 * (time.monotonic() - now))

    def close(self) -> None:
        """Flushes, closes, and leaves a manifest that says what is there."""
        points, ids = self.count(()), fold(self.ids())
        self.flush()
        self.shard.close()
        if self.removal is not None:
            self.removal.join()
        self.counter.write(points)
        self.counter.close()
        files = survey_files(self.path(self.generation))
        write_manifest(self.folder, Manifest(self.generation, self.built, points, ids, True, files))

    def ids(self) -> Iterator[str]:
        """All points' ids."""
        return ids_of(self.shard)

    def update(self, operation: edge.UpdateOperation, ids: Sequence[str]) -> None:
        """Applies one change; it is in the write-ahead log on return."""
        self.counter.add(len(ids))
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
        self.note_removed(len(ids))

    def note_removed(self, count: int) -> None:
        """Notes that what was removed is still among the bytes of the generation, for the next start too."""
        if not self.removed:
            (self.path(self.generation) / REMOVED).touch()
            self.rewrite_due = time.monotonic() + REWRITE_SECONDS
        self.removed += count
        self.removed_meanwhile += count

    def rewrite(self, within: float) -> None:
        """Has what was removed leave the files: a build begins `within` seconds."""
        if self.removed:
            due = time.monotonic() + within
            self.rewrite_due = min(self.rewrite_due, due)
            self.due_meanwhile = min(self.due_meanwhile, due)

    def begin_build(self) -> None:
        """From now on what changes is noted, to be brought into the build's result."""
        self.changed = set()
        self.removed_meanwhile, self.due_meanwhile = 0, math.inf

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
        if self.removed > max(BUILD_GONE, BUILD_GONE_SHARE * points) or time.monotonic() >= self.rewrite_due:
            return True
        new = points + self.removed - self.built
        return self.kind in GRAPHED and new > max(BUILD_NEW, BUILD_NEW_SHARE * self.built)

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
        self.changed, self.removed, self.rewrite_due, self.presynced = None, 0, math.inf, False
        points = self.count(())
        self.write_current(points)
        end_generation(self.path(self.generation))
        if self.removed_meanwhile:  # the builder may have been given it before
            self.note_removed(self.removed_meanwhile)
            self.rewrite_due = min(self.rewrite_due, self.due_meanwhile)
        self.counter.write(points)
        old.close()
        self.removal = threading.Thread(target=shutil.rmtree, args=(former, True), name="remove-generation")
        self.removal.start()


def load_generation(folder: Path, manifest: Manifest) -> edge.EdgeShard:
    """Opens the generation in use and looks whether it holds what it should. Raises DamageError."""
    path = generation_path(folder, manifest.generation)
    name = f"{folder.name}/{path.name}"
    if not path.is_dir():
        raise DamageError(f"{name} is missing, which the manifest names", expected=manifest.points, found=0)
    if manifest.closed:
        missing = [each for each in manifest.files if not (path / each).is_file()]
        sizes = [
            each for each, (size, _) in manifest.files.items() if each not in missing and size_of(path / each) != size
        ]
        if missing or sizes:
            what = f"{len(missing)} files missing and {len(sizes)} of another size, such as {(missing + sizes)[0]}"
            raise DamageError(f"{name} has {what}", expected=manifest.points)
        if sum(size_on_disk(path / each) for each in manifest.files) <= SUMMED_AT_START and (
            wrong := compare_files(path, manifest.files)
        ):
            raise DamageError(f"{name} has {len(wrong)} files that are not what they were: {wrong[0]}")
    try:
        shard = edge.EdgeShard.load(str(path))
    except Exception as error:  # the engine raises whatever it likes for what it can't read
        raise DamageError(f"{name} can't be opened: {error}", expected=manifest.points) from error
    try:
        check_points(shard, folder, manifest, name)
    except BaseException:
        shard.close()
        raise
    return shard


def size_on_disk(path: Path) -> int:
    """Bytes that a file takes, holes left out."""
    return path.stat().st_blocks * 512


def check_points(shard: edge.EdgeShard, folder: Path, manifest: Manifest, name: str) -> None:
    """Compares the points with the manifest: exactly after an orderly end, otherwise up to the changes that came since
    they were last counted. Raises DamageError."""
    found = int(shard.count(edge.CountRequest(exact=True)))
    if manifest.closed:
        if found != manifest.points or fold(ids_of(shard)) != manifest.ids:
            raise DamageError(
                f"{name} holds {found} points, not the {manifest.points} that it was closed with",
                expected=manifest.points,
                found=found,
            )
        return
    if not (folder / COUNTER).exists():
        return
    counter = Counter(folder / COUNTER)
    counter.close()
    if counter.known and abs(found - counter.points) > counter.changes:
        raise DamageError(
            f"{name} holds {found} points, not {counter.points} give or take {counter.changes}",
            expected=counter.points,
            found=found,
        )


def ids_of(shard: edge.EdgeShard) -> Iterator[str]:
    """The ids of a shard's points."""
    after = None
    while True:
        records, after = shard.scroll(
            edge.ScrollRequest(offset=after, limit=5_000, with_payload=False, with_vector=False)
        )
        yield from (str(record.id) for record in records)
        if after is None:
            return


def generations(folder: Path) -> list[Path]:
    """The folders of a collection's generations, whatever state they are in."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal())


def begin_generation(path: Path) -> None:
    """Marks a generation that is being made: until it is in use, a start may delete it."""
    path.mkdir(parents=True)
    (path / UNFINISHED).touch()
    sync_folder(path)


def end_generation(path: Path) -> None:
    """Takes the mark off a generation that is in use now."""
    (path / UNFINISHED).unlink(missing_ok=True)
    sync_folder(path)


def size_of(path: Path) -> int:
    """A file's size in bytes."""
    return path.stat().st_size


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
