"""Forget: removes an entry, an image with its entries, or the belief that a file is a copy of an image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from dedup_service.image.sequence import mark_of
from dedup_service.ledger.purge import Purged
from dedup_service.ledger.records import digest as text_digest
from dedup_service.store.exact_cache import ExactCache
from dedup_service.store.records import Deleted, Entry, ImageRecord, Memory, Named, Selection, files_of, image_id
from dedup_service.usecases.image_resolver import Pictures
from dedup_service.usecases.known_mismatches import KnownMismatches
from dedup_service.usecases.part_file import part_file

REWRITE_SECONDS = 60.0
"""How soon the store's files begin to be made anew: what is forgotten in that time goes in one go."""


class Texts(Protocol):
    """Keeps texts beside the store: the ledger, pairs of questions, reports."""

    async def scrub(self, purged: Purged) -> None:
        """Takes out whatever of it is readable, at every replica. Durable on return."""
        ...

    async def scrub_answers(self, purged: Purged) -> None:
        """Takes out the answers that `purged` names, and leaves alone what was reported of them."""
        ...


class Forget:
    """The use case. What is not there is forgotten already."""

    def __init__(
        self,
        memory: Memory,
        exact_cache: ExactCache,
        mismatches: KnownMismatches,
        pictures: Pictures | None = None,
        texts: Texts | None = None,
    ) -> None:
        self.memory = memory
        self.exact_cache = exact_cache
        self.mismatches = mismatches
        self.pictures = pictures
        self.texts = texts

    async def entry(self, tenant: str, entry: str) -> Deleted:
        """Forgets one entry."""
        found = await self.memory.entry(tenant, entry)
        deleted = await self.memory.delete(Selection(tenant, entries=(entry,)))
        await self.exact_cache.drop(tenant, frozenset([entry]))
        await self.scrub(purged_of(tenant, [found] if found is not None else [], [entry]))
        return deleted

    async def image(self, tenant: str, digest: str) -> Deleted:
        """Forgets the image that the file with this digest (hexadecimal) shows, and every sequence that holds the file,
        with all their entries."""
        records = await images_showing(self.memory, tenant, digest)
        digests = {digest}.union(*(record.digests for record in records))
        if not records:
            await self.scrub(purged_of(tenant, [], digests=digests))
            return Deleted()
        entries = [entry for record in records for entry in await self.memory.entries_of(tenant, record.id)]
        deleted = await self.memory.delete(Selection(tenant, images=tuple(record.id for record in records)))
        if self.pictures is not None:
            self.pictures.forget(tenant, [file for record in records for file in files_of(record)])
        await self.exact_cache.drop(tenant, frozenset(entry.id for entry in entries))
        await self.scrub(purged_of(tenant, entries, images=[record.id for record in records], digests=digests))
        return deleted

    async def alias(self, tenant: str, digest: str) -> Deleted:
        """Parts a file from the image that it was taken for, with the answers about it. Nothing happens to the file
        that the image was made from."""
        record = await self.memory.image_by_digest(tenant, digest)
        if record is None:
            return Deleted()
        if digest in record.digests[:1]:
            return Deleted()
        return await part_file(self.memory, self.exact_cache, self.mismatches, tenant, digest, record.id)

    async def scrub(self, purged: Purged) -> None:
        """Has the texts of what was forgotten leave everything that keeps some."""
        await self.memory.rewrite(REWRITE_SECONDS)
        if self.texts is not None:
            await self.texts.scrub(purged)


def purged_of(
    tenant: str,
    entries: Sequence[Entry] | Sequence[Named],
    ids: Sequence[str] = (),
    *,
    images: Sequence[str] = (),
    digests: Collection[str] = (),
    before: float | None = None,
) -> Purged:
    """What goes with these entries, image records and files. Files that no record shows may have been asked about all
    the same."""
    founded = {image_id(tenant, bytes.fromhex(digest)) for digest in digests}
    return Purged(
        tenant,
        entries=tuple({entry.id for entry in entries}.union(ids)),
        decisions=tuple({entry.decision for entry in entries} - {""}),
        asked=tuple({(entry.file, text_digest(entry.question)) for entry in entries if entry.file}),
        normals=tuple({entry.normal for entry in entries}),
        images=tuple(founded.union(images)),
        digests=tuple(digests),
        before=before,
    )


async def images_showing(memory: Memory, tenant: str, digest: str) -> list[ImageRecord]:
    """The image that a file (digest in hexadecimal) shows, and every sequence of images that holds the file."""
    record = await memory.image_by_digest(tenant, digest)
    sequences = await memory.images_by_digest(tenant, mark_of(bytes.fromhex(digest)))
    return ([record] if record is not None else []) + sequences
