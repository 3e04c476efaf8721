"""Small pages drawn for the tests: a receipt whose amount and shop can be chosen."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont


@lru_cache
def receipt(total: str = "138.90", shop: str = "KEDAI BUKU", width: int = 640) -> bytes:
    """A receipt as PNG, about 640 by 820 pixels."""
    page = Image.new("RGB", (640, 820), "white")
    draw = ImageDraw.Draw(page)
    large, small = ImageFont.load_default(34), ImageFont.load_default(24)
    draw.text((170, 30), shop, "black", large)
    lines = ["NO 12, JALAN SATU, 50000 KUALA LUMPUR", "TEL 03-2141 8800", "INVOICE 004512   DATE 12/03/2024", "-" * 42]
    items = [("PENCIL HB x 3", "9.60"), ("NOTEBOOK A5", "24.50"), ("PAPER A4 500", "18.90"), ("STAPLER", "31.20")]
    height = 110
    for line in lines:
        draw.text((40, height), line, "black", small)
        height += 46
    for name, price in items:
        draw.text((40, height), name, "black", small)
        draw.text((500, height), price, "black", small)
        height += 52
    draw.text((40, height + 30), "TOTAL RM", "black", large)
    draw.text((470, height + 30), total, "black", large)
    draw.text((40, height + 110), "THANK YOU, COME AGAIN", "black", small)
    if width != page.width:
        page = page.resize((width, round(page.height * width / page.width)), Image.Resampling.LANCZOS)
    return encoded(page, "PNG")


def encoded(page: Image.Image, kind: str, **options: int) -> bytes:
    """A page as a file."""
    file = io.BytesIO()
    page.save(file, kind, **options)
    return file.getvalue()


@lru_cache
def copy_of(content: bytes, quality: int = 80, scale: float = 0.8) -> bytes:
    """The same page, smaller and as JPEG."""
    page = Image.open(io.BytesIO(content)).convert("RGB")
    size = (round(page.width * scale), round(page.height * scale))
    return encoded(page.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=quality)


@lru_cache
def resaved(content: bytes) -> bytes:
    """The same pixels in other bytes."""
    return encoded(Image.open(io.BytesIO(content)), "PNG", compress_level=1)
