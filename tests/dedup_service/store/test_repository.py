"""One suite for every implementation of `Memory`: what holds for one must hold for the other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from dedup_service.image.perceptual import hamming
from dedup_service.settings import Qdrant
from dedup_service.store import records as port
from dedup_service.store.edge import shard
from dedup_service.store.edge.client import EdgeMemory, EdgePoints
from dedup_service.store.points import Above, Among, AnyOf, AtLeast, Below, Equals, Kind, Layout, Point, Where
from dedup_service.store.qdrant_server import ServerMemory, ServerPoints, filter_of
from dedup_service.store.records import (
    Deleted,
    Entry,
    ImageRecord,
    MemoryUnavailableError,
    Selection,
    Touch,
    Vector,
    bands,
    collection_name,
    entry_id,
    image_id,
)
from dedup_service.store.repository import GRACE, PAGE, PointMemory
from tests.dedup_service.store.servers import STORES, client_of

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

NOW = 1_000_000.0
IMAGE_SIZE, QUESTION_SIZE = 12, 8
LAYOUT = Layout("dct", IMAGE_SIZE, "sentence", QUESTION_SIZE)

OPTIONS = Qdrant(check_version=False, timeout=30.0)


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
async def memory(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[PointMemory]:
    opened: PointMemory
    if request.param == "edge":
        opened = edge_memory(tmp_path, clock)
    else:
        opened = ServerMemory(ServerPoints(await client_of(request.param), LAYOUT, OPTIONS), clock)
    await opened.start()
    yield opened
    await opened.close()


def edge_memory(folder: Path, clock: Callable[[], float]) -> EdgeMemory:
    return EdgeMemory(folder, "dct", IMAGE_SIZE, "sentence", QUESTION_SIZE, clock=clock)


def direction(seed: int, size: int) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def an_image(number: int = 1, tenant: str = "acme", **changes: object) -> ImageRecord:
    digest = number.to_bytes(32)
    record = ImageRecord(
        id=image_id(tenant, digest),
        tenant=tenant,
        digests=(digest.hex(), (number + 1000).to_bytes(32).hex()),
        perceptual_hash=np.random.default_rng(number).bytes(32),
        width=640,
        height=480,
        create_time=NOW,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def an_entry(image: ImageRecord, normal: str = "how much", **changes: object) -> Entry:
    space = str(changes.get("space", "space"))
    entry = Entry(
        id=entry_id(image.tenant, image.id, space, normal),
        tenant=image.tenant,
        image=image.id,
        space=space,
        question=f"{normal}? 多少",
        normal=normal,
        language="en",
        answer=b"\x00\xffanswer",
        answer_text="RM 138.90",
        model="glm",
        model_revision="r1",
        create_time=NOW,
        hot_until=NOW + 7200.0,
        expire_time=NOW + 604_800.0,
        last_use=NOW,
        policy_revision="7",
        generate_seconds=1.25,
        tags=("audit", "发票"),
        decision="d-1",
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


async def store(memory: PointMemory, image: ImageRecord, seed: int = 1) -> ImageRecord:
    """Stores an image and returns it as it must be found."""
    fingerprint = b"fingerprint of " + image.id.encode()
    await memory.put_image(image, direction(seed, IMAGE_SIZE), fingerprint)
    return replace(image, fingerprint_bytes=len(fingerprint))


async def put(memory: PointMemory, entry: Entry, seed: int = 1, keep: int = 20) -> list[str]:
    return await memory.put_entry(entry, direction(seed, QUESTION_SIZE), keep)


def flipped(hashed: bytes, *bits: int) -> bytes:
    """The hash with these bits turned over; bit 0 is in the first band, bit 32 in the second."""
    value = int.from_bytes(hashed)
    for bit in bits:
        value ^= 1 << (255 - bit)
    return value.to_bytes(32)


# Images


async def test_an_image_is_found_by_id_and_by_every_digest(memory: PointMemory) -> None:
    """What was stored is found again, field for field, by its id and by each of its digests."""
    image = await store(memory, an_image())
    assert await memory.image("acme", image.id) == image
    for digest in image.digests:
        assert await memory.image_by_digest("acme", digest) == image
    assert await memory.image_by_digest("acme", "00") is None
    assert await memory.fingerprint("acme", image.id) == b"fingerprint of " + image.id.encode()


async def test_a_stored_image_is_replaced_under_its_id(memory: PointMemory) -> None:
    """Storing an id again replaces record, vector and fingerprint; there are never two."""
    image = await store(memory, an_image())
    await memory.put_image(replace(image, width=1), direction(5, IMAGE_SIZE), b"new")
    again = await memory.image("acme", image.id)
    assert again == replace(image, width=1, fingerprint_bytes=3)
    assert await memory.fingerprint("acme", image.id) == b"new"
    (near,) = await memory.images_near("acme", direction(5, IMAGE_SIZE)[None], 5)
    assert near.similarity == pytest.approx(1.0, abs=1e-5)
    assert (await memory.holdings()).images == 1


@pytest.mark.parametrize("distance", [0, 1, 5, 7])
async def test_images_within_the_distance_are_found_and_none_beyond(memory: PointMemory, distance: int) -> None:
    """Every hash at most `distance` bits away is found, however its bits are spread; one further is not."""
    base = np.random.default_rng(3).bytes(32)
    spread = [band * 32 + 5 for band in range(distance)]
    within = await store(memory, an_image(1, perceptual_hash=flipped(base, *spread)))
    bundled = await store(memory, an_image(2, perceptual_hash=flipped(base, *range(distance))))
    await store(memory, an_image(3, perceptual_hash=flipped(base, *range(distance + 1))))
    await store(memory, an_image(4, perceptual_hash=np.random.default_rng(4).bytes(32)))
    found = await memory.images_by_hash("acme", [base], distance, 10)
    assert {image.id for image in found} == {within.id, bundled.id}


async def test_images_by_hash_come_nearest_first_each_once(memory: PointMemory) -> None:
    """With several hashes an image counts by its nearest one, once; the limit keeps the nearest."""
    base = np.random.default_rng(3).bytes(32)
    other = flipped(base, 40, 41)
    far = await store(memory, an_image(1, perceptual_hash=flipped(base, 0, 1, 2)))
    near = await store(memory, an_image(2, perceptual_hash=flipped(base, 9)))
    exact = await store(memory, an_image(3, perceptual_hash=other))
    assert await memory.images_by_hash("acme", [base, other], 5, 10) == [exact, near, far]
    assert await memory.images_by_hash("acme", [base, other], 5, 2) == [exact, near]


async def test_a_flood_of_images_that_share_a_band_hides_nothing(memory: PointMemory) -> None:
    """Where hundreds of images share a band with the hash, as blank margins make them, the near one is still found."""
    base = np.random.default_rng(3).bytes(32)
    for number in range(10, PAGE + 30):
        hashed = base[:4] + np.random.default_rng(number).bytes(28)
        await store(memory, an_image(number, perceptual_hash=hashed))
    near = await store(memory, an_image(1, perceptual_hash=flipped(base, 40, 80, 120, 160, 200)))
    other = np.random.default_rng(4).bytes(32)
    assert await memory.images_by_hash("acme", [other, base], 5, 10) == [near]


@pytest.mark.parametrize("distance", [-1, 8])
async def test_a_distance_that_the_bands_cannot_promise_is_refused(memory: PointMemory, distance: int) -> None:
    """Eight bands promise nothing beyond seven bits, so more is an error and not a silent miss."""
    with pytest.raises(ValueError, match="distance"):
        await memory.images_by_hash("acme", [bytes(32)], distance, 10)


async def test_the_nearest_images_to_any_vector_come_first(memory: PointMemory) -> None:
    """Of several vectors the best similarity counts, each image comes once, with its cosine."""
    images = [await store(memory, an_image(number), seed=number) for number in (1, 2, 3)]
    queries = np.stack([direction(2, IMAGE_SIZE), -direction(2, IMAGE_SIZE), direction(3, IMAGE_SIZE)])
    found = await memory.images_near("acme", queries, 2)
    assert {one.record.id for one in found} == {images[1].id, images[2].id}
    assert [one.similarity for one in found] == pytest.approx([1.0, 1.0], abs=1e-5)
    (best,) = await memory.images_near("acme", direction(9, IMAGE_SIZE)[None], 1)
    cosines = [float(direction(9, IMAGE_SIZE) @ direction(number, IMAGE_SIZE)) for number in (1, 2, 3)]
    assert best.similarity == pytest.approx(max(cosines), abs=1e-5)
    assert best.record == images[int(np.argmax(cosines))]


async def test_digests_are_added_once_and_never_lost(memory: PointMemory) -> None:
    """Digests that arrive together for one image are all kept, each once."""
    image = await store(memory, an_image())
    news = [f"{number:064x}" for number in range(50, 80)]
    added = await asyncio.gather(*(memory.add_digests("acme", image.id, [digest, news[0]]) for digest in news))
    assert all(added)
    stored = await memory.image("acme", image.id)
    assert stored is not None
    assert stored.digests[:2] == image.digests
    assert sorted(stored.digests[2:]) == news
    for digest in news:
        assert await memory.image_by_digest("acme", digest) == stored


async def test_no_digest_is_added_to_an_image_that_is_not_there(memory: PointMemory) -> None:
    """Adding to an unknown image says so and makes nothing."""
    assert not await memory.add_digests("acme", an_image().id, ["00"])
    assert (await memory.holdings()).images == 0


async def test_a_digest_can_be_removed_but_not_the_original(memory: PointMemory) -> None:
    """A wrong alias is parted from its image; the digest of the file it was made from stays."""
    image = await store(memory, an_image())
    await memory.add_digests("acme", image.id, ["aa"])
    assert await memory.remove_digest("acme", "aa") == 1
    assert await memory.image_by_digest("acme", "aa") is None
    assert await memory.remove_digest("acme", "aa") == 0
    assert await memory.remove_digest("acme", image.digests[0]) == 0
    assert await memory.image("acme", image.id) == image


# Entries


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


# Tenants


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


# Forgetting


async def fill(memory: PointMemory) -> dict[str, Entry]:
    """Two images of one tenant with three entries, and one of another tenant; an alias on the first image."""
    first, second = await store(memory, an_image(1)), await store(memory, an_image(2), seed=2)
    stranger = await store(memory, an_image(1, "other"))
    await memory.add_digests("acme", first.id, ["aa"])
    entries = {
        "old": an_entry(first, "old", create_time=NOW - 100.0, model="minicpm", tags=()),
        "new": an_entry(first, "new", expire_time=NOW + 50.0),
        "second": an_entry(second, "second", model_revision="r2", tags=("x",)),
        "stranger": an_entry(stranger, "old", create_time=NOW - 100.0, model="minicpm", tags=("x",)),
    }
    for entry in entries.values():
        await put(memory, entry)
    return entries


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


# The whole


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


# The embedded store


async def test_everything_is_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    """What was stored before an orderly stop is found after the next start."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    held = await fill(memory)
    await memory.close()
    again = edge_memory(tmp_path, clock)
    await again.start()
    for entry in held.values():
        assert await again.entry(entry.tenant, entry.id) == entry
        assert await again.fingerprint(entry.tenant, entry.image) is not None
    await again.close()


CHILD = """
    import asyncio, os, sys
    from pathlib import Path
    sys.path.insert(0, "")
    from tests.dedup_service.store.test_repository import NOW, an_entry, an_image, edge_memory, put, store

    async def main():
        memory = edge_memory(Path(sys.argv[1]), lambda: NOW)
        await memory.start()
        number = 0
        while True:
            number += 1
            image = await store(memory, an_image(number))
            entry = an_entry(image)
            await put(memory, entry)
            await memory.add_digests("acme", image.id, [f"alias-{number}"])
            print("stored", number, memory.points.process.pid, flush=True)

    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["service", "store"])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, clock: Clock, victim: str) -> None:
    """The service, or the process that owns the store, is killed in the middle of writes: every answer whose storing
    was acknowledged is there afterwards, with its image, fingerprint and alias."""

    def write_until_killed() -> int:
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as child:
            assert child.stdout is not None
            acknowledged = 0
            for line in child.stdout:
                if not line.startswith(b"stored"):  # a log line about the death of the store's process
                    continue
                acknowledged, store_process = map(int, line.split()[1:])
                if acknowledged == 300:
                    os.kill(child.pid if victim == "service" else store_process, signal.SIGKILL)
            child.wait()
        return acknowledged

    acknowledged = await asyncio.to_thread(write_until_killed)
    assert acknowledged >= 300
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    for number in range(1, acknowledged + 1):
        image = an_image(number)
        assert await memory.entry("acme", an_entry(image).id) == an_entry(image)
        assert await memory.fingerprint("acme", image.id) is not None
        found = await memory.image_by_digest("acme", f"alias-{number}")
        assert found is not None
        assert found.id == image.id
    await memory.close()


async def test_the_store_comes_back_by_itself(tmp_path: Path, clock: Clock) -> None:
    """When the process that owns the store dies, calls fail at once with the known error, and work again soon."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    held = await fill(memory)
    process = memory.points.process
    assert process is not None
    process.kill()
    entry = held["new"]
    found = None
    failures = 0
    for _ in range(200):
        try:
            found = await memory.entry("acme", entry.id)
            break
        except MemoryUnavailableError:
            failures += 1
            await asyncio.sleep(0.05)
    assert failures > 0
    assert found == entry
    await memory.close()


async def test_a_folder_has_one_owner(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second store over the same folder does not open: two owners would spoil it."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    second = EdgeMemory(tmp_path, "dct", IMAGE_SIZE, "sentence", QUESTION_SIZE)
    second.points.opening = 2.0
    second.points.options["patience"] = 0.1
    with pytest.raises(MemoryUnavailableError):
        await second.start()
    assert (await memory.holdings()).entries == 0
    await memory.close()


async def test_too_many_waiting_calls_are_refused(tmp_path: Path) -> None:
    """The queue in front of the store is bounded: beyond it a call fails at once."""
    points = EdgePoints(tmp_path / "edge", LAYOUT, waiting=4)
    await points.start()
    results = await asyncio.gather(*(points.count(Kind.ENTRIES) for _ in range(10)), return_exceptions=True)
    assert [result for result in results if not isinstance(result, BaseException)] == [0, 0, 0, 0]
    assert sum(isinstance(result, MemoryUnavailableError) for result in results) == 6
    await points.close()


async def built(points: EdgePoints) -> None:
    """Waits until no build is going on."""
    for _ in range(900):
        if not await points.call("building"):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the build did not end")


COUNT = shard.BUILD_PAGE + 60
"""Points that a build is handed in more than one page."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(Kind))
async def test_changes_during_a_build_are_in_its_result(tmp_path: Path, clock: Clock, kind: Kind) -> None:
    """While a generation is built the store answers, and what is added, changed and removed meanwhile is in the new
    generation as it was in the old one; after a restart too."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    images = [await store(memory, an_image(number), seed=number) for number in range(COUNT)]
    for image in images:
        await put(memory, an_entry(image))
    folder = tmp_path / "edge" / LAYOUT.name(kind)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["000001"]
    assert await memory.points.call("build", kind)
    changes: list[Awaitable[object]] = [
        memory.delete(Selection("acme", images=(images[0].id,))),
        memory.add_digests("acme", images[1].id, ["during"]),
        memory.touch([Touch("acme", an_entry(images[1]).id, NOW, 5, NOW, NOW + 9.0)]),
        store(memory, an_image(9000), seed=9000),
        put(memory, an_entry(an_image(9000))),
    ]
    await asyncio.gather(*changes)
    assert await memory.points.call("building"), "the changes came too late to be during the build"
    await built(memory.points)
    assert (folder / "000002").exists()
    for _ in range(2):
        assert (await memory.holdings()).images == COUNT
        assert (await memory.holdings()).entries == COUNT
        assert await memory.image("acme", images[0].id) is None
        touched = await memory.entry("acme", an_entry(images[1]).id)
        assert touched is not None
        assert touched.hits == 5
        changed = await memory.image_by_digest("acme", "during")
        assert changed is not None
        for number in (1, COUNT // 2, COUNT - 1, 9000):
            (near,) = await memory.images_near("acme", direction(number, IMAGE_SIZE)[None], 1)
            assert near.record.id == an_image(number).id
            assert len(await memory.entries_of("acme", near.record.id)) == 1
        await memory.close()
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["000002"]
        memory = edge_memory(tmp_path, clock)
        await memory.start()
    await memory.close()


async def test_a_failed_build_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    """A builder that dies leaves the store as it was."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    held = await fill(memory)
    pid = await memory.points.call("build", Kind.IMAGES)
    os.kill(pid, signal.SIGKILL)
    await built(memory.points)
    assert await memory.image("acme", held["new"].image) is not None
    await memory.close()
    folders = [path for path in (tmp_path / "edge" / LAYOUT.name(Kind.IMAGES)).iterdir() if path.is_dir()]
    assert [path.name for path in folders] == ["000001"]


# The server


async def test_a_server_that_is_away_is_unavailable_in_time(clock: Clock) -> None:
    """Without a server every call fails with the known error, within the timeout."""
    address = "http://127.0.0.1:9"
    memory = await asyncio.to_thread(
        ServerMemory.connect, address, "dct", IMAGE_SIZE, "sentence", QUESTION_SIZE, timeout=0.5
    )
    started = asyncio.get_running_loop().time()
    with pytest.raises(MemoryUnavailableError):
        await memory.start()
    with pytest.raises(MemoryUnavailableError):
        await memory.image("acme", an_image().id)
    assert asyncio.get_running_loop().time() - started < 3.0
    await memory.close()


def test_every_condition_can_travel_by_grpc() -> None:
    """The conditions that memory uses survive the client's conversion to the wire and back."""
    where: Where = (
        Equals("tenant", "acme"),
        AnyOf("bands", ("0:aa", "1:bb")),
        Below("expire_time", 1.5),
        Above("expire_time", 0.5),
        Among((str(uuid.UUID(int=7)),)),
        AtLeast(2, (Equals("bands", "0:aa"), Equals("bands", "1:bb"))),
    )
    condition = filter_of(where)
    assert condition is not None
    returned = GrpcToRest.convert_filter(RestToGrpc.convert_filter(condition))
    assert stripped(returned.model_dump()) == stripped(condition.model_dump())


def stripped(value: object) -> object:
    """Without what is empty: the wire does not tell "none" from "not given"."""
    if isinstance(value, dict):
        return {key: stripped(inner) for key, inner in value.items() if inner not in (None, [])}
    return [stripped(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("address", ["qdrant:6334", "ftp://qdrant", "http://", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """A store's address that can't work is an error before anything starts."""
    with pytest.raises(ValueError, match="address"):
        ServerMemory.connect(address, "dct", IMAGE_SIZE, "sentence", QUESTION_SIZE)


# The port's own parts


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


@pytest.fixture(params=STORES)
async def opening(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Callable[[str, str], PointMemory]:
    """Opens memory with encoders of these names, one after the other on the same store."""
    client = await client_of(request.param)

    def opened(image: str, question: str) -> PointMemory:
        if request.param == "edge":
            return EdgeMemory(tmp_path, image, IMAGE_SIZE, question, QUESTION_SIZE, clock=clock)
        return ServerMemory(ServerPoints(client, Layout(image, IMAGE_SIZE, question, QUESTION_SIZE), OPTIONS), clock)

    return opened


async def leave(memory: PointMemory, entries: int = 2) -> None:
    """Stores an image with an alias, entries that end an hour apart, and goes, leaving the server as it is."""
    await memory.start()
    image = await store(memory, an_image())
    for number in range(entries):
        await put(memory, an_entry(image, f"question {number}", expire_time=NOW + 3600.0 * (number + 1)))
    await part(memory)


async def part(memory: PointMemory) -> None:
    """Leaves the store to the next one. The server lives in its client here and stays open."""
    if isinstance(memory, EdgeMemory):
        await memory.close()


async def test_what_other_encoders_left_is_counted_and_removed(opening: Callable[[str, str], PointMemory]) -> None:
    """A change of an encoder hides what was stored; on demand it is counted, removed, and gone for its encoders too.
    What the present encoders stored stays."""
    await leave(opening("other", "sentence"))
    memory = opening("dct", "sentence")
    await memory.start()
    image = await store(memory, an_image())
    await put(memory, an_entry(image))
    assert await memory.image_by_digest("acme", image.digests[0]) is not None
    for dry_run in (True, False):
        assert await memory.delete_stale(dry_run) == Deleted(entries=2, images=1, aliases=1)
    assert await memory.delete_stale() == Deleted()
    assert len(await memory.entries_of("acme", image.id)) == 1
    await part(memory)
    again = opening("other", "sentence")
    await again.start()
    assert (await again.holdings()).entries == 0
    await part(again)


async def test_what_other_encoders_left_is_swept_when_it_is_over(
    opening: Callable[[str, str], PointMemory], clock: Clock
) -> None:
    """Leftovers stay for as long as one of their entries lives: who goes back to the old encoder finds them. An empty
    collection may be somebody's who has just begun, and stays."""
    await leave(opening("other", "sentence"))
    await leave(opening("fresh", "sentence"), entries=0)
    memory = opening("dct", "sentence")
    await memory.start()
    for after, swept in ((1800.0, Deleted()), (5400.0, Deleted()), (7201.0, Deleted(2, 1, 1)), (7202.0, Deleted())):
        assert await memory.delete_stale(expired_before=NOW + after) == swept
    assert await memory.delete_stale(dry_run=True) == Deleted(images=1, aliases=1), "the one without entries"
    await part(memory)


async def test_the_question_encoder_alone_makes_entries_stale(opening: Callable[[str, str], PointMemory]) -> None:
    """Image records belong to the image encoder: they serve on under another question encoder."""
    await leave(opening("dct", "former"))
    memory = opening("dct", "sentence")
    await memory.start()
    assert await memory.delete_stale() == Deleted(entries=2)
    assert await memory.image_by_digest("acme", an_image().digests[0]) is not None
    await part(memory)


async def test_the_lowest_come_first(memory: PointMemory) -> None:
    """Of points below a bound those with the smallest numbers are given, no more than asked for."""
    image = await store(memory, an_image())
    for number in (3, 1, 4, 2, 5):
        await put(memory, an_entry(image, f"question {number}", expire_time=NOW + number))
    found = await memory.points.lowest(Kind.ENTRIES, "expire_time", NOW + 4, 2, ("expire_time",))
    assert [one.payload["expire_time"] for one in found] == [NOW + 1, NOW + 2]
    found = await memory.points.lowest(Kind.ENTRIES, "expire_time", NOW + 4, 9, ("image",))
    assert [one.payload for one in found] == [{"image": image.id}] * 3


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


async def test_what_is_in_use_is_no_leftover(tmp_path: Path, clock: Clock) -> None:
    """Beside its own collections, and the logs of their databases, a store sees nothing that others left."""
    memory = edge_memory(tmp_path, clock)
    await memory.start()
    await store(memory, an_image())
    assert list((tmp_path / "edge").glob("fingerprints-*-wal"))
    assert not await asyncio.to_thread(memory.points.foreign)
    assert await memory.delete_stale(dry_run=True) == Deleted()
    await memory.close()
