"""What other encoders left in a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.points import Layout
from dedup_service.store.qdrant_server import ServerMemory, ServerPoints
from dedup_service.store.records import (
    Deleted,
)
from dedup_service.store.repository import PointMemory
from tests.dedup_service.store.memories import (
    IMAGE_SIZE,
    NOW,
    OPTIONS,
    QUESTION_SIZE,
    Clock,
    an_entry,
    an_image,
    put,
    store,
)
from tests.dedup_service.store.servers import STORES, client_of


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
