"""What is computed from an image's pixels, once per look-up and off the event loop."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_service.image.encoder import ImageEncoder
from dedup_service.image.fingerprint import Fingerprint, take_fingerprint
from dedup_service.image.perceptual import turned_hashes
from dedup_service.image.picture import Picture
from dedup_service.store.records import Vector


@dataclass(frozen=True, slots=True)
class Features:
    """One image as the search and the look-alike check need it."""

    byte_digest: str
    pixel_digest: str
    width: int
    height: int
    hashes: tuple[bytes, ...]
    """Perceptual hashes of the image and of its three quarter turns."""
    vectors: Vector
    """Shape (4, D): descriptors of the image and of its three quarter turns."""
    fingerprint: Fingerprint


def extract(picture: Picture, encoder: ImageEncoder) -> Features:
    """Computes all features of a picture. CPU-heavy: call it in a worker thread."""
    return Features(
        byte_digest=picture.byte_digest.hex(),
        pixel_digest=picture.pixel_digest.hex(),
        width=picture.width,
        height=picture.height,
        hashes=turned_hashes(picture),
        vectors=encoder.encode_turns(picture),
        fingerprint=take_fingerprint(picture),
    )
