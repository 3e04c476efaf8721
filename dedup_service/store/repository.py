"""Memory over points: what remembering means, written once for every kind of Qdrant."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import numpy as np
import prometheus_client
import structlog

from dedup_service.image.perceptual import hamming
from dedup_service.store.eviction import Kept, evicted
from dedup_service.store.payloads import (
    RecordDamagedError,
    entry_of,
    entry_payload,
    image_of,
    image_payload,
    touch_payload,
)
from dedup_service.store.points import Above, Among, AnyOf, AtLeast, Below, Equals, Found, Kind, Point, Points, Where
from dedup_service.store.records import (
    BANDS,
    Deleted,
    Entry,
    Exported,
    Holdings,
    ImageRecord,
    Named,
    Scored,
    Selection,
    T,
    Touch,
    Unused,
    Vector,
    bands,
)

DAMAGED = prometheus_client.Counter(
    "askonce_dedup_records_damaged_total",
    "Entries read that were not what was written; they count as missing.",
)
log = structlog.get_logger("store")

CHUNK = 64
"""Points removed or changed in one call: short enough that look-ups get their turn in between."""
PAGE = 256
"""Points read in one call where all of a set are wanted."""
MANY = 1_000
"""The same for a walk through everything of a tenant that reads little of each: about 5 ms of the store's time."""
CLAIMS = 4
"""Most images considered that claim one digest. More than one is rare: two replicas took in a copy at one moment."""
GRACE = 900.0
"""Seconds for which an image may be without entries: its first one is still being stored."""


class PointMemory:
    """Implements `Memory`. Changes to one image's entries and digests take turns within this process.

    Replicas over one Qdrant server are not locked against each other. What can come of it is small: an alias that is
    lost and looked at again, or an entry beyond the limit until the next one is stored.
    """

    def __init__(self, points: Points, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since the epoch; entries that expired by it are invisible."""
        self.kind = points.kind
        self.points = points
        self.clock = clock
        self.locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.image_stroll: str | None = None
        self.fingerprint_stroll: str | None = None

    async def start(self) -> None:
        """Opens or creates the collections."""
        await self.points.start()

    async def close(self) -> None:
        """Flushes and closes. Safe to call twice."""
        await self.points.close()

    # Images

    async def image_by_digest(self, tenant: str, digest: str) -> ImageRecord | None:
        """The image that a digest is known to show; of several that claim it, the one that it founded."""
        where = (Equals("tenant", tenant), Equals("digests", digest))
        page = await self.points.page(Kind.IMAGES, where, CLAIMS)
        records = [image_of(found.id, found.payload) for found in page.points]
        return min(records, key=lambda record: (record.digests.index(digest), record.create_time), default=None)

    async def images_by_digest(self, tenant: str, digest: str) -> list[ImageRecord]:
        """Every image that claims a digest."""
        where = (Equals("tenant", tenant), Equals("digests", digest))
        return [image_of(found.id, found.payload) async for found in self.every(Kind.IMAGES, where)]

    async def image(self, tenant: str, image: str) -> ImageRecord | None:
        """The image of this id."""
        found = await self.own(Kind.IMAGES, tenant, [image])
        return image_of(found[0].id, found[0].payload) if found else None

    async def images_by_hash(
        self, tenant: str, hashes: Sequence[bytes], distance: int, limit: int
    ) -> list[ImageRecord]:
        """Images at most `distance` bits from any of the hashes, nearest first.

        A hash that is `distance` bits away differs in at most so many of its bands, so it shares at least one, and the
        index finds that. Where very many share one (blank margins), the index counts: at least `BANDS - distance` are
        equal. That takes seven times as long. Of more than `PAGE` finds even then, the rest is not looked at.
        """
        if not 0 <= distance < BANDS:
            raise ValueError(f"distance must be 0 to {BANDS - 1}, not {distance}")
        keys = tuple(dict.fromkeys(key for hashed in hashes for key in bands(hashed)))
        page = await self.points.page(Kind.IMAGES, (Equals("tenant", tenant), AnyOf("bands", keys)), PAGE)
        pages = [page]
        if page.after is not None:
            pages = await asyncio.gather(
                *(self.points.page(Kind.IMAGES, sharing(tenant, hashed, distance), PAGE) for hashed in hashes)
            )
        near: dict[str, tuple[int, ImageRecord]] = {}
        for found in (found for page in pages for found in page.points):
            record = image_of(found.id, found.payload)
            apart = min(hamming(record.perceptual_hash, hashed) for hashed in hashes)
            if apart <= distance:
                near[record.id] = (apart, record)
        ranked = sorted(near.values(), key=lambda one: (one[0], one[1].create_time, one[1].id))
        return [record for _, record in ranked[:limit]]

    async def images_near(self, tenant: str, vectors: Vector, limit: int) -> list[Scored[ImageRecord]]:
        """The nearest images to any of the vectors, shape (K, D), nearest first, each once."""
        found = await self.points.nearest(Kind.IMAGES, vectors, (Equals("tenant", tenant),), limit)
        return [Scored(image_of(one.id, one.payload), one.score) for one in found]

    async def fingerprint(self, tenant: str, image: str) -> bytes | None:
        """The stored fingerprint of an image."""
        found, content = await asyncio.gather(self.own(Kind.IMAGES, tenant, [image]), self.points.fingerprint(image))
        return content if found else None

    async def put_image(self, image: ImageRecord, vector: Vector, fingerprint: bytes) -> None:
        """Stores an image; durable on return. An existing record of this id is replaced."""
        record = replace(image, fingerprint_bytes=len(fingerprint))
        async with self.lock(image.id):
            # The fingerprint first: an image without one can't be checked, a fingerprint without an image is swept.
            await self.points.put_fingerprint(image.id, fingerprint, self.clock())
            await self.points.put(Kind.IMAGES, [Point(image.id, vector, image_payload(record))])

    async def add_digests(self, tenant: str, image: str, digests: Sequence[str]) -> bool:
        """Adds digests of a further copy to an image. False when there is no such image."""
        async with self.lock(image):
            record = await self.image(tenant, image)
            if record is None:
                return False
            joined = list(dict.fromkeys([*record.digests, *digests]))
            if len(joined) > len(record.digests):
                await self.points.change(Kind.IMAGES, [(image, {"digests": joined})])
            return True

    async def remove_digest(self, tenant: str, digest: str) -> int:
        """Removes one digest from its image, unless it is the original's. Returns how many were removed, 0 or 1."""
        record = await self.image_by_digest(tenant, digest)
        if record is None:
            return 0
        async with self.lock(record.id):
            record = await self.image(tenant, record.id)
            if record is None or digest not in record.digests[1:]:
                return 0
            kept = [record.digests[0], *(one for one in record.digests[1:] if one != digest)]
            await self.points.change(Kind.IMAGES, [(record.id, {"digests": kept})])
            return 1

    # Entries

    async def entry(self, tenant: str, entry: str) -> Entry | None:
        """The entry of this id, unless it has expired."""
        found = await self.own(Kind.ENTRIES, tenant, [entry])
        if not found:
            return None
        return next((stored for stored in whole(found) if stored.expire_time > self.clock()), None)

    async def entries_near(
        self, tenant: str, image: str, space: str, vector: Vector, limit: int
    ) -> list[Scored[Entry]]:
        """The entries of this image and space that are nearest to the vector, shape (D,), nearest first."""
        where = (*belonging(tenant, image), Equals("space", space), Above("expire_time", self.clock()))
        found = await self.points.nearest(Kind.ENTRIES, vector[None, :], where, limit)
        return [Scored(entry, one.score) for one in found for entry in whole([one])]

    async def entries_of(self, tenant: str, image: str, space: str | None = None) -> list[Entry]:
        """All entries of an image that have not expired, of one space if given."""
        where: Where = (*belonging(tenant, image), Above("expire_time", self.clock()))
        if space is not None:
            where = (*where, Equals("space", space))
        return whole([found async for found in self.every(Kind.ENTRIES, where)])

    async def put_entry(
        self, entry: Entry, vector: Vector, keep: int, intent: Callable[[str], str] | None = None
    ) -> list[str]:
        """Stores an entry; durable on return. Returns those evicted, see `eviction.evicted`: `intent` names the intent
        of a question's normal form; without it every wording counts as one."""
        where = belonging(entry.tenant, entry.image)
        async with self.lock(entry.image):
            await self.points.put(Kind.ENTRIES, [Point(entry.id, vector, entry_payload(entry))])
            if await self.points.count(Kind.ENTRIES, where) <= max(1, keep):
                return []
            fields = ("last_use", "expire_time", "normal", "space")
            now = self.clock()
            kept = [
                Kept(
                    found.id,
                    f"{found.payload['space']}\n{(intent or str)(found.payload['normal'])}",
                    found.payload["last_use"],
                    found.payload["expire_time"] <= now,
                )
                async for found in self.every(Kind.ENTRIES, where, fields=fields)
            ]
            gone = evicted(kept, entry.id, max(1, keep))
            if gone:
                await self.points.remove(Kind.ENTRIES, gone)
            return gone

    async def touch(self, touches: Sequence[Touch]) -> None:
        """Records uses, in one go. Entries that are gone are passed over."""
        for chunk in chunks(list(touches), CHUNK):
            ids = [touch.entry for touch in chunk]
            stored = {found.id: found.payload for found in await self.points.retrieve(Kind.ENTRIES, ids)}
            changes = []
            for touch in chunk:
                payload = stored.get(touch.entry)
                if payload is not None and payload["tenant"] == touch.tenant:
                    change = touch_payload(touch, int(payload["hits"]))
                    payload.update(change)
                    changes.append((touch.entry, change))
            if changes:
                await self.points.change(Kind.ENTRIES, changes)

    # Forgetting

    async def delete(self, selection: Selection, dry_run: bool = False) -> Deleted:
        """Deletes entries, and image records left without any, with their vectors, fingerprints and digests.

        Whole images, and a whole tenant, go even where they have no entries.
        """
        where = chosen(selection)
        whole = selection == Selection(selection.tenant, images=selection.images)
        if dry_run:
            return await self.survey(selection, where, whole)
        deleted = await self.remove_entries(selection.tenant, where)
        if not whole:
            return deleted
        images: Where = (Equals("tenant", selection.tenant),)
        if selection.images:
            images = (*images, Among(selection.images))
        async for found in self.every(Kind.IMAGES, images, fields=("tenant",)):
            deleted = add(deleted, await self.remove_image(selection.tenant, found.id, entries=True))
        if not selection.images:
            async for found in self.every(Kind.FORMS, images, fields=("tenant",)):
                await self.points.remove(Kind.FORMS, [found.id])
        return deleted

    async def rewrite(self, within: float = 0.0) -> None:
        """See `Memory`."""
        await self.points.rewrite(within)

    async def selected(self, selection: Selection) -> AsyncIterator[Named]:
        """Yields what every entry that a selection names is known by."""
        fields = ("normal", "question", "decision", "file")
        async for found in self.every(Kind.ENTRIES, chosen(selection), fields=fields):
            normal, question, decision, file = (found.payload.get(name, "") for name in fields)
            yield Named(found.id, normal, question, decision, file)

    async def survey(self, selection: Selection, where: Where, whole: bool) -> Deleted:
        """What `delete` would remove now."""
        tenant = selection.tenant
        if whole:
            images: Where = (Equals("tenant", tenant), *((Among(selection.images),) if selection.images else ()))
            aliases = count = 0
            async for found in self.every(Kind.IMAGES, images, fields=("digests",)):
                aliases, count = aliases + len(found.payload["digests"]) - 1, count + 1
            return Deleted(await self.points.count(Kind.ENTRIES, where), count, aliases)
        matched: Counter[str] = Counter()
        async for found in self.every(Kind.ENTRIES, where, fields=("image",)):
            matched[found.payload["image"]] += 1
        surveyed = Deleted(entries=matched.total())
        for image, entries in matched.items():
            if await self.points.count(Kind.ENTRIES, belonging(tenant, image)) == entries:
                record = await self.image(tenant, image)
                if record is not None:
                    surveyed = add(surveyed, Deleted(images=1, aliases=len(record.digests) - 1))
        return surveyed

    async def sweep(self, now: float, limit: int) -> Deleted:
        """Deletes at most `limit` entries that expired before `now`, and image records left without entries.

        Then it walks on through a few images and fingerprints, to find those that a crash left alone.
        """
        deleted = Deleted()
        fields = ("tenant", "image")
        while deleted.entries < limit:
            size = min(CHUNK, limit - deleted.entries)
            expired = await self.points.lowest(Kind.ENTRIES, "expire_time", now, size, fields)
            if expired:
                await self.points.remove(Kind.ENTRIES, [found.id for found in expired])
            deleted = add(deleted, Deleted(entries=len(expired)))
            for tenant, image in {(found.payload["tenant"], found.payload["image"]) for found in expired}:
                deleted = add(deleted, await self.remove_image(tenant, image, before=now - GRACE))
            if len(expired) < size:
                break
        strolled = await self.stroll(now, min(limit, CHUNK))
        return add(deleted, strolled)

    async def stroll(self, now: float, limit: int) -> Deleted:
        """Looks at the next `limit` images for some without entries, and at as many fingerprints for lone ones."""
        deleted = Deleted()
        page = await self.points.page(
            Kind.IMAGES, (Below("create_time", now - GRACE),), limit, after=self.image_stroll, fields=("tenant",)
        )
        self.image_stroll = page.after
        for found in page.points:
            deleted = add(deleted, await self.remove_image(found.payload["tenant"], found.id, before=now - GRACE))
        ids, self.fingerprint_stroll = await self.points.fingerprint_ids(now - GRACE, limit, self.fingerprint_stroll)
        held = {found.id for found in await self.points.retrieve(Kind.IMAGES, ids)} if ids else set()
        for image in sorted(set(ids) - held):
            async with self.lock(image):
                if not await self.points.retrieve(Kind.IMAGES, [image]):
                    await self.points.remove_fingerprints([image])
        return deleted

    async def delete_stale(self, dry_run: bool = False, *, expired_before: float | None = None) -> Deleted:
        """Deletes, or counts, the collections of other encoders; with a time only those that are over by then.

        Over is an image encoder's share when it has entries and all of them have expired: where somebody is at work,
        a sweeper removes what expires, so only what nobody uses looks like that.
        """
        now = self.clock() if expired_before is None else expired_before
        found = await self.points.leftovers(now)
        if expired_before is not None:
            entries = [one for one in found if one.kind == Kind.ENTRIES]
            over = {one.image_encoder for one in entries if one.points} - {
                one.image_encoder for one in entries if one.live or not one.points
            }
            found = [one for one in found if one.image_encoder in over]
        if found and not dry_run:
            await self.points.drop([one.name for one in found])
        return Deleted(
            sum(one.points for one in found if one.kind == Kind.ENTRIES),
            sum(one.points for one in found if one.kind == Kind.IMAGES),
            sum(one.aliases for one in found),
        )

    async def remove_entries(self, tenant: str, where: Where) -> Deleted:
        """Removes the entries to which the conditions apply, and their images when they were the last."""
        deleted = Deleted()
        after: str | None = None
        while True:
            page = await self.points.page(Kind.ENTRIES, where, CHUNK, after=after, fields=("image",))
            ids = [found.id for found in page.points]
            if ids:
                await self.points.remove(Kind.ENTRIES, ids)
                deleted = add(deleted, Deleted(entries=len(ids)))
            for image in {found.payload["image"] for found in page.points}:
                deleted = add(deleted, await self.remove_image(tenant, image))
            after = page.after
            if after is None:
                return deleted

    async def remove_image(
        self, tenant: str, image: str, *, entries: bool = False, before: float | None = None
    ) -> Deleted:
        """Removes an image with its fingerprint if it has no entries, or, with `entries`, with those it has. One that
        was created after `before` stays."""
        where = belonging(tenant, image)
        deleted = Deleted()
        async with self.lock(image):
            if entries:
                async for found in self.every(Kind.ENTRIES, where, fields=("tenant",)):
                    await self.points.remove(Kind.ENTRIES, [found.id])
                    deleted = add(deleted, Deleted(entries=1))
            elif await self.points.count(Kind.ENTRIES, where):
                return deleted
            record = await self.image(tenant, image)
            if record is None or (before is not None and record.create_time >= before):
                return deleted
            await self.points.remove(Kind.IMAGES, [image])
            await self.points.remove(Kind.DESCRIPTORS, [image])
            await self.points.remove_fingerprints([image])
            return add(deleted, Deleted(images=1, aliases=len(record.digests) - 1))

    # The whole

    async def export(self, tenant: str) -> AsyncIterator[Exported]:
        """Yields everything of a tenant, image by image; what has expired but is not yet swept comes as well."""
        async for found in self.every(Kind.IMAGES, (Equals("tenant", tenant),), vectors=True, size=CHUNK):
            fingerprint = await self.points.fingerprint(found.id)
            if fingerprint is None or found.vector is None:  # removed since the page was read
                continue
            record = image_of(found.id, found.payload)
            entries: list[Entry] = []
            vectors: list[Vector] = []
            async for entry in self.every(Kind.ENTRIES, belonging(tenant, record.id), vectors=True):
                if entry.vector is not None and (read := whole([entry])):
                    entries += read
                    vectors.append(entry.vector)
            stacked = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
            yield Exported(record, found.vector, fingerprint, tuple(entries), stacked)

    async def unused(self, tenant: str, most: int) -> Unused:
        """Counts a tenant's entries and those that were never served; names at most `most` of these."""
        entries, never = 0, []
        fields = ("hits", "create_time")
        async for found in self.every(Kind.ENTRIES, (Equals("tenant", tenant),), fields=fields, size=MANY):
            entries += 1
            if not found.payload["hits"]:
                never.append((found.payload["create_time"], found.id))
        oldest = [point for _, point in heapq.nsmallest(most, never)]
        named = whole(await self.points.retrieve(Kind.ENTRIES, oldest))
        return Unused(entries, len(never), tuple(sorted(named, key=lambda entry: entry.create_time)))

    async def holdings(self) -> Holdings:
        """Counts what is held."""
        images, entries, disk_bytes = await asyncio.gather(
            self.points.count(Kind.IMAGES), self.points.count(Kind.ENTRIES), self.points.disk_bytes()
        )
        return Holdings(images, entries, disk_bytes)

    async def problems(self) -> list[str]:
        """What an operator should know about the database."""
        return await self.points.problems()

    # Parts

    async def own(self, kind: Kind, tenant: str, ids: Sequence[str]) -> list[Found]:
        """The points of these ids that belong to the tenant."""
        found = await self.points.retrieve(kind, ids)
        return [one for one in found if one.payload["tenant"] == tenant]

    async def every(
        self,
        kind: Kind,
        where: Where,
        *,
        fields: tuple[str, ...] | None = None,
        vectors: bool = False,
        size: int = PAGE,
    ) -> AsyncIterator[Found]:
        """All points to which the conditions apply, read page by page."""
        after: str | None = None
        while True:
            page = await self.points.page(kind, where, size, after=after, fields=fields, vectors=vectors)
            for found in page.points:
                yield found
            after = page.after
            if after is None:
                return

    def lock(self, image: str) -> asyncio.Lock:
        """The lock of an image; kept for as long as someone holds or awaits it."""
        return self.locks.setdefault(image, asyncio.Lock())


def belonging(tenant: str, image: str) -> Where:
    """The entries of an image."""
    return (Equals("tenant", tenant), Equals("image", image))


def sharing(tenant: str, hashed: bytes, distance: int) -> Where:
    """Images that share as many bands with a hash as `distance` differing bits must leave equal."""
    keys = bands(hashed)
    return (
        Equals("tenant", tenant),
        AnyOf("bands", tuple(keys)),
        AtLeast(BANDS - distance, tuple(Equals("bands", key) for key in keys)),
    )


def chosen(selection: Selection) -> Where:
    """The entries that a selection names."""
    where: Where = (Equals("tenant", selection.tenant),)
    if selection.entries:
        where = (*where, Among(selection.entries))
    if selection.images:
        where = (*where, AnyOf("image", selection.images))
    for key, value in (
        ("model", selection.model),
        ("model_revision", selection.model_revision),
        ("tags", selection.tag),
    ):
        if value:
            where = (*where, Equals(key, value))
    if selection.created_before is not None:
        where = (*where, Below("create_time", selection.created_before))
    if selection.expired_before is not None:
        where = (*where, Below("expire_time", selection.expired_before))
    return where


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    """The items in runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def add(one: Deleted, other: Deleted) -> Deleted:
    """The sum of two deletions."""
    return Deleted(one.entries + other.entries, one.images + other.images, one.aliases + other.aliases)


def whole(found: Iterable[Found]) -> list[Entry]:
    """The entries that points hold; one that is not what was written is left out, as if it were not there."""
    entries = []
    for one in found:
        try:
            entries.append(entry_of(one.id, one.payload))
        except RecordDamagedError:
            DAMAGED.inc()
            log.error("record_damaged", entry=one.id)
    return entries
