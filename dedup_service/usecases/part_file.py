"""Parting a file from an image that it was taken for, with what was answered about it."""

from __future__ import annotations

from dedup_service.store.exact_cache import ExactCache
from dedup_service.store.records import Deleted, Memory, Selection
from dedup_service.usecases.known_mismatches import KnownMismatches


async def part_file(
    memory: Memory, exact_cache: ExactCache, mismatches: KnownMismatches, tenant: str, file: str, image: str
) -> Deleted:
    """Never takes this file (its digest in hexadecimal) for that image record again, and removes the entries of the
    record that the model made from the file: they are about something else. Raises MemoryUnavailableError."""
    mismatches.add(tenant, file, image)
    aliases = await memory.remove_digest(tenant, file)
    made = tuple(entry.id for entry in await memory.entries_of(tenant, image) if entry.file == file)
    if not made:
        return Deleted(aliases=aliases)
    deleted = await memory.delete(Selection(tenant, entries=made))
    await exact_cache.drop(tenant, frozenset(made))
    return Deleted(entries=deleted.entries, aliases=aliases)
