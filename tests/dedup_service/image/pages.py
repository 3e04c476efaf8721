"""Images drawn for the tests: a page of figures, a photo-like scene, and what happens to copies."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dedup_service.image.fingerprint import Fingerprint, take_fingerprint
from dedup_service.image.picture import Picture, open_picture

Rgb = NDArray[np.uint8]


def page(*, changed: bool = False, ink: int = 30, lines: int = 14, seed: int = 3) -> Rgb:
    """A 640 x 520 page of numbers; `changed` alters one digit, from a 3 to an 8, in the sixth line."""
    rng = np.random.default_rng(seed)
    paper = np.full((520, 640, 3), 250, np.uint8)
    for line in range(lines):
        text = (
            f"Item {rng.integers(10, 99)}  qty {rng.integers(1, 9)}   {rng.integers(100, 999)}.{rng.integers(10, 99)}"
        )
        if line == 5:
            text = f"Total due  1{'8' if changed else '3'}8.90"
        at = (40, 40 + 34 * line)
        cv2.putText(paper, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.62, (ink, ink, ink), 1, cv2.LINE_AA)
    return paper


def scene(seed: int = 5) -> Rgb:
    """A 480 x 360 picture of blobs and texture, with no text."""
    rng = np.random.default_rng(seed)
    base = cv2.resize(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8), (480, 360), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 40, (360, 480)).astype(np.float32), (0, 0), 1.5)
    return np.clip(base * 0.7 + 40 + fine[:, :, None] * 2.0, 0, 255).astype(np.uint8)


def saved(rgb: Rgb, form: str = "PNG", **options: object) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, form, **options)
    return out.getvalue()


def opened(rgb: Rgb, form: str = "PNG", **options: object) -> Picture:
    """Saved and opened again."""
    return open_picture(saved(rgb, form, **options))


def query(rgb: Rgb, form: str = "PNG", **options: object) -> Fingerprint:
    """The fingerprint of a query image."""
    return take_fingerprint(opened(rgb, form, **options))


def stored(rgb: Rgb) -> Fingerprint:
    """The fingerprint as it comes back from the store."""
    return Fingerprint.from_bytes(query(rgb).to_bytes())
