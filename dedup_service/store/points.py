"""What memory needs of a vector database: points in shelves, found by id, by condition and by vector.

Both kinds of Qdrant offer it; everything that memory *means* is written once above it, in `point_memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from dedup_service.store.records import Vector, collection_name

FINGERPRINTS = "fingerprints"
"""What names of collections of fingerprints begin with; the others begin with their kind."""


DESCRIPTOR_IDENTITY = "orb-vlad-8x256-v1 ink-10-256-v1"
"""Names how local features and residuals become vectors."""
DESCRIPTOR_DIMENSION = 256


class Kind(StrEnum):
    """What a collection holds."""

    IMAGES = "images"
    ENTRIES = "entries"
    DESCRIPTORS = "descriptors"
    """How each image is told from others of its form, or by its local features where it is of none."""
    FORMS = "forms"


@dataclass(frozen=True, slots=True)
class Layout:
    """The collections: an encoder's identity names them, its dimension is their vectors' length."""

    image_identity: str
    image_dimension: int
    question_identity: str
    question_dimension: int

    def name(self, kind: Kind) -> str:
        """The name of the collection of a kind. Entries carry both identities: they belong to image records."""
        images = collection_name(kind, self.image_identity)
        if kind is Kind.IMAGES:
            return images
        return collection_name(images, self.question_identity if kind is Kind.ENTRIES else DESCRIPTOR_IDENTITY)

    @property
    def fingerprints(self) -> str:
        """The name of the collection of fingerprints, which go with the image records."""
        return collection_name(FINGERPRINTS, self.image_identity)

    def foreign(self, name: str) -> bool:
        """Whether a collection is one of ours by its name, but of other encoders than these."""
        ours = name.split("-")[0] in (*Kind, FINGERPRINTS)
        return ours and name not in (*(self.name(kind) for kind in Kind), self.fingerprints)

    def dimension(self, kind: Kind) -> int:
        """The length of the vectors of a kind."""
        if kind is Kind.IMAGES:
            return self.image_dimension
        return self.question_dimension if kind is Kind.ENTRIES else DESCRIPTOR_DIMENSION


@dataclass(frozen=True, slots=True)
class Equals:
    """The field has this value, or holds it if it is a list."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field has, or holds, one of these values."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Below:
    """The number in the field is less than this."""

    key: str
    value: float


@dataclass(frozen=True, slots=True)
class Above:
    """The number in the field is greater than this."""

    key: str
    value: float


@dataclass(frozen=True, slots=True)
class Among:
    """The point's id is one of these."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least `count` of these conditions hold."""

    count: int
    conditions: tuple[Equals, ...]


Condition: TypeAlias = Equals | AnyOf | Below | Above | Among | AtLeast
Where: TypeAlias = tuple[Condition, ...]
"""Conditions that must all hold."""

KEYWORDS: dict[Kind, tuple[str, ...]] = {
    Kind.IMAGES: ("tenant", "digests", "bands"),
    Kind.ENTRIES: ("tenant", "image", "space", "model", "model_revision", "tags"),
    Kind.DESCRIPTORS: ("tenant", "space", "form"),
    Kind.FORMS: ("tenant",),
}
"""Indexed text fields of each kind; the tenant comes first."""

NUMBERS: dict[Kind, tuple[str, ...]] = {
    Kind.IMAGES: ("create_time",),
    Kind.ENTRIES: ("expire_time", "create_time"),
    Kind.DESCRIPTORS: (),
    Kind.FORMS: (),
}
"""Indexed numeric fields of each kind."""

GRAPHED: dict[Kind, str] = {Kind.IMAGES: "tenant", Kind.DESCRIPTORS: "space"}
"""The field by whose values the vectors of a kind are parted when they are searched: every value has an HNSW graph of
its own. The vectors of the other kinds are never searched but among a few, which the payload index finds."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is stored: an id (UUID text), a vector, shape (D,), and a payload that JSON can hold."""

    id: str
    vector: Vector
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What is found. `score` is a cosine where a vector was looked for; `vector` is set where it was asked for."""

    id: str
    payload: dict[str, Any]
    score: float = 0.0
    vector: Vector | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A run of points in the order of their ids, and where the next one starts; None at the end."""

    points: tuple[Found, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class Leftover:
    """A collection of other encoders than those in use."""

    name: str
    points: int = 0
    live: int = 0
    """Entries among them whose time is not over."""
    aliases: int = 0
    """Digests of further copies in its image records."""

    @property
    def kind(self) -> str:
        """What it holds: "images", "entries" or "fingerprints"."""
        return self.name.split("-")[0]

    @property
    def image_encoder(self) -> str:
        """The digest of the image encoder that it belongs to."""
        return self.name.split("-")[1]


class Points(Protocol):
    """Every method may raise MemoryUnavailableError; none blocks the event loop. Writes are durable on return."""

    kind: str

    async def start(self) -> None:
        """Opens or creates the collections."""
        ...

    async def close(self) -> None:
        """Flushes and closes. Safe to call twice."""
        ...

    async def retrieve(self, kind: Kind, ids: Sequence[str], vectors: bool = False) -> list[Found]:
        """The points of these ids that exist, in no particular order."""
        ...

    async def nearest(self, kind: Kind, vectors: Vector, where: Where, limit: int) -> list[Found]:
        """The nearest points to any of the vectors, shape (K, D), best first, each once with its best score."""
        ...

    async def page(
        self,
        kind: Kind,
        where: Where,
        limit: int,
        *,
        after: str | None = None,
        fields: tuple[str, ...] | None = None,
        vectors: bool = False,
    ) -> Page:
        """At most `limit` points to which the conditions apply, from the id `after` on, with these payload fields."""
        ...

    async def lowest(self, kind: Kind, key: str, below: float, limit: int, fields: tuple[str, ...]) -> list[Found]:
        """At most `limit` points whose indexed number is less than `below`, the smallest first, with these fields."""
        ...

    async def count(self, kind: Kind, where: Where = ()) -> int:
        """The number of points to which the conditions apply, exactly."""
        ...

    async def put(self, kind: Kind, points: Sequence[Point]) -> None:
        """Stores points; one of the same id is replaced."""
        ...

    async def change(self, kind: Kind, changes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Sets payload fields, point by point. The points exist."""
        ...

    async def remove(self, kind: Kind, ids: Sequence[str]) -> None:
        """Removes points; ids that don't exist are passed over."""
        ...

    async def rewrite(self, within: float) -> None:
        """Has what was removed leave the files of the database. It begins `within` seconds and is not waited for."""
        ...

    async def put_fingerprint(self, image: str, content: bytes, time: float) -> None:
        """Stores an image's fingerprint and when that was; one of the same id is replaced."""
        ...

    async def fingerprint(self, image: str) -> bytes | None:
        """An image's fingerprint."""
        ...

    async def remove_fingerprints(self, images: Sequence[str]) -> None:
        """Removes fingerprints; ids that don't exist are passed over."""
        ...

    async def fingerprint_ids(
        self, before: float, limit: int, after: str | None = None
    ) -> tuple[list[str], str | None]:
        """Images whose fingerprint was stored before a time, from the id `after` on, and where the next run starts."""
        ...

    async def leftovers(self, now: float) -> list[Leftover]:
        """The collections of other encoders; entries that expire after `now` count as live. It may take minutes."""
        ...

    async def drop(self, names: Sequence[str]) -> None:
        """Removes collections of other encoders."""
        ...

    async def disk_bytes(self) -> int:
        """What the collections take on disk; 0 where it can't be known."""
        ...

    async def problems(self) -> list[str]:
        """What an operator should know about the database itself."""
        ...
