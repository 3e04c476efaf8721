"""A start never deletes what it can't read, notices what is missing, and refuses or sets aside as it is told."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedup_service.store.edge import worker
from dedup_service.store.edge.integrity import (
    COUNTER,
    UNFINISHED,
    Counter,
    DamageError,
    Manifest,
    checksum,
    compare_files,
    fold,
    quarantined,
    read_manifest,
    survey_files,
    write_manifest,
)
from dedup_service.store.edge.shard import Collection
from dedup_service.store.edge.worker import EdgeStore, Options, ReadOnlyError
from dedup_service.store.points import Kind
from dedup_service.store.records import entry_id
from tests.dedup_service.store.edge.stores import COUNT, DAMAGES, LAYOUT, crash, entries, filled, flip, largest, points


def whole(folder: Path) -> dict[str, int]:
    """Every file with its data's checksum, but for the lock and what a look at a database leaves."""
    return {
        str(path.relative_to(folder)): checksum(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "owner.lock" and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_and_nothing_is_touched(closed: Path, name: str) -> None:
    """A start with damaged data says what is wrong, and leaves every file as it was."""
    DAMAGES[name](closed)
    part = "fingerprints" if "fingerprints" in name else "entries"
    before = {key: check for key, check in whole(closed).items() if key.startswith(part)}
    with pytest.raises(DamageError) as refused:
        EdgeStore(closed, LAYOUT, Options())
    assert str(refused.value)
    after = {key: check for key, check in whole(closed).items() if key.startswith(part)}
    assert after == before


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_can_be_set_aside(closed: Path, name: str) -> None:
    """Where the settings say so the start goes on without it: set aside, named, and everything else still there."""
    DAMAGES[name](closed)
    store = EdgeStore(closed, LAYOUT, Options(aside=True))
    try:
        assert len(store.findings) == 1
        kept = {kind: store.call("count", (kind, ())) for kind in Kind}
        assert kept[Kind.IMAGES] == COUNT
        assert kept[Kind.ENTRIES] == (COUNT if "fingerprints" in name else 0)
        store.call("put", (Kind.ENTRIES, points(1, 1_000)))
        gone = name == "the fingerprints are gone"
        assert bool(quarantined(closed)) is not gone
        assert any("set aside" in problem for problem in store.problems())
    finally:
        store.close()
    EdgeStore(closed, LAYOUT, Options()).close()


def test_what_a_log_lost_after_a_crash_is_noticed(tmp_path: Path) -> None:
    """Flipped bits in the write-ahead log lose what was only there: the count says so."""
    store = filled(tmp_path)
    for collection in store.collections.values():
        collection.note_count(1e9)
    crash(store)
    for log in (entries(tmp_path) / "000001" / "wal").glob("open-*"):
        flip(log)
    shutil.rmtree(entries(tmp_path) / "000001" / "segments")  # what a power cut leaves of pages never written
    with pytest.raises(DamageError):
        EdgeStore(tmp_path, LAYOUT, Options())


def test_a_crash_alone_is_no_damage(tmp_path: Path) -> None:
    """After kill -9 the store opens with all that it had taken, again and again."""
    crash(filled(tmp_path))
    store = EdgeStore(tmp_path, LAYOUT, Options())
    assert store.call("count", (Kind.ENTRIES, ())) == COUNT
    store.call("remove", (Kind.ENTRIES, [point.id for point in points(20)]))
    crash(store)
    store = EdgeStore(tmp_path, LAYOUT, Options())
    assert store.call("count", (Kind.ENTRIES, ())) == COUNT - 20
    assert store.findings == []
    store.close()


def test_points_that_went_missing_behind_our_back_are_counted(tmp_path: Path) -> None:
    """A collection with fewer points than were counted a moment ago, and fewer than changed since, is refused."""
    store = filled(tmp_path)
    for collection in store.collections.values():
        collection.note_count(1e9)
    crash(store)
    counter = Counter(entries(tmp_path) / COUNTER)
    assert (counter.points, counter.changes) == (COUNT, 0)
    counter.write(COUNT + 99)
    counter.close()
    with pytest.raises(DamageError) as refused:
        EdgeStore(tmp_path, LAYOUT, Options())
    assert (refused.value.expected, refused.value.found) == (COUNT + 99, COUNT)


def test_an_older_version_s_manifest_is_taken(closed: Path) -> None:
    """A store without counts and checksums opens, and has them from then on."""
    (entries(closed) / "current.json").write_text(json.dumps({"generation": 1, "built": 0}))
    (entries(closed) / COUNTER).unlink()
    EdgeStore(closed, LAYOUT, Options()).close()
    manifest = read_manifest(entries(closed))
    assert manifest is not None
    assert (manifest.points, manifest.closed) == (COUNT, True)


def test_unfinished_and_superseded_generations_go(closed: Path) -> None:
    """A start deletes what was never in use and what was replaced, once the present one is whole; nothing newer."""
    for name in ("000000", "000002", "000003"):
        (entries(closed) / name).mkdir()
    (entries(closed) / "000002" / UNFINISHED).touch()
    store = EdgeStore(closed, LAYOUT, Options())
    assert sorted(path.name for path in entries(closed).iterdir() if path.is_dir()) == ["000001", "000003"]
    store.close()


def test_an_orderly_end_leaves_checksums(closed: Path) -> None:
    """The closed manifest names every file; a flipped bit anywhere is found by comparing them."""
    manifest = read_manifest(entries(closed))
    assert manifest is not None
    generation = entries(closed) / "000001"
    assert compare_files(generation, manifest.files) == []
    page = largest(generation, "page_0.dat")
    content = bytearray(page.read_bytes())
    content[next(at for at, byte in enumerate(content) if byte)] ^= 1
    page.write_bytes(content)
    (wrong,) = compare_files(generation, manifest.files)
    assert page.name in wrong


def test_manifests_come_back(tmp_path: Path) -> None:
    """What is written is read; folded ids do not depend on order; a checksum does not depend on holes."""
    manifest = Manifest(3, 5, 7, fold([entry_id("a", "b", "c", "d")]), True, {"x": [1, 2]})
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    ids = [point.id for point in points(9)]
    assert fold(ids) == fold(reversed(ids)) != fold(ids[:-1])
    dense, sparse = tmp_path / "dense", tmp_path / "sparse"
    dense.write_bytes(b"a" + bytes(3_000_000) + b"z")
    with sparse.open("wb") as file:
        file.write(b"a")
        file.seek(3_000_001)
        file.write(b"z")
    assert survey_files(tmp_path)["dense"] == survey_files(tmp_path)["sparse"]
    assert checksum(dense) != 0


def test_checksums_do_not_depend_on_holes(tmp_path: Path) -> None:
    """A file, its copy with holes wherever there are zeros, and its copy without any are the same."""
    chance = random.Random(5)
    for number in range(12):
        size = chance.randrange(1, 900_000)
        content = bytearray(size)
        for _ in range(chance.randrange(6)):
            at = chance.randrange(size)
            content[at : at + 5_000] = chance.randbytes(min(5_000, size - at))
        kinds = {each: tmp_path / f"{number}.{each}" for each in ("never", "always")}
        plain = tmp_path / f"{number}.auto"
        plain.write_bytes(content)
        for sparse, copy in kinds.items():
            subprocess.run(["cp", f"--sparse={sparse}", str(plain), str(copy)], check=True)
        assert {checksum(plain)} == {checksum(copy) for copy in kinds.values()}


def test_sums_of_an_earlier_kind_are_not_compared(tmp_path: Path) -> None:
    """A manifest that does not say how its files were summed keeps their sizes alone."""
    raw = {"generation": 1, "built": 0, "closed": True, "points": 0, "files": {"x": [9, 123]}}
    (tmp_path / "current.json").write_text(json.dumps(raw))
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.files == {"x": [9, -1]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    """A filled store."""
    made = filled(tmp_path)
    yield made
    made.close()


def test_a_full_disk_makes_it_read_only_until_there_is_room(store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too little room nothing is stored, with the reason; reads go on; with room again so does storing."""
    monkeypatch.setattr(worker, "SYNC_SECONDS", 0.01)
    usage = shutil.disk_usage(store.folder)
    free = [1 << 20]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free[0]))
    wait(lambda: bool(store.trouble))
    with pytest.raises(ReadOnlyError, match="free on the disk"):
        store.call("put", (Kind.ENTRIES, points(1, 500)))
    with pytest.raises(ReadOnlyError):
        store.call("put_fingerprint", ("i", b"", 0.0))
    assert len(store.call("retrieve", (Kind.ENTRIES, [points()[0].id], False))) == 1  # type: ignore[arg-type]
    assert any(problem.startswith("STORE_READ_ONLY") for problem in store.problems())
    free[0] = 1 << 40
    wait(lambda: not store.trouble)
    store.call("put", (Kind.ENTRIES, points(1, 500)))
    assert store.problems() == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk I/O error")])
def test_a_disk_that_fails_does_not_end_the_thread(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What can't be brought to the disk is an alarm, is tried again, and is over by itself."""
    monkeypatch.setattr(worker, "SYNC_SECONDS", 0.01)
    failing = [True]

    def sync(self: Collection) -> None:
        if failing[0]:
            raise error

    monkeypatch.setattr(Collection, "sync", sync)
    wait(lambda: bool(store.trouble))
    assert store.syncing.is_alive()
    with pytest.raises(ReadOnlyError, match="does not take"):
        store.call("remove", (Kind.ENTRIES, ["x"]))
    failing[0] = False
    wait(lambda: not store.trouble)
    assert store.syncing.is_alive()


def wait(until: Callable[[], bool]) -> None:
    """Waits for what the store's thread does; the test's own limit ends it."""
    import time

    while not until():
        time.sleep(0.01)
