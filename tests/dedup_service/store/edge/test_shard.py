"""A collection of the embedded store: what was removed leaves its files."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge

from dedup_service.store.edge import shard
from dedup_service.store.edge.shard import Collection, create_shard
from dedup_service.store.points import Kind, Point
from dedup_service.store.records import (
    entry_id,
)
from tests.dedup_service.store.memories import (
    IMAGE_SIZE,
    an_image,
    direction,
)


def a_point(number: int) -> Point:
    """A point with a text."""
    payload = {"tenant": "acme", "image": "i", "space": "s", "question": f"heron {number}"}
    return Point(entry_id("acme", "i", "s", str(number)), np.ones(8, np.float32), payload)


def opened(folder: Path) -> Collection:
    """A collection of entries."""
    return Collection(folder, Kind.ENTRIES, 8)


def test_a_build_is_due_within_the_hour_of_a_removal(tmp_path: Path) -> None:
    """What was removed makes a build due after a while, or when it is asked for; nothing removed makes none due."""
    collection = opened(tmp_path)
    collection.put([a_point(1), a_point(2)])
    collection.rewrite(0.0)
    assert collection.rewrite_due == math.inf
    collection.remove([a_point(1).id])
    assert 0 < collection.rewrite_due - time.monotonic() <= shard.REWRITE_SECONDS
    assert not collection.wants_build()
    collection.rewrite(0.0)
    assert collection.wants_build()
    collection.close()


def test_a_start_remembers_what_was_removed(tmp_path: Path) -> None:
    """After a restart a build is due still."""
    collection = opened(tmp_path)
    collection.put([a_point(1)])
    collection.remove([a_point(1).id])
    collection.close()
    collection = opened(tmp_path)
    assert collection.rewrite_due < math.inf
    collection.close()


def test_what_is_removed_during_a_build_makes_the_next_one_due(tmp_path: Path) -> None:
    """A builder may have been given what is removed meanwhile: its generation is made anew in turn."""
    collection = opened(tmp_path)
    collection.put([a_point(1), a_point(2)])
    collection.remove([a_point(1).id])
    for meanwhile in (True, False):
        collection.begin_build()
        fresh = create_shard(collection.path(collection.generation + 1), Kind.ENTRIES, 8)
        if meanwhile:
            collection.remove([a_point(2).id])
            collection.rewrite(0.0)
        collection.catch_up(fresh)
        collection.take_over(fresh, 0)
        assert collection.wants_build() is meanwhile
        assert (collection.rewrite_due < math.inf) is meanwhile
        assert collection.removal is not None
        collection.removal.join()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["000003"]
    collection.close()


def test_what_comes_during_a_build_is_new_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new generation has a graph over what its builder was given; what was stored meanwhile waits for the next."""
    monkeypatch.setattr(shard, "BUILD_NEW", 2)
    collection = shard.Collection(tmp_path, Kind.IMAGES, IMAGE_SIZE)

    def point(number: int) -> Point:
        return Point(an_image(number).id, direction(number, IMAGE_SIZE), {"tenant": "acme"})

    collection.put([point(number) for number in range(4)])
    assert collection.wants_build()
    fresh = shard.create_shard(collection.path(2), Kind.IMAGES, IMAGE_SIZE)
    fresh.update(edge.UpdateOperation.upsert_points([edge.Point(an_image(0).id, direction(0, IMAGE_SIZE), {})]))
    collection.changed = set()
    collection.put([point(number) for number in range(1, 4)])
    collection.catch_up(fresh)
    collection.take_over(fresh, 1)
    assert collection.count(()) == 4
    assert collection.wants_build()
    assert collection.removal is not None
    collection.removal.join()
    collection.shard.close()
    collection.counter.close()
