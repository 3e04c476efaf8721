"""Deleting and sweeping, whatever the store."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from dedup_service.store.points import Kind
from dedup_service.store.records import (
    Deleted,
    Entry,
    Selection,
)
from dedup_service.store.repository import GRACE, PointMemory
from tests.dedup_service.store.memories import (
    IMAGE_SIZE,
    NOW,
    Clock,
    an_entry,
    an_image,
    direction,
    fill,
    put,
    store,
)

Choose = Callable[[dict[str, Entry]], Selection]

SELECTIONS: list[tuple[Choose, set[str], Deleted]] = [
    (lambda held: Selection("acme", entries=(held["new"].id,)), {"new"}, Deleted(1, 0, 0)),
    (lambda held: Selection("acme", entries=(held["second"].id,)), {"second"}, Deleted(1, 1, 1)),
    (lambda held: Selection("acme", images=(held["old"].image,)), {"old", "new"}, Deleted(2, 1, 2)),
    (lambda held: Selection("acme", model="minicpm"), {"old"}, Deleted(1, 0, 0)),
    (lambda held: Selection("acme", model="glm", model_revision="r2"), {"second"}, Deleted(1, 1, 1)),
    (lambda held: Selection("acme", tag="x"), {"second"}, Deleted(1, 1, 1)),
    (lambda held: Selection("acme", tag="发票"), {"new"}, Deleted(1, 0, 0)),
    (lambda held: Selection("acme", created_before=NOW - 50.0), {"old"}, Deleted(1, 0, 0)),
    (lambda held: Selection("acme", created_before=0.0), set(), Deleted()),
    (lambda held: Selection("acme", expired_before=NOW + 51.0), {"new"}, Deleted(1, 0, 0)),
    (lambda held: Selection("acme", images=(held["old"].image,), model="glm"), {"new"}, Deleted(1, 0, 0)),
    (lambda held: Selection("acme", entries=(held["stranger"].id,)), set(), Deleted()),
    (lambda held: Selection("acme"), {"old", "new", "second"}, Deleted(3, 2, 3)),
]


@pytest.mark.parametrize("case", range(len(SELECTIONS)))
async def test_a_deletion_removes_what_all_conditions_name_and_nothing_else(memory: PointMemory, case: int) -> None:
    """Each condition narrows; images left without entries go; a dry run tells the same numbers and changes nothing."""
    choose, gone, deleted = SELECTIONS[case]
    held = await fill(memory)
    selection = choose(held)
    before = await memory.holdings()
    assert await memory.delete(selection, dry_run=True) == deleted
    assert (await memory.holdings()).entries == before.entries
    assert await memory.delete(selection) == deleted
    assert await memory.delete(selection) == Deleted()
    left = {name for name, entry in held.items() if await memory.entry(entry.tenant, entry.id) is not None}
    assert left == set(held) - gone
    after = await memory.holdings()
    assert (after.entries, after.images) == (before.entries - deleted.entries, before.images - deleted.images)


async def test_a_deletion_leaves_no_orphans(memory: PointMemory) -> None:
    """With the last entry of an image go its vector, its fingerprint and every digest that led to it."""
    held = await fill(memory)
    image = held["old"].image
    await memory.delete(Selection("acme", images=(image,)))
    assert await memory.image_by_digest("acme", "aa") is None
    assert await memory.points.fingerprint(image) is None
    assert await memory.points.retrieve(Kind.IMAGES, [image]) == []
    found = await memory.images_near("acme", direction(1, IMAGE_SIZE)[None], 10)
    assert [one.record.id for one in found] == [held["second"].image]


async def test_an_image_without_entries_can_be_deleted(memory: PointMemory) -> None:
    """Naming an image, or a whole tenant, deletes image records that never got an entry."""
    first, second = await store(memory, an_image(1)), await store(memory, an_image(2))
    assert await memory.delete(Selection("acme", images=(first.id,)), dry_run=True) == Deleted(0, 1, 1)
    assert await memory.delete(Selection("acme", images=(first.id,))) == Deleted(0, 1, 1)
    assert await memory.image("acme", second.id) == second
    assert await memory.delete(Selection("acme")) == Deleted(0, 1, 1)
    assert (await memory.holdings()).images == 0


async def test_a_sweep_removes_what_expired_within_its_limit(memory: PointMemory) -> None:
    """A sweep removes at most as many entries as it may, the rest at the next one, and what has not expired stays."""
    image = await store(memory, an_image(create_time=NOW - 2 * GRACE))
    for number in range(7):
        await put(memory, an_entry(image, f"q{number}", expire_time=NOW - 1.0 + number % 2 * 100.0))
    assert await memory.sweep(NOW, 3) == Deleted(3, 0, 0)
    assert await memory.sweep(NOW, 3) == Deleted(1, 0, 0)
    assert await memory.sweep(NOW, 3) == Deleted()
    assert len(await memory.entries_of("acme", image.id)) == 3
    assert await memory.sweep(NOW + 200.0, 30) == Deleted(3, 1, 1)
    assert await memory.points.fingerprint(image.id) is None
    assert (await memory.holdings()).images == 0


async def test_a_sweep_finds_what_a_crash_left_alone(memory: PointMemory, clock: Clock) -> None:
    """An image that never got its entry, and a fingerprint that never got its image, are swept once they are old."""
    image = await store(memory, an_image())
    lone = str(uuid.uuid4())
    await memory.points.put_fingerprint(lone, b"lone", NOW)
    assert await memory.sweep(NOW + 1.0, 100) == Deleted()
    assert await memory.image("acme", image.id) is not None
    assert await memory.sweep(NOW + GRACE + 1.0, 100) == Deleted(0, 1, 1)
    assert await memory.sweep(NOW + GRACE + 2.0, 100) == Deleted()
    assert await memory.points.fingerprint(lone) is None


async def test_a_stroll_covers_all_images_bit_by_bit(memory: PointMemory) -> None:
    """Sweeps with a small limit come past every image in turn, and keep those that have entries."""
    for number in range(10):
        image = await store(memory, an_image(number, create_time=NOW - 2 * GRACE))
        if number % 2:
            await put(memory, an_entry(image))
    swept = [await memory.sweep(NOW, 2) for _ in range(6)]
    assert sum(one.images for one in swept) == 5
    assert all(one.images <= 2 for one in swept)
    assert (await memory.holdings()).images == 5
