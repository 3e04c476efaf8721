"""Images on their way at other replicas: seen by a look-up there, not yet remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dedup_service.store.records import Vector


@dataclass(frozen=True, slots=True)
class PendingImage:
    """What the others need to know of an image to tell whether it is worth a comparison."""

    digest: str
    """Of the file, hexadecimal."""
    pixel_digest: str
    perceptual_hash: bytes
    vector: Vector
    """Shape (D,): its global descriptor."""
    time: float


@dataclass(frozen=True, slots=True)
class Identified:
    """What the look-up that saw an image made of it."""

    image: str
    """Id of the image record that it founds or belongs to."""
    fingerprint: bytes
    """As it is stored; empty where the record is there already."""


class PendingImages(Protocol):
    """Where replicas tell each other of images on their way. It saves work and decides nothing: where it can't be had,
    two copies that arrive at two replicas at one moment found two records, each of which is found later."""

    async def announce(self, tenant: str, image: PendingImage) -> list[PendingImage]:
        """Tells of an image. Returns those that were told of before: of two that arrive at one moment, exactly one is
        told of the other."""
        ...

    async def identify(self, tenant: str, digest: str, identified: Identified) -> None:
        """Tells what was made of an image that was announced."""
        ...

    async def identified(self, tenant: str, digest: str) -> Identified | None:
        """What was made of an image, as soon as it is known; None when that takes too long: its replica died."""
        ...

    async def discard(self, tenant: str, digest: str) -> None:
        """The image is remembered, or will not be: it is no longer on its way."""
        ...


class NoPendingImages:
    """A replica without others, or without a place to tell them."""

    async def announce(self, tenant: str, image: PendingImage) -> list[PendingImage]:
        return []

    async def identify(self, tenant: str, digest: str, identified: Identified) -> None:
        """Nobody asks."""

    async def identified(self, tenant: str, digest: str) -> Identified | None:
        return None

    async def discard(self, tenant: str, digest: str) -> None:
        """Nothing was announced."""
