"""Names and hashes that every store shares."""

from __future__ import annotations

import uuid

import numpy as np

from dedup_service.image.perceptual import hamming
from dedup_service.store import records as port
from dedup_service.store.points import Kind, Layout
from dedup_service.store.records import (
    bands,
    collection_name,
    entry_id,
    image_id,
)
from tests.dedup_service.store.memories import (
    flipped,
)


def test_ids_tell_tenants_images_spaces_and_questions_apart() -> None:
    """Ids are UUIDs that change with each of their parts, and only then."""
    ids = {
        entry_id("a", "i", "s", "q"),
        entry_id("b", "i", "s", "q"),
        entry_id("a", "j", "s", "q"),
        entry_id("a", "i", "t", "q"),
        entry_id("a", "i", "s", "r"),
    }
    assert len(ids) == 5
    assert entry_id("a", "i", "s", "q") in ids
    assert image_id("a", b"1") != image_id("b", b"1")
    assert all(str(uuid.UUID(one)) == one for one in ids)


def test_bands_cut_the_whole_hash() -> None:
    """Eight numbered bands hold every bit once: seven flipped bits leave at least one band equal."""
    hashed = np.random.default_rng(1).bytes(32)
    assert "".join(band.split(":")[1] for band in bands(hashed)) == hashed.hex()
    other = flipped(hashed, *(band * 32 for band in range(7)))
    assert hamming(hashed, other) == 7
    assert len(set(bands(hashed)) & set(bands(other))) == 1
    assert port.BANDS == 8


def test_collections_of_two_encoders_never_meet() -> None:
    """The names of all collections change with the encoder that made their vectors."""
    assert collection_name("images", "a") != collection_name("images", "b")
    ours, theirs = Layout("i", 1, "q", 1), Layout("i", 1, "q2", 1)
    assert ours.name(Kind.IMAGES) == theirs.name(Kind.IMAGES)
    assert ours.name(Kind.ENTRIES) != theirs.name(Kind.ENTRIES)
    other = Layout("i2", 1, "q", 1)
    assert {ours.name(Kind.IMAGES), ours.name(Kind.ENTRIES), ours.fingerprints}.isdisjoint(
        {other.name(Kind.IMAGES), other.name(Kind.ENTRIES), other.fingerprints}
    )
