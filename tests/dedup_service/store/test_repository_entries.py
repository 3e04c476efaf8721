"""Entries in memory, whatever the store."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import pytest

from dedup_service.store.points import Kind
from dedup_service.store.records import (
    Touch,
)
from dedup_service.store.repository import PointMemory
from tests.dedup_service.store.memories import (
    NOW,
    QUESTION_SIZE,
    Clock,
    an_entry,
    an_image,
    direction,
    put,
    store,
)


async def test_an_entry_is_found_by_id_field_for_field(memory: PointMemory) -> None:
    """An exact look-up returns what was stored, bytes and Chinese text included."""
    image = await store(memory, an_image())
    entry = an_entry(image)
    assert await put(memory, entry) == []
    assert await memory.entry("acme", entry.id) == entry


async def test_the_nearest_entries_are_of_this_image_and_space_only(memory: PointMemory) -> None:
    """A question finds only what was asked of the same image in the same answer space, nearest first."""
    one, other = await store(memory, an_image(1)), await store(memory, an_image(2))
    first, second = an_entry(one, "a"), an_entry(one, "b")
    await put(memory, first, seed=1)
    await put(memory, second, seed=2)
    await put(memory, an_entry(one, "a", space="elsewhere"), seed=1)
    await put(memory, an_entry(other, "a"), seed=1)
    query = direction(1, QUESTION_SIZE)
    found = await memory.entries_near("acme", one.id, "space", query, 10)
    assert [scored.record for scored in found] == [first, second]
    assert found[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert found[1].similarity == pytest.approx(float(query @ direction(2, QUESTION_SIZE)), abs=1e-5)
    assert [scored.record for scored in await memory.entries_near("acme", one.id, "space", query, 1)] == [first]


async def test_all_entries_of_an_image_and_of_one_space(memory: PointMemory) -> None:
    """Entries are listed by image, or by image and space."""
    image = await store(memory, an_image())
    here, there = an_entry(image, "a"), an_entry(image, "a", space="elsewhere")
    await put(memory, here)
    await put(memory, there)
    assert sorted(entry.id for entry in await memory.entries_of("acme", image.id)) == sorted([here.id, there.id])
    assert await memory.entries_of("acme", image.id, "elsewhere") == [there]


async def test_an_expired_entry_is_invisible_at_once(memory: PointMemory, clock: Clock) -> None:
    """From the second it expires no look-up sees an entry, though it is swept later."""
    image = await store(memory, an_image())
    entry = an_entry(image, expire_time=NOW + 10.0)
    await put(memory, entry)
    clock.now = NOW + 10.0
    assert await memory.entry("acme", entry.id) is None
    assert await memory.entries_near("acme", image.id, "space", direction(1, QUESTION_SIZE), 5) == []
    assert await memory.entries_of("acme", image.id) == []
    assert (await memory.holdings()).entries == 1


async def test_the_least_recently_used_entries_make_room(memory: PointMemory) -> None:
    """An image keeps at most `keep` answers; the one used longest ago goes, the new one stays even if it is oldest."""
    image, other = await store(memory, an_image(1)), await store(memory, an_image(2))
    await put(memory, an_entry(other, "untouched"))
    entries = [an_entry(image, f"q{number}", last_use=NOW + number) for number in range(4)]
    for entry in entries[:3]:
        assert await put(memory, entry, keep=3) == []
    touch = Touch("acme", entries[0].id, NOW + 50.0, 1, NOW + 60.0, NOW + 1000.0)
    await memory.touch([touch])
    assert await put(memory, entries[3], keep=3) == [entries[1].id]
    newest = an_entry(image, "late", last_use=NOW - 500.0)
    assert sorted(await put(memory, newest, keep=2)) == sorted([entries[2].id, entries[3].id])
    assert {entry.normal for entry in await memory.entries_of("acme", image.id)} == {"q0", "late"}
    assert len(await memory.entries_of("acme", other.id)) == 1


async def test_expired_entries_make_room_before_living_ones(memory: PointMemory, clock: Clock) -> None:
    """What nobody can see any more is evicted before what is in use."""
    image = await store(memory, an_image())
    gone = an_entry(image, "gone", expire_time=NOW + 1.0, last_use=NOW + 0.5)
    alive = an_entry(image, "alive", last_use=NOW)
    await put(memory, gone)
    await put(memory, alive)
    clock.now = NOW + 2.0
    assert await put(memory, an_entry(image, "new", last_use=NOW + 2.0), keep=2) == [gone.id]


async def test_entries_stored_together_never_exceed_the_limit(memory: PointMemory) -> None:
    """Concurrent stores for one image leave exactly as many as may be kept."""
    image = await store(memory, an_image())
    entries = [an_entry(image, f"q{number}", last_use=NOW + number) for number in range(12)]
    evicted = await asyncio.gather(*(put(memory, entry, keep=5) for entry in entries))
    assert len(await memory.entries_of("acme", image.id)) == 5
    assert sum(map(len, evicted)) == 7


async def test_the_same_question_replaces_its_entry(memory: PointMemory) -> None:
    """Storing an id again replaces the answer and evicts nothing."""
    image = await store(memory, an_image())
    await put(memory, an_entry(image), keep=1)
    assert await put(memory, an_entry(image, answer_text="RM 1"), keep=1) == []
    (entry,) = await memory.entries_of("acme", image.id)
    assert entry.answer_text == "RM 1"


async def test_uses_are_recorded_and_strangers_passed_over(memory: PointMemory) -> None:
    """Uses add up and move the times; entries that are gone or another tenant's are passed over."""
    image = await store(memory, an_image())
    entry = an_entry(image, hits=3)
    await put(memory, entry)
    await memory.touch(
        [
            Touch("acme", entry.id, NOW + 5.0, 2, NOW + 6.0, NOW + 7.0),
            Touch("acme", entry.id, NOW + 8.0, 1, NOW + 9.0, NOW + 10.0),
            Touch("acme", str(uuid.uuid4()), NOW, 1, NOW, NOW),
            Touch("evil", entry.id, NOW, 100, NOW, NOW - 1.0),
        ]
    )
    expected = replace(entry, hits=6, last_use=NOW + 8.0, hot_until=NOW + 9.0, expire_time=NOW + 10.0)
    assert await memory.entry("acme", entry.id) == expected
    assert (await memory.holdings()).entries == 1


async def test_the_lowest_come_first(memory: PointMemory) -> None:
    """Of points below a bound those with the smallest numbers are given, no more than asked for."""
    image = await store(memory, an_image())
    for number in (3, 1, 4, 2, 5):
        await put(memory, an_entry(image, f"question {number}", expire_time=NOW + number))
    found = await memory.points.lowest(Kind.ENTRIES, "expire_time", NOW + 4, 2, ("expire_time",))
    assert [one.payload["expire_time"] for one in found] == [NOW + 1, NOW + 2]
    found = await memory.points.lowest(Kind.ENTRIES, "expire_time", NOW + 4, 9, ("image",))
    assert [one.payload for one in found] == [{"image": image.id}] * 3


async def test_entries_that_were_never_served_are_counted(memory: PointMemory) -> None:
    """A tenant's entries, those without a hit among them, and the oldest of these by name."""
    image = await store(memory, an_image())
    for number in range(5):
        await put(memory, an_entry(image, f"question {number}", create_time=NOW - number, hits=number % 2))
    other = await store(memory, an_image(2, "globex"))
    await put(memory, an_entry(other))
    found = await memory.unused("acme", 2)
    assert (found.entries, found.never) == (5, 3)
    assert [entry.normal for entry in found.oldest] == ["question 4", "question 2"]
