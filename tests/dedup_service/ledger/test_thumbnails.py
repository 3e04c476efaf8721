"""Small pictures: bounded and deletable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.thumbnails import MOST_BYTES, SIDE, Album, Thumbnails, thumbnail_of


@pytest.fixture
def thumbnails(tmp_path: Path) -> Iterator[Thumbnails]:
    """An empty collection that keeps three."""
    engine = open_database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    kept = Thumbnails(engine, most=3)
    yield kept
    engine.dispose()


def test_a_thumbnail_is_small() -> None:
    """Even of noise it is a WebP within its bounds, or there is none; the sides keep their proportion."""
    draw = np.random.default_rng(0)
    for picture in (
        np.full((1_000, 500, 3), 250, np.uint8),
        draw.integers(0, 255, (900, 900, 3), dtype=np.uint8),
        np.zeros((20, 1_000, 3), np.uint8),
    ):
        webp = thumbnail_of(picture)
        if webp is not None:
            assert len(webp) <= MOST_BYTES
            shape = cv2.imdecode(np.frombuffer(webp, np.uint8), cv2.IMREAD_COLOR).shape
            assert max(shape[:2]) <= SIDE
    assert thumbnail_of(np.full((1_000, 500, 3), 250, np.uint8)) is not None


def test_kept_found_and_deleted(thumbnails: Thumbnails) -> None:
    """What is put is found under its tenant only, and gone when deleted."""
    thumbnails.put("acme", "a", b"one")
    thumbnails.put("acme", "b", b"two")
    assert thumbnails.get([("acme", "a"), ("globex", "a"), ("acme", "c")]) == {("acme", "a"): b"one"}
    assert thumbnails.delete("acme", ["a"]) == 1
    assert thumbnails.get([("acme", "a")]) == {}
    assert thumbnails.delete("acme", before=0.0) == 0
    assert thumbnails.delete("acme", before=time.time() + 1) == 1


def test_they_are_no_older_than_other_records(thumbnails: Thumbnails) -> None:
    """The ledger's retention deletes thumbnails by each tenant's time, like every other record."""
    for tenant in ("brief", "long"):
        thumbnails.put(tenant, "a", b"x")
    ledger = Ledger(thumbnails.engine)
    assert ledger.sweep({"brief": 10.0}, 1_000.0, now=time.time() + 100.0) == 1
    assert list(thumbnails.get([("brief", "a"), ("long", "a")])) == [("long", "a")]
    ledger.close()


def test_the_oldest_go_first(thumbnails: Thumbnails) -> None:
    """Beyond the most that are kept, a sweep removes the oldest."""
    for name in "abcde":
        thumbnails.put("acme", name, b"x")
    assert thumbnails.sweep() == 2
    assert set(thumbnails.get([("acme", name) for name in "abcde"])) == {("acme", name) for name in "cde"}
    assert thumbnails.sweep() == 0


def test_an_album_keeps_without_waiting(thumbnails: Thumbnails) -> None:
    """Pictures are kept in the background; beyond the places they are left out, and what waits is finished at the
    end."""
    album = Album(thumbnails, waiting=1)
    picture = np.full((64, 64, 3), 99, np.uint8)
    taken = [album.keep("acme", str(i), picture) for i in range(50)]
    album.close()
    assert taken[0]
    assert len(thumbnails.get([("acme", str(i)) for i in range(50)])) == sum(taken)
