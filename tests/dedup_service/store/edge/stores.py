"""Small stores in a folder, and ways to damage them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dedup_service.store.edge.worker import EdgeStore, Options
from dedup_service.store.points import Kind, Layout, Point
from dedup_service.store.records import entry_id

LAYOUT = Layout("dct", 8, "sentence", 8)
COUNT = 60


def points(count: int = COUNT, start: int = 0, kind: Kind = Kind.ENTRIES) -> list[Point]:
    """Points of one tenant."""
    vector = np.ones(LAYOUT.dimension(kind), np.float32)
    made = []
    for number in range(start, start + count):
        payload = {"tenant": "acme", "image": "i", "space": "s", "model": "m", "tags": [], "digests": [f"d{number}"]}
        made.append(Point(entry_id("acme", "i", "s", str(number)), vector, payload))
    return made


def filled(folder: Path) -> EdgeStore:
    """A store with something in every place."""
    store = EdgeStore(folder, LAYOUT, Options())
    for kind in Kind:
        store.call("put", (kind, points(kind=kind)))
    for point in points():
        store.call("put_fingerprint", (point.id, b"f" * 200, 1.0))
    return store


def crash(store: EdgeStore) -> None:
    """Ends a store as kill -9 does: nothing is flushed, no manifest closed."""
    store.closing.set()
    store.syncing.join()
    store.owner.close()
    for collection in store.collections.values():
        collection.counter.close()
        collection.shard.close()
    store.fingerprints.close()


def entries(folder: Path) -> Path:
    """The folder of the entries' collection."""
    return folder / LAYOUT.name(Kind.ENTRIES)


def largest(folder: Path, pattern: str) -> Path:
    """The file with most data."""
    return max((path for path in folder.rglob(pattern) if path.is_file()), key=lambda path: path.stat().st_blocks)


def flip(path: Path, every: int = 97) -> None:
    """Flips bits all over a file."""
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), every):
        content[at] ^= 0x55
    path.write_bytes(content)


def halve(path: Path) -> None:
    """Cuts a file in the middle."""
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "the manifest is gone": lambda at: (entries(at) / "current.json").unlink(),
    "the manifest is no JSON": lambda at: (entries(at) / "current.json").write_text("{"),
    "a number in the manifest was changed": lambda at: (entries(at) / "current.json").write_text(
        (entries(at) / "current.json").read_text().replace('"generation": 1', '"generation": 2')
    ),
    "the generation is gone": lambda at: shutil.rmtree(entries(at) / "000001"),
    "the segments are gone": lambda at: shutil.rmtree(entries(at) / "000001" / "segments"),
    "the collection is half restored": lambda at: [path.unlink() for path in entries(at).rglob("*.dat")],
    "the points' storage is halved": lambda at: halve(largest(entries(at), "page_0.dat")),
    "the fingerprints are gone": lambda at: next(at.glob("fingerprints-*.sqlite")).unlink(),
    "the fingerprints are no database": lambda at: next(at.glob("fingerprints-*.sqlite")).write_bytes(b"x" * 9_000),
}
