"""The StoreService over a real gRPC server: purges, exports, imports."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from qdrant_client import AsyncQdrantClient

from askonce.faults import from_error
from askonce.serving import Registration, Server, Serving
from askonce.v1 import content_pb2, store_pb2, store_pb2_grpc
from dedup_service.api.store_service import StoreService
from dedup_service.store.exact_cache import ExactKey, InProcessExactCache
from dedup_service.store.points import Layout
from dedup_service.store.qdrant_server import ServerMemory, ServerPoints
from dedup_service.store.records import Entry, ImageRecord, Vector, entry_id, image_id

NOW = time.time()
DIGEST = bytes(range(32))


class Wall:
    """Where thumbnails hang: remembers which were taken down."""

    def __init__(self) -> None:
        self.forgotten: list[tuple[str, list[str] | None, float | None]] = []

    def keep(self, tenant: str, image: str, rgb: object) -> bool:
        """Nothing is kept here."""
        return False

    def forget(self, tenant: str, images: Sequence[str] | None = None, *, before: float | None = None) -> None:
        """Writes down what is deleted."""
        self.forgotten.append((tenant, None if images is None else list(images), before))


@dataclass
class Peer:
    """A client of a running service, with the memory behind it."""

    stub: store_pb2_grpc.StoreServiceAsyncStub
    memory: ServerMemory
    exact_cache: InProcessExactCache
    forgotten: list[tuple[str, list[str] | None, float | None]]
    """Thumbnails that were deleted: tenant, images or all, before a time or at any."""

    async def purge(self, **conditions: object) -> tuple[int, int, int]:
        """Purges the tenant acme: entries, images, aliases."""
        request = store_pb2.PurgeRequest(parent="tenants/acme", **conditions)  # type: ignore[arg-type]
        done = await self.stub.Purge(request, timeout=10)
        return done.entry_count, done.image_count, done.alias_count

    async def fails(self, **conditions: object) -> str:
        """The reason why a purge is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.purge(**conditions)
        return from_error(caught.value).reason

    async def export(self, tenant: str) -> list[store_pb2.ExportEntriesResponse]:
        """Everything of a tenant."""
        call = self.stub.ExportEntries(store_pb2.ExportEntriesRequest(parent=f"tenants/{tenant}"), timeout=10)
        return [piece async for piece in call]

    async def bring(
        self, tenant: str, pieces: Iterable[store_pb2.ExportEntriesResponse]
    ) -> store_pb2.ImportEntriesResponse:
        """Imports what was exported."""
        requests = [
            store_pb2.ImportEntriesRequest(
                parent=f"tenants/{tenant}",
                header=piece.header if piece.HasField("header") else None,
                image=piece.image if piece.HasField("image") else None,
            )
            for piece in pieces
        ]
        return await self.stub.ImportEntries(iter(requests), timeout=10)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A StoreService over memory with two images: one with two answers and an alias, one with one answer."""
    client = AsyncQdrantClient(":memory:")
    former = ServerMemory(ServerPoints(client, Layout("i", 4, "former", 5)))
    await former.start()
    await fill(former, "acme", dimension=5)
    memory = ServerMemory(ServerPoints(client, Layout("i", 4, "q", 3)))
    await memory.start()
    exact_cache = InProcessExactCache(time.time)
    pictures = Wall()
    service = StoreService(memory, exact_cache, image_encoder="i", question_encoder="q", pictures=pictures)
    for tenant in ("acme", "other"):
        await fill(memory, tenant)
    add = Registration(
        "askonce.v1.StoreService",
        lambda server: store_pb2_grpc.add_StoreServiceServicer_to_server(service, server),
    )
    server = Server("dedup", Serving(), [add])
    address = await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Peer(store_pb2_grpc.StoreServiceStub(channel), memory, exact_cache, pictures.forgotten)
    await server.stop()
    await memory.close()


async def fill(memory: ServerMemory, tenant: str, dimension: int = 3) -> None:
    """Stores two images and three answers."""
    for number, digests in enumerate(((DIGEST, b"\1" * 32), (b"\2" * 32,))):
        image = ImageRecord(
            id=image_id(tenant, digests[0]),
            tenant=tenant,
            digests=tuple(digest.hex() for digest in digests),
            perceptual_hash=bytes([number] * 32),
            width=640,
            height=480,
            create_time=NOW - 100,
            fingerprint_bytes=5,
        )
        await memory.put_image(image, unit(4, number), b"print")
        for question in ("how much?", "when?")[: 2 - number]:
            await memory.put_entry(entry(tenant, image.id, question), unit(dimension, len(question)), 20)


def entry(tenant: str, image: str, question: str) -> Entry:
    """An answer; "when?" is the older one and has a tag."""
    older = question == "when?"
    return Entry(
        id=entry_id(tenant, image, "space", question),
        tenant=tenant,
        image=image,
        space="space",
        question=question.title(),
        normal=question,
        language="en",
        answer=content_pb2.Answer(text="RM 5").SerializeToString(),
        answer_text="RM 5",
        model="old" if older else "new",
        model_revision="1",
        create_time=NOW - (5_000 if older else 50),
        hot_until=NOW,
        expire_time=NOW + 1_000,
        last_use=NOW - 10,
        hits=4,
        generate_seconds=1.25,
        tags=("march",) if older else (),
    )


def unit(size: int, at: int) -> Vector:
    """A vector of length 1."""
    vector = np.zeros(size, np.float32)
    vector[at % size] = 1.0
    return vector


async def test_each_condition_selects_its_entries(peer: Peer) -> None:
    """Image (by any of its files), model, tag and age each remove what they name, after a dry run that counts the
    same and removes nothing; other tenants keep everything."""
    for conditions, expected in (
        ({"tag": "march"}, (1, 0, 0)),
        ({"model": "old", "model_revision": "1"}, (1, 0, 0)),
        ({"min_age": Duration(seconds=1_000)}, (1, 0, 0)),
        ({"image_digest": b"\1" * 32}, (2, 1, 1)),
        ({"model": "none"}, (0, 0, 0)),
        ({"image_digest": b"\7" * 32}, (0, 0, 0)),
    ):
        assert await peer.purge(**conditions, dry_run=True) == expected, conditions
    assert await peer.purge(tag="march") == (1, 0, 0)
    assert await peer.purge(tag="march") == (0, 0, 0)
    assert (await peer.purge(image_digest=DIGEST))[:2] == (1, 1)
    assert (await peer.purge(all=True))[:2] == (1, 1)
    assert len(await peer.export("acme")) == 1
    assert len(await peer.export("other")) == 3


async def test_a_purge_reaches_the_hot_tier(peer: Peer) -> None:
    """What was purged is not served from the hot tier either."""
    key = ExactKey("acme", DIGEST.hex(), "space", "how much?")
    kept = entry("acme", image_id("acme", DIGEST), "how much?")
    await peer.exact_cache.put(
        key, Entry(**{**{n: getattr(kept, n) for n in kept.__slots__}, "hot_until": time.time() + 100})
    )
    assert await peer.exact_cache.get(key) is not None
    await peer.purge(all=True, dry_run=True)
    assert await peer.exact_cache.get(key) is not None
    await peer.purge(all=True)
    assert await peer.exact_cache.get(key) is None


async def test_thumbnails_go_with_a_purge(peer: Peer) -> None:
    """A purge of an image deletes the thumbnails of all files that show it, one of a tenant or of an age all that are
    meant; a dry run, and a purge by what no thumbnail has, delete none."""
    await peer.purge(image_digest=DIGEST, dry_run=True)
    await peer.purge(tag="march")
    await peer.purge(model="old")
    assert peer.forgotten == []
    await peer.purge(image_digest=DIGEST)
    assert peer.forgotten == [("acme", [image_id("acme", DIGEST), image_id("acme", b"\1" * 32)], None)]
    await peer.purge(min_age=Duration(seconds=60))
    tenant, images, before = peer.forgotten[-1]
    assert (tenant, images) == ("acme", None)
    assert before == pytest.approx(time.time() - 60, abs=20)
    await peer.purge(all=True)
    assert peer.forgotten[-1] == ("acme", None, None)


async def test_a_purge_says_what_it_means(peer: Peer) -> None:
    """Without a condition, with conditions that contradict each other, or with impossible ones, nothing is removed."""
    assert await peer.fails() == "CONDITIONS_MISSING"
    assert await peer.fails(all=True, tag="march") == "CONDITIONS_CONFLICT"
    assert await peer.fails(stale_encoders=True, all=True) == "CONDITIONS_CONFLICT"
    assert await peer.fails(image_digest=b"short") == "DIGEST_INVALID"
    assert await peer.fails(model_revision="1") == "MODEL_MISSING"
    assert await peer.fails(min_age=Duration(seconds=-1)) == "OUT_OF_RANGE"
    assert len(await peer.export("acme")) == 3


async def test_an_age_of_zero_is_an_age(peer: Peer) -> None:
    """min_age 0 names everything stored until now: zero is not "unset"."""
    assert (await peer.purge(min_age=Duration()))[:2] == (3, 2)


async def test_what_other_encoders_left_can_be_removed(peer: Peer) -> None:
    """Entries of encoders that are no longer in use are counted and removed on demand; what is in use stays."""
    assert await peer.purge(stale_encoders=True, dry_run=True) == (3, 0, 0)
    assert await peer.purge(stale_encoders=True) == (3, 0, 0)
    assert await peer.purge(stale_encoders=True) == (0, 0, 0)
    assert len(await peer.export("acme")) == 3


async def test_an_export_can_be_brought_in_elsewhere(peer: Peer) -> None:
    """An export imported for another tenant gives equal records, found by the same digests, under that tenant's own
    ids; imported again it changes nothing."""
    pieces = await peer.export("acme")
    assert [piece.WhichOneof("piece") for piece in pieces] == ["header", "image", "image"]
    done = await peer.bring("third", pieces)
    assert (done.image_count, done.entry_count, done.skipped_count) == (2, 3, 0)
    again = await peer.bring("third", pieces)
    assert (again.image_count, again.entry_count, again.skipped_count) == (0, 0, 3)
    image = await peer.memory.image_by_digest("third", ("01" * 32))
    assert image is not None
    assert image.id == image_id("third", DIGEST)
    found = await peer.memory.entry("third", entry_id("third", image.id, "space", "when?"))
    assert found is not None
    assert (found.answer_text, found.tags, found.hits, found.generate_seconds) == ("RM 5", ("march",), 4, 1.25)
    near = await peer.memory.entries_near("third", image.id, "space", unit(3, 5), 1)
    assert near[0].record.id == found.id
    assert near[0].similarity == pytest.approx(1.0)
    assert await peer.memory.fingerprint("third", image.id) == b"print"


async def test_what_is_over_stays_out(peer: Peer) -> None:
    """Entries whose time is over are not brought in, nor images that would have none."""
    pieces = await peer.export("acme")
    for piece in pieces[1:]:
        for each in piece.image.entries:
            each.expire_time.FromSeconds(int(NOW) - 5)
    done = await peer.bring("third", pieces)
    assert (done.image_count, done.entry_count, done.skipped_count) == (0, 0, 3)


async def test_foreign_and_broken_imports_are_refused(peer: Peer) -> None:
    """Vectors of another encoder, another form, no header, or a broken record: refused by name, and nothing stored of
    the record at fault."""
    header, image, _ = await peer.export("acme")

    async def refused(*pieces: store_pb2.ExportEntriesResponse) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await peer.bring("third", pieces)
        return caught.value.code(), from_error(caught.value).reason

    def changed(piece: store_pb2.ExportEntriesResponse) -> store_pb2.ExportEntriesResponse:
        copy = store_pb2.ExportEntriesResponse()
        copy.CopyFrom(piece)
        return copy

    foreign, formed, broken, nan = changed(header), changed(header), changed(image), changed(image)
    foreign.header.question_encoder = "another"
    formed.header.format_version = 9
    broken.image.digests[0] = b"short"
    nan.image.vector[0] = float("nan")
    assert await refused(foreign, image) == (grpc.StatusCode.FAILED_PRECONDITION, "ENCODER_CHANGED")
    assert (await refused(formed))[1] == "FORMAT_UNKNOWN"
    assert (await refused(image))[1] == "HEADER_MISSING"
    assert (await refused())[1] == "HEADER_MISSING"
    assert (await refused(header, header))[1] == "PIECE_UNEXPECTED"
    assert (await refused(header, broken))[1] == "DIGEST_INVALID"
    assert (await refused(header, nan))[1] == "VECTOR_INVALID"
    assert len(await peer.export("third")) == 1
