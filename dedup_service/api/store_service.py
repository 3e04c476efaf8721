"""The StoreService over gRPC: purges, exports and imports what is remembered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc

from askonce import telemetry
from askonce.faults import InvalidInput, Precondition, Unreachable
from askonce.names import tenant_id
from askonce.v1 import store_pb2, store_pb2_grpc
from dedup_service.api import store_messages
from dedup_service.ledger.purge import Purged
from dedup_service.store.exact_cache import ExactCache
from dedup_service.store.records import Deleted, Memory, MemoryUnavailableError, Selection, files_of
from dedup_service.usecases.forget import Texts, images_showing, purged_of
from dedup_service.usecases.image_resolver import Pictures

CONTEXT = grpc.aio.ServicerContext[Any, Any]
KEEP = 10_000
"""Answers kept per image while importing: the most that any policy allows; the policy's own number applies from the
next answer on."""


class StoreService(store_pb2_grpc.StoreServiceServicer):
    """Removes, copies out and brings in."""

    def __init__(
        self,
        memory: Memory,
        exact_cache: ExactCache,
        *,
        image_encoder: str,
        question_encoder: str,
        pictures: Pictures | None = None,
        texts: Texts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = memory
        self.exact_cache = exact_cache
        self.image_encoder = image_encoder
        self.question_encoder = question_encoder
        self.pictures = pictures
        self.texts = texts
        self.clock = clock

    async def Purge(self, request: store_pb2.PurgeRequest, context: CONTEXT) -> store_pb2.PurgeResponse:
        """See the proto."""
        tenant = tenant_id(request.parent)
        selection = store_messages.from_purge(request, tenant, self.clock())
        try:
            deleted = await self.purge(tenant, selection, request)
        except MemoryUnavailableError as error:
            raise unreachable() from error
        telemetry.note(tenant=tenant, entries=deleted.entries, dry_run=request.dry_run)
        return store_pb2.PurgeResponse(
            entry_count=deleted.entries, image_count=deleted.images, alias_count=deleted.aliases
        )

    async def purge(self, tenant: str, selection: Selection | None, request: store_pb2.PurgeRequest) -> Deleted:
        """Removes what a checked request names."""
        if selection is None:
            return await self.memory.delete_stale(request.dry_run)
        files: list[str] | None = None
        digests: set[str] = set()
        if request.image_digest:
            records = await images_showing(self.memory, tenant, request.image_digest.hex())
            selection = replace(selection, images=tuple(record.id for record in records))
            files = [file for record in records for file in files_of(record)]
            digests = {request.image_digest.hex()}.union(*(record.digests for record in records))
        unknown = bool(digests) and not files
        if request.dry_run:
            return Deleted() if unknown else await self.memory.delete(selection, dry_run=True)
        purged = await self.purged(selection, request, digests)
        deleted = Deleted() if unknown else await self.memory.delete(selection)
        await self.exact_cache.drop(tenant)
        self.forget_pictures(selection, files)
        await self.memory.rewrite()
        if self.texts is not None:
            await self.texts.scrub(purged)
        return deleted

    async def purged(self, selection: Selection, request: store_pb2.PurgeRequest, digests: set[str]) -> Purged:
        """What a purge is about to take, for those who keep texts elsewhere. Files that no record shows may have been
        asked about all the same."""
        if request.all:
            return Purged(selection.tenant, whole=True)
        unknown = bool(digests) and not selection.images
        chosen = [] if unknown else [one async for one in self.memory.selected(selection)]
        narrow = bool(selection.model or selection.tag or digests)
        before = None if narrow else selection.created_before
        return purged_of(selection.tenant, chosen, images=selection.images, digests=digests, before=before)

    def forget_pictures(self, selection: Selection, files: list[str] | None) -> None:
        """Deletes the thumbnails that a purge means: of an image, of a tenant, of a time. A model or a tag is nothing
        that a thumbnail has."""
        if self.pictures is not None and not (selection.model or selection.tag):
            self.pictures.forget(selection.tenant, files, before=selection.created_before)

    async def ExportEntries(
        self, request: store_pb2.ExportEntriesRequest, context: CONTEXT
    ) -> AsyncIterator[store_pb2.ExportEntriesResponse]:
        """See the proto."""
        tenant = tenant_id(request.parent)
        header = store_messages.to_header(self.image_encoder, self.question_encoder, self.clock())
        yield store_pb2.ExportEntriesResponse(header=header)
        try:
            async for exported in self.memory.export(tenant):
                yield store_pb2.ExportEntriesResponse(image=store_messages.to_image(exported))
        except MemoryUnavailableError as error:
            raise unreachable() from error

    async def ImportEntries(
        self, request_iterator: AsyncIterator[store_pb2.ImportEntriesRequest], context: CONTEXT
    ) -> store_pb2.ImportEntriesResponse:
        """See the proto."""
        tenant = ""
        totals = store_pb2.ImportEntriesResponse()
        async for request in request_iterator:
            if not tenant:
                tenant = tenant_id(request.parent)
                self.check_header(request)
            elif request.WhichOneof("piece") != "image":
                raise InvalidInput("PIECE_UNEXPECTED", "After the header, every message holds an image.", field="piece")
            else:
                try:
                    await self.take(tenant, request.image, totals)
                except MemoryUnavailableError as error:
                    raise unreachable() from error
        if not tenant:
            raise InvalidInput("HEADER_MISSING", "An import begins with the tenant and the header.", field="header")
        telemetry.note(tenant=tenant, entries=totals.entry_count)
        return totals

    def check_header(self, request: store_pb2.ImportEntriesRequest) -> None:
        """Refuses an import without header, of another form, or with vectors that don't belong here."""
        if request.WhichOneof("piece") != "header":
            raise InvalidInput("HEADER_MISSING", "An import begins with the tenant and the header.", field="header")
        header = request.header
        if header.format_version != store_messages.FORMAT:
            raise InvalidInput(
                "FORMAT_UNKNOWN",
                f"header.format_version: this version reads {store_messages.FORMAT}.",
                field="header.format_version",
            )
        ours = {"image_encoder": self.image_encoder, "question_encoder": self.question_encoder}
        theirs = {"image_encoder": header.image_encoder, "question_encoder": header.question_encoder}
        for name, identity in ours.items():
            if theirs[name] != identity:
                raise Precondition(
                    "ENCODER_CHANGED",
                    f"The export's {name} is {theirs[name]}, this service's is {identity}: their vectors never meet.",
                    field=f"header.{name}",
                    metadata={"ours": identity, "theirs": theirs[name]},
                )

    async def take(
        self, tenant: str, message: store_pb2.ExportedImage, totals: store_pb2.ImportEntriesResponse
    ) -> None:
        """Stores one image with its entries, leaving alone what is there and leaving out what is over."""
        image, vector = store_messages.from_image(message, tenant)
        known = await self.memory.image_by_digest(tenant, image.digests[0])
        entries = [
            store_messages.from_entry(entry, tenant, known.id if known else image.id) for entry in message.entries
        ]
        live = [(entry, entry_vector) for entry, entry_vector in entries if entry.expire_time > self.clock()]
        totals.skipped_count += len(entries) - len(live)
        if live and known is None:
            await self.memory.put_image(image, vector, message.fingerprint)
            totals.image_count += 1
        for entry, entry_vector in live:
            if await self.memory.entry(tenant, entry.id) is not None:
                totals.skipped_count += 1
                continue
            await self.memory.put_entry(entry, entry_vector, KEEP)
            totals.entry_count += 1


def unreachable() -> Unreachable:
    """The fault of a store that does not answer."""
    return Unreachable("MEMORY_UNAVAILABLE", "The store does not answer.", retry_after=1.0)
