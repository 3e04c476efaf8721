"""Forget: removes an entry, an image with its entries, or the belief that a file is a copy of an image."""

from __future__ import annotations

from dedup_service.store.exact_cache import Hot
from dedup_service.store.records import Deleted, Memory, Selection, files_of
from dedup_service.usecases.image_resolver import Pictures
from dedup_service.usecases.known_mismatches import Strangers


class Forget:
    """The use case. What is not there is forgotten already."""

    def __init__(self, memory: Memory, hot: Hot, strangers: Strangers, pictures: Pictures | None = None) -> None:
        self.memory = memory
        self.hot = hot
        self.strangers = strangers
        self.pictures = pictures

    async def entry(self, tenant: str, entry: str) -> Deleted:
        """Forgets one entry."""
        deleted = await self.memory.delete(Selection(tenant, entries=(entry,)))
        await self.hot.drop(tenant, frozenset([entry]))
        return deleted

    async def image(self, tenant: str, digest: str) -> Deleted:
        """Forgets the image that the file with this digest (hexadecimal) shows, with all its entries."""
        record = await self.memory.image_by_digest(tenant, digest)
        if record is None:
            return Deleted()
        entries = await self.memory.entries_of(tenant, record.id)
        deleted = await self.memory.delete(Selection(tenant, images=(record.id,)))
        if self.pictures is not None:
            self.pictures.forget(tenant, files_of(record))
        await self.hot.drop(tenant, frozenset(entry.id for entry in entries))
        return deleted

    async def alias(self, tenant: str, digest: str) -> Deleted:
        """Parts a file from the image that it was taken for."""
        record = await self.memory.image_by_digest(tenant, digest)
        if record is None:
            return Deleted()
        self.strangers.add(tenant, digest, record.id)
        return Deleted(aliases=await self.memory.remove_digest(tenant, digest))
