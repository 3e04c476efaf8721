"""The port to what is remembered: image records, the entries (answers) that belong to them, and their vectors.

An implementation keeps two collections whose names carry the identities of the encoders, so that vectors of two models
never meet. The tenant is a condition inside every query. Times are seconds since the epoch.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
T = TypeVar("T")

BANDS = 8
"""Bands of 32 bits of a 256-bit perceptual hash: hashes up to 7 bits apart share at least one (pigeonhole)."""

NAMESPACE = uuid.UUID("0c0a7e3e-5a1e-5b1e-9f7a-a5c0ce000001")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One remembered image with the files that are known to show it."""

    id: str
    """A UUID, see `image_id`."""
    tenant: str
    digests: tuple[str, ...]
    """Hexadecimal SHA-256 digests of files, and of their pixels, that are this image; the original file's is first."""
    perceptual_hash: bytes
    """256 bits, 32 bytes."""
    width: int
    height: int
    create_time: float
    fingerprint_bytes: int = 0
    """Size of the stored fingerprint."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One remembered answer to one question about one image."""

    id: str
    """A UUID, see `entry_id`: the same image, space and question give the same id."""
    tenant: str
    image: str
    """The id of the image record."""
    space: str
    """Digest of everything besides image and question that the answer depends on, conversation history included."""
    question: str
    """The question as it was asked."""
    normal: str
    """The question's normal form."""
    language: str
    """Language of the question: zh, en or other."""
    answer: bytes
    """The serialised answer message."""
    answer_text: str
    model: str
    model_revision: str
    create_time: float
    hot_until: float
    expire_time: float
    last_use: float
    hits: int = 0
    policy_revision: str = ""
    generate_seconds: float = 0.0
    """What the model took: the measure of what a hit saves."""
    tags: tuple[str, ...] = ()
    decision: str = ""
    """Id of the recorded decision that stored it."""
    file: str = ""
    """The digest, hexadecimal, of the file that the model was shown; empty where that was not written down."""


@dataclass(frozen=True, slots=True)
class Scored(Generic[T]):
    """A record with its cosine similarity to what was looked for, -1 to 1."""

    record: T
    similarity: float


@dataclass(frozen=True, slots=True)
class Touch:
    """News of one use of an entry."""

    tenant: str
    entry: str
    time: float
    hits: int
    hot_until: float
    expire_time: float


@dataclass(frozen=True, slots=True)
class Selection:
    """What to delete: the entries to which every given condition applies. Without any condition but the tenant: all."""

    tenant: str
    entries: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    """Ids of image records, which go with their entries."""
    model: str = ""
    model_revision: str = ""
    tag: str = ""
    created_before: float | None = None
    expired_before: float | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion removed, or would remove in a dry run."""

    entries: int = 0
    images: int = 0
    aliases: int = 0


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is held, over all tenants."""

    images: int
    entries: int
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Unused:
    """Entries of a tenant that were never served."""

    entries: int
    """All entries that the tenant has."""
    never: int
    oldest: tuple[Entry, ...]
    """Some of them, the oldest first."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One image with its entries and everything needed to store it again elsewhere."""

    image: ImageRecord
    image_vector: Vector
    fingerprint: bytes
    entries: tuple[Entry, ...]
    entry_vectors: Vector = field(repr=False)
    """Shape (entries, D)."""


class MemoryUnavailableError(Exception):
    """The store does not answer, or not in time."""


class MemoryReadOnlyError(MemoryUnavailableError):
    """Nothing can be stored or changed at the moment; what is there can be read. The message says why."""


class MemoryDamagedError(MemoryUnavailableError):
    """The store found its data damaged and won't start with it. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Named:
    """What an entry is known by elsewhere."""

    id: str
    normal: str
    question: str
    decision: str
    file: str


class Memory(Protocol):
    """Keeps and finds. Every method may raise MemoryUnavailableError; none blocks the event loop."""

    kind: str
    """"qdrant-edge" or "qdrant"."""

    async def start(self) -> None:
        """Opens or creates the collections."""
        ...

    async def close(self) -> None:
        """Flushes and closes. Safe to call twice."""
        ...

    async def images_by_digest(self, tenant: str, digest: str) -> list[ImageRecord]:
        """Every image that claims a digest."""
        ...

    async def image_by_digest(self, tenant: str, digest: str) -> ImageRecord | None:
        """The image that a file's or its pixels' digest is known to show."""
        ...

    async def image(self, tenant: str, image: str) -> ImageRecord | None:
        """The image of this id."""
        ...

    async def images_by_hash(
        self, tenant: str, hashes: Sequence[bytes], distance: int, limit: int
    ) -> list[ImageRecord]:
        """Images at most `distance` bits (0 to 7) from any of the hashes, nearest first."""
        ...

    async def images_near(self, tenant: str, vectors: Vector, limit: int) -> list[Scored[ImageRecord]]:
        """The nearest images to any of the vectors, shape (K, D), nearest first, each once."""
        ...

    async def fingerprint(self, tenant: str, image: str) -> bytes | None:
        """The stored fingerprint of an image."""
        ...

    async def put_image(self, image: ImageRecord, vector: Vector, fingerprint: bytes) -> None:
        """Stores an image; durable on return. An existing record of this id is replaced."""
        ...

    async def add_digests(self, tenant: str, image: str, digests: Sequence[str]) -> bool:
        """Adds digests of a further copy to an image. False when there is no such image."""
        ...

    async def remove_digest(self, tenant: str, digest: str) -> int:
        """Removes one digest from its image, unless it is the original's. Returns how many were removed, 0 or 1."""
        ...

    async def entry(self, tenant: str, entry: str) -> Entry | None:
        """The entry of this id."""
        ...

    async def entries_near(
        self, tenant: str, image: str, space: str, vector: Vector, limit: int
    ) -> list[Scored[Entry]]:
        """The entries of this image and space whose questions are nearest to the vector, shape (D,), nearest first."""
        ...

    async def entries_of(self, tenant: str, image: str, space: str | None = None) -> list[Entry]:
        """All entries of an image, of one space if given; the order is not defined."""
        ...

    async def put_entry(
        self, entry: Entry, vector: Vector, keep: int, intent: Callable[[str], str] | None = None
    ) -> list[str]:
        """Stores an entry; durable on return. Returns the entries of this image evicted to keep at most `keep`: those
        least recently used; the new one stays."""
        ...

    async def touch(self, touches: Sequence[Touch]) -> None:
        """Records uses, in one go. Entries that are gone are passed over."""
        ...

    async def delete(self, selection: Selection, dry_run: bool = False) -> Deleted:
        """Deletes entries, and image records left without any, with their vectors, fingerprints and digests."""
        ...

    def selected(self, selection: Selection) -> AsyncIterator[Named]:
        """Yields what every entry that a selection names is known by."""
        ...

    async def sweep(self, now: float, limit: int) -> Deleted:
        """Deletes at most `limit` entries that expired before `now`, and image records left without entries."""
        ...

    async def delete_stale(self, dry_run: bool = False, *, expired_before: float | None = None) -> Deleted:
        """Deletes, or counts, what encoders other than those in use left behind, over all tenants; with a time only
        where every entry expired before it. It may take minutes."""
        ...

    def export(self, tenant: str) -> AsyncIterator[Exported]:
        """Yields everything of a tenant, image by image."""
        ...

    async def unused(self, tenant: str, most: int) -> Unused:
        """Counts a tenant's entries and those that were never served; names at most `most` of these."""
        ...

    async def holdings(self) -> Holdings:
        """Counts what is held."""
        ...

    async def rewrite(self, within: float = 0.0) -> None:
        """Has what was deleted leave the database's files, logs included. It begins `within` seconds and takes its time
        in the background; what is deleted later leaves them within the hour."""
        ...

    async def problems(self) -> list[str]:
        """What an operator should know: trouble with the disk, what was set aside. Empty when all is well."""
        ...


def image_id(tenant: str, byte_digest: bytes) -> str:
    """The id of the image record that a file founds."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant}/{byte_digest.hex()}"))


def files_of(image: ImageRecord) -> list[str]:
    """The ids that each file known to show an image would have founded a record under."""
    return [image_id(image.tenant, bytes.fromhex(digest)) for digest in image.digests]


def entry_id(tenant: str, image: str, space: str, normal: str) -> str:
    """The id of the entry for a normalised question: an exact look-up needs no search."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant}/{image}/{space}/{normal}"))


def bands(perceptual_hash: bytes) -> list[str]:
    """The hash cut into `BANDS` numbered pieces, the keys under which it can be found."""
    width = len(perceptual_hash) // BANDS
    return [f"{i}:{perceptual_hash[i * width : (i + 1) * width].hex()}" for i in range(BANDS)]


def collection_name(prefix: str, identity: str) -> str:
    """A collection's name: what it holds and, as a digest, which encoder's vectors."""
    return f"{prefix}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
