"""Images in memory, whatever the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from dedup_service.store.repository import PAGE, PointMemory
from tests.dedup_service.store.memories import (
    IMAGE_SIZE,
    an_image,
    direction,
    flipped,
    store,
)


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
