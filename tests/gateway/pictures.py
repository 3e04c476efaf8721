"""Encoded pictures for tests, drawn on the spot."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageDraw


def draw(width: int = 64, height: int = 48, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture with something on it; another seed gives another picture."""
    image = Image.new("RGB", (width, height), (250, 245, 240))
    pen = ImageDraw.Draw(image)
    for number in range(6):
        left = (number * 37 + seed * 13) % max(1, width)
        pen.rectangle(
            (left, number * height // 7, left + width // 5, height - 1), fill=(40 * number, 90, 200 - seed % 200)
        )
    return image.convert(mode) if mode != "I;16" else Image.new("I;16", (width, height), 30_000)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int = 0, kind: str = "PNG", width: int = 64, height: int = 48) -> bytes:
    """A small picture as a file."""
    return encode(draw(width, height, seed=seed), kind)
