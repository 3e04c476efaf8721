"""Memory as a whole, whatever the store: tenants apart, exports, counts, ends."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest

from dedup_service.store.records import (
    Deleted,
    MemoryUnavailableError,
    Selection,
)
from dedup_service.store.repository import PointMemory
from tests.dedup_service.store.memories import (
    IMAGE_SIZE,
    QUESTION_SIZE,
    Clock,
    an_entry,
    an_image,
    direction,
    edge_memory,
    fill,
    put,
    store,
)


async def test_no_method_reaches_into_another_tenant(memory: PointMemory) -> None:
    """Whoever knows every id and digest of a tenant still neither reads, changes nor deletes anything of it."""
    image = await store(memory, an_image())
    entry = an_entry(image)
    await put(memory, entry)
    assert await memory.image("evil", image.id) is None
    assert await memory.image_by_digest("evil", image.digests[0]) is None
    assert await memory.images_by_hash("evil", [image.perceptual_hash], 5, 10) == []
    assert await memory.images_near("evil", direction(1, IMAGE_SIZE)[None], 10) == []
    assert await memory.fingerprint("evil", image.id) is None
    assert await memory.entry("evil", entry.id) is None
    assert await memory.entries_near("evil", image.id, "space", direction(1, QUESTION_SIZE), 10) == []
    assert await memory.entries_of("evil", image.id) == []
    assert not await memory.add_digests("evil", image.id, ["ee"])
    assert await memory.remove_digest("evil", image.digests[1]) == 0
    for selection in (Selection("evil"), Selection("evil", images=(image.id,)), Selection("evil", entries=(entry.id,))):
        assert await memory.delete(selection) == Deleted()
    assert [exported async for exported in memory.export("evil")] == []
    assert await memory.entry("acme", entry.id) == entry
    assert await memory.image("acme", image.id) == image


async def test_two_tenants_hold_the_same_file_apart(memory: PointMemory) -> None:
    """The same file in two tenants is two records with two ids, each with its own entries."""
    ours, theirs = await store(memory, an_image(1, "acme")), await store(memory, an_image(1, "other"))
    assert ours.id != theirs.id
    await put(memory, an_entry(ours))
    assert await memory.entries_of("other", theirs.id) == []
    (near,) = await memory.images_near("other", direction(1, IMAGE_SIZE)[None], 10)
    assert near.record == theirs


async def test_an_export_holds_everything_of_one_tenant(memory: PointMemory) -> None:
    """Image by image, with vectors, fingerprint and all entries in step with their vectors."""
    held = await fill(memory)
    exported = {one.image.id: one async for one in memory.export("acme")}
    assert set(exported) == {held["old"].image, held["second"].image}
    first = exported[held["old"].image]
    assert first.image == await memory.image("acme", first.image.id)
    assert first.fingerprint == b"fingerprint of " + first.image.id.encode()
    np.testing.assert_allclose(first.image_vector, direction(1, IMAGE_SIZE), atol=1e-5)
    assert {entry.id for entry in first.entries} == {held["old"].id, held["new"].id}
    assert first.entry_vectors.shape == (2, QUESTION_SIZE)
    np.testing.assert_allclose(first.entry_vectors[1], direction(1, QUESTION_SIZE), atol=1e-5)


async def test_holdings_count_all_tenants(memory: PointMemory) -> None:
    """Images and entries are counted over all tenants."""
    await fill(memory)
    holdings = await memory.holdings()
    assert (holdings.images, holdings.entries) == (3, 4)


async def test_closing_twice_is_safe(memory: PointMemory) -> None:
    """A second close does nothing."""
    await memory.close()
    await memory.close()


async def test_a_closed_store_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    """A call after the end fails with the error that callers know, at once."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    await memory.close()
    with pytest.raises(MemoryUnavailableError):
        await memory.entry("acme", str(uuid.uuid4()))
