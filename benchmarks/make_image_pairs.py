"""Pairs of images for `benchmarks.images`: copies, and look-alikes that a cache must never take for copies.

    python -m benchmarks.make_image_pairs SOURCE_DIR OUT [--copies 6] [--hard 3] [--alike 5] [--documents 24]
        [--limit 40] [--seed 7]

SOURCE_DIR holds one folder per class of images (receipts, photos, ...); SROIE-style labels beside them
(`NAME.json` with a "company") tell which receipts are of one shop. "-" leaves the folder out and uses the project's own
rendered documents only. Writes OUT/pairs.jsonl and OUT/images/.
Each line: {"a", "b", "same", "kind", "source", "detail", "legible"}; `kind` is the class of the source, `legible` marks
the copies whose text must stay readable (resize >= 0.5, quality >= 50, crop <= 2 %, turns, brightness +-15 %).
"""

import argparse
import hashlib
import io
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from benchmarks.documents import KINDS, alter, draw, make_document
from dedup_service.image.legibility import characters

Rgb = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
MAX_SIDE = 2600


@dataclass(frozen=True, slots=True)
class Saved:
    """An image as it will lie on disk."""

    pixels: Image.Image
    suffix: str
    quality: int


def encode(saved: Saved) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    if saved.suffix == ".png":
        saved.pixels.save(out, "PNG", compress_level=1)
    elif saved.suffix == ".webp":
        saved.pixels.save(out, "WEBP", quality=saved.quality, method=2)
    else:
        saved.pixels.save(out, "JPEG", quality=saved.quality)
    return out.getvalue()


# ---------------------------------------------------------------------------------------------------------- copies


def _resized(image: Image.Image, scale: float, rng: random.Random) -> Image.Image:
    size = (max(24, round(image.width * scale)), max(24, round(image.height * scale)))
    ways = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    return image.resize(size, rng.choice(ways))


def _cropped(image: Image.Image, low: float, high: float, rng: random.Random) -> Image.Image:
    w, h = image.size
    left, top, right, bottom = (rng.uniform(low, high) for _ in range(4))
    return image.crop((round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom))))


def _adjusted(image: Image.Image, rng: random.Random) -> Image.Image:
    way, amount = rng.choice(("brightness", "contrast", "gamma")), 1 + rng.choice((-1, 1)) * rng.uniform(0.05, 0.15)
    if way == "brightness":
        return ImageEnhance.Brightness(image).enhance(amount)
    if way == "contrast":
        return ImageEnhance.Contrast(image).enhance(amount)
    return image.point([round(255 * (v / 255) ** amount) for v in range(256)] * 3)


def _bordered(image: Image.Image, rng: random.Random) -> Image.Image:
    width = round(rng.uniform(0.02, 0.08) * max(image.size))
    return ImageOps.expand(image, width, rng.choice(("white", "black", (128, 128, 128), (230, 220, 200))))


def _tilted(image: Image.Image, rng: random.Random) -> Image.Image:
    angle = rng.choice((-1, 1)) * rng.uniform(0.3, 2.0)
    return image.rotate(angle, Image.Resampling.BICUBIC, expand=rng.random() < 0.5, fillcolor=(255, 255, 255))


def _screenshot(image: Image.Image, rng: random.Random) -> Image.Image:
    w, h = image.size
    bar, foot = max(28, h // 18), max(20, h // 30)
    side = rng.choice((0, w // 40, w // 15))
    dark = rng.random() < 0.5
    frame = Image.new("RGB", (w + 2 * side, h + bar + foot), (20, 22, 26) if dark else (240, 241, 244))
    pen = ImageDraw.Draw(frame)
    font = ImageFont.truetype("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", max(12, bar // 2))
    ink = (220, 220, 225) if dark else (40, 42, 46)
    pen.text((bar // 2, bar // 4), f"{rng.randrange(24)}:{rng.randrange(60):02}", ink, font)
    pen.text((frame.width - bar // 2, bar // 4), f"{rng.randrange(10, 100)}%", ink, font, anchor="ra")
    frame.paste(image, (side, bar))
    return frame


def _recompressed(image: Image.Image, qualities: tuple[int, ...]) -> Image.Image:
    for quality in qualities:
        image = Image.open(io.BytesIO(encode(Saved(image, ".jpg", quality)))).convert("RGB")
    return image


def legible_copy(image: Image.Image, rng: random.Random) -> tuple[Saved, str]:
    """A copy that stays readable, and what was done to it."""
    way = rng.choice(("jpeg", "webp", "png", "resize", "crop", "turn", "adjust", "mixed"))
    suffix, quality = (rng.choice((".jpg", ".webp")), rng.randrange(70, 96))
    if way in ("jpeg", "webp"):
        suffix, quality = (".jpg" if way == "jpeg" else ".webp"), rng.randrange(50, 96)
    elif way == "png":
        suffix = ".png"
    elif way == "resize":
        image = _resized(image, rng.uniform(0.5, 1.5), rng)
    elif way == "crop":
        image = _cropped(image, 0.0, 0.02, rng)
    elif way == "turn":
        image = image.rotate(rng.choice((90, 180, 270)), expand=True)
    elif way == "adjust":
        image = _adjusted(image, rng)
    else:
        image = _resized(_cropped(_adjusted(image, rng), 0.0, 0.01, rng), rng.uniform(0.6, 1.0), rng)
        suffix, quality = ".jpg", rng.randrange(60, 96)
    return Saved(image, suffix, quality), way


def hard_copy(image: Image.Image, rng: random.Random) -> tuple[Saved, str]:
    """A copy that lost or gained something, and what was done to it."""
    way = rng.choice(("low quality", "small", "crop 5 %", "border", "tilt", "screenshot", "chat"))
    quality = rng.randrange(60, 96)
    if way == "low quality":
        quality = rng.randrange(30, 50)
    elif way == "small":
        image = _resized(image, rng.uniform(0.3, 0.5), rng)
    elif way == "crop 5 %":
        image = _cropped(image, 0.01, 0.05, rng)
    elif way == "border":
        image = _bordered(image, rng)
    elif way == "tilt":
        image = _tilted(image, rng)
    elif way == "screenshot":
        image = _screenshot(image, rng)
    else:
        scale = min(1.0, 1280 / max(image.size))
        image = _recompressed(_resized(image, scale, rng), (rng.randrange(60, 80), rng.randrange(50, 75)))
        quality = rng.randrange(60, 80)
    return Saved(image, ".jpg", quality), way


# ----------------------------------------------------------------------------------------------------- look-alikes


def character_replaced(rgb: Rgb, rng: random.Random) -> Rgb | None:
    """One character replaced in place by another of about its size from the same image; None where there is none."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    boxes = characters(grey)
    boxes = boxes[(boxes[:, 3] >= 8) & (boxes[:, 2] >= 3)] if len(boxes) else boxes
    if len(boxes) < 8:
        return None
    for _ in range(200):
        x, y, w, h = (int(v) for v in boxes[rng.randrange(len(boxes))])
        alike = boxes[(np.abs(boxes[:, 3] - h) <= max(1, h // 10)) & (np.abs(boxes[:, 2] - w) <= max(1, w // 4))]
        ox, oy, ow, oh = (int(v) for v in alike[rng.randrange(len(alike))])
        donor, old = grey[oy : oy + oh, ox : ox + ow], grey[y : y + h, x : x + w]
        fitted = cv2.resize(donor, (w, h), interpolation=cv2.INTER_AREA)
        if min(fitted.std(), old.std()) < 12:
            continue
        # Another character, not another print of the same one: even the best shift leaves them unlike.
        padded = cv2.copyMakeBorder(fitted, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
        if cv2.matchTemplate(padded, old, cv2.TM_CCOEFF_NORMED).max() > 0.55:
            continue
        edited = rgb.copy()
        patch = cv2.resize(rgb[oy : oy + oh, ox : ox + ow], (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
        paper_here = np.percentile(rgb[y : y + h, x : x + w].reshape(-1, 3), 90, axis=0)
        paper_there = np.percentile(patch.reshape(-1, 3), 90, axis=0)
        edited[y : y + h, x : x + w] = np.clip(patch + (paper_here - paper_there), 0, 255).astype(np.uint8)
        # A reader must be able to see it: an eighth of the box changed by half of its contrast.
        now = cv2.cvtColor(edited[y : y + h, x : x + w], cv2.COLOR_RGB2GRAY).astype(np.int16)
        contrast = float(np.ptp(np.percentile(old, (5, 95))))
        if contrast > 40 and (np.abs(now - old) > contrast / 2).mean() > 0.125:
            return edited
    return None


def recoloured(rgb: Rgb, rng: random.Random) -> Rgb | None:
    """One patch in another colour at equal brightness; None where brightness leaves no room for colour."""
    h, w = rgb.shape[:2]
    for _ in range(60):
        ph, pw = (max(16, round(s * rng.uniform(0.05, 0.15))) for s in (h, w))
        if ph >= h or pw >= w:
            return None
        y, x = rng.randrange(h - ph), rng.randrange(w - pw)
        patch = cv2.cvtColor(rgb[y : y + ph, x : x + pw], cv2.COLOR_RGB2YCrCb).astype(np.float32)
        moved = patch.copy()
        moved[:, :, 1] += rng.choice((-1, 1)) * rng.uniform(45, 80)
        moved[:, :, 2] += rng.choice((-1, 1)) * rng.uniform(45, 80)
        back = cv2.cvtColor(np.clip(moved, 0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)
        again = cv2.cvtColor(back, cv2.COLOR_RGB2YCrCb).astype(np.float32)
        if np.abs(again[:, :, 1:] - patch[:, :, 1:]).max(axis=2).mean() > 35:
            edited = rgb.copy()
            edited[y : y + ph, x : x + pw] = back
            return edited
    return None


def next_frame(rgb: Rgb, rng: random.Random) -> Rgb | None:
    """The next frame of a video: one part moved against the rest, the camera too, fresh sensor noise.

    None where the motion can't be seen: the part that moves is blank.
    """
    h, w = rgb.shape[:2]
    unit = max(1.0, max(h, w) / 500)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    pan = rng.uniform(0, 3) * unit
    pan_x, pan_y = (pan * rng.choice((-1, 0, 1)) for _ in range(2))
    for _ in range(8):
        cy, cx = rng.uniform(0.3, 0.7) * h, rng.uniform(0.3, 0.7) * w
        reach = rng.uniform(0.12, 0.3) * min(h, w)
        weight = np.exp(-(((yy - cy) ** 2 + (xx - cx) ** 2) / (2 * reach**2)))
        angle, amount = rng.uniform(0, 2 * np.pi), rng.uniform(2.0, 6.0) * unit
        dx, dy = np.float32(weight * amount * np.cos(angle)), np.float32(weight * amount * np.sin(angle))
        part = cv2.remap(rgb, xx - dx, yy - dy, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        seen = np.abs(part.astype(np.int16) - rgb).max(axis=2) > 30
        if seen.mean() > 0.005:
            shift = np.array([[1, 0, pan_x], [0, 1, pan_y]], np.float32)
            moved = cv2.warpAffine(part, shift, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
            noise = np.random.default_rng(rng.randrange(2**31)).normal(0, 2.0, moved.shape)
            return np.asarray(np.clip(moved + noise, 0, 255), dtype=np.uint8)
    return None


def panned(rgb: Rgb, rng: random.Random) -> tuple[Rgb, Rgb]:
    """Two views of one scene from a camera that moved: each shows a strip that the other does not."""
    h, w = rgb.shape[:2]
    dy, dx = (max(3, round(s * rng.uniform(0.015, 0.06))) for s in (h, w))
    first, second = rgb[: h - dy, : w - dx], rgb[dy:, dx:]
    return (first, second) if rng.random() < 0.5 else (rgb[dy:, : w - dx], rgb[: h - dy, dx:])


def patched(rgb: Rgb, rng: random.Random) -> Rgb | None:
    """One small thing of a photo gone: a patch painted over from its surroundings; None where that can't be seen."""
    h, w = rgb.shape[:2]
    size = round(rng.uniform(0.05, 0.1) * max(h, w))
    for _ in range(30):
        y, x = rng.randrange(max(1, h - size)), rng.randrange(max(1, w - size))
        mask = np.zeros((h, w), np.uint8)
        mask[y : y + size, x : x + size] = 255
        painted = np.asarray(cv2.inpaint(rgb, mask, 3, cv2.INPAINT_TELEA), dtype=np.uint8)
        gone = np.abs(painted.astype(np.int16) - rgb).max(axis=2)[y : y + size, x : x + size]
        if (gone > 40).mean() > 0.25:
            return painted
    return None


def halved(rgb: Rgb, rng: random.Random) -> Rgb:
    """A part of the image: a fifth to two fifths cut off on one side, with what stood there."""
    h, w = rgb.shape[:2]
    keep = rng.uniform(0.6, 0.8)
    way = rng.randrange(4)
    return (rgb[: int(h * keep)], rgb[int(h * (1 - keep)) :], rgb[:, : int(w * keep)], rgb[:, int(w * (1 - keep)) :])[
        way
    ]


# ------------------------------------------------------------------------------------------------------- the pairs


@dataclass(frozen=True, slots=True)
class Source:
    """One original image."""

    name: str
    kind: str
    image: Image.Image
    group: str


def read_sources(root: Path, limit: int, rng: random.Random) -> Iterator[Source]:
    """Up to `limit` images of each folder under `root`, no side over MAX_SIDE."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) or [root]
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for path in rng.sample(files, min(limit, len(files))):
            image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
            label = path.with_suffix(".json")
            group = json.loads(label.read_text()).get("company", "") if label.exists() else ""
            yield Source(path.stem, folder.name, image, group)


class Writer:
    """Writes images once, by content, and pairs as lines."""

    def __init__(self, out: Path) -> None:
        self.out = out
        (out / "images").mkdir(parents=True, exist_ok=True)
        self.lines: list[dict[str, Any]] = []

    def save(self, saved: Saved) -> str:
        content = encode(saved)
        name = f"images/{hashlib.sha256(content).hexdigest()[:16]}{saved.suffix}"
        (self.out / name).write_bytes(content)
        return name

    def pair(self, a: str, b: str, same: bool, kind: str, source: str, detail: str, legible: bool) -> None:
        self.lines.append(
            {"a": a, "b": b, "same": same, "kind": kind, "source": source, "detail": detail, "legible": legible}
        )

    def close(self) -> None:
        with (self.out / "pairs.jsonl").open("w", encoding="utf-8") as lines:
            for line in self.lines:
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def lightly(image: Image.Image, rng: random.Random) -> Saved:
    """What an edited image is saved as: often re-encoded, sometimes smaller."""
    if rng.random() < 0.35:
        image = _resized(image, rng.uniform(0.6, 1.0), rng)
    lossless = (".png",) if image.width * image.height < 500_000 else ()
    return Saved(image, rng.choice((".jpg", ".jpg", ".webp", *lossless)), rng.randrange(60, 96))


def make(
    root: Path | None, out: Path, *, copies: int, hard: int, alike: int, documents: int, limit: int, seed: int
) -> int:
    """Write the pairs; returns how many."""
    writer = Writer(out)
    rng = random.Random(seed)
    kept: dict[str, list[tuple[Source, str]]] = defaultdict(list)

    def copies_of(source: Source, a: str) -> None:
        for i in range(copies + hard):
            saved, way = (legible_copy if i < copies else hard_copy)(source.image, rng)
            writer.pair(a, writer.save(saved), True, source.kind, source.name, way, i < copies)

    def different(source: Source, a: str, b: str, detail: str) -> None:
        writer.pair(a, b, False, source.kind, source.name, detail, False)

    for source in read_sources(root, limit, rng) if root is not None else ():
        a = writer.save(Saved(source.image, ".jpg", 93))
        copies_of(source, a)
        rgb = np.asarray(source.image)
        photo = source.kind.startswith("photo")
        edits: list[tuple[str, Callable[[Rgb, random.Random], Rgb | None]]] = [("recoloured", recoloured)]
        edits += (
            [("next frame", next_frame), ("patched", patched)]
            if photo
            else [("character", character_replaced), ("character", character_replaced), ("halved", halved)]
        )
        for _ in range(alike):
            detail, edit = edits[rng.randrange(len(edits))]
            edited = edit(rgb, rng)
            if edited is not None:
                different(source, a, writer.save(lightly(Image.fromarray(edited), rng)), detail)
        if photo:
            first, second = panned(rgb, rng)
            kept_first = writer.save(Saved(Image.fromarray(first), ".jpg", 93))
            different(source, kept_first, writer.save(lightly(Image.fromarray(second), rng)), "panned")
        for other, b in rng.sample(kept[source.kind], min(1, len(kept[source.kind]))):
            different(source, a, b, "another of its class" if other.group != source.group else "same shop")
        shop = [b for other, b in kept[source.kind] if source.group and other.group == source.group]
        if shop:
            different(source, a, rng.choice(shop), "same shop")
        kept[source.kind].append((source, a))

    for kind in KINDS:
        for number in range(documents):
            document = make_document(kind, seed * 1000 + number)
            source = Source(f"{kind}-{number}", kind if kind in ("chart", "ui") else "rendered", draw(document), "")
            a = writer.save(Saved(source.image, ".png", 0))
            copies_of(source, a)
            for _ in range(alike):
                changed, what = alter(document, rng)
                different(source, a, writer.save(lightly(draw(changed), rng)), what)
            edited = recoloured(np.asarray(source.image), rng)
            if edited is not None:
                different(source, a, writer.save(lightly(Image.fromarray(edited), rng)), "recoloured")
    writer.close()
    return len(writer.lines)


def main() -> None:
    """Make the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source_dir")
    parser.add_argument("out", type=Path)
    parser.add_argument("--copies", type=int, default=5, help="readable copies of each image")
    parser.add_argument("--hard", type=int, default=3, help="hard copies of each image")
    parser.add_argument("--alike", type=int, default=5, help="look-alikes of each image")
    parser.add_argument("--documents", type=int, default=24, help="rendered documents of each kind")
    parser.add_argument("--limit", type=int, default=60, help="images of each folder")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    root = None if options.source_dir == "-" else Path(options.source_dir)
    count = make(
        root,
        options.out,
        copies=options.copies,
        hard=options.hard,
        alike=options.alike,
        documents=options.documents,
        limit=options.limit,
        seed=options.seed,
    )
    print(f"{count} pairs in {options.out / 'pairs.jsonl'}")


if __name__ == "__main__":
    main()
