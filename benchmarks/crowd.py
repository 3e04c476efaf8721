"""A crowd of one form: is the original of a copy among the few images that are checked, and what does it cost?

    python -m benchmarks.crowd [--forms invoice,receipt,rows,vat,taxi] [--siblings 1,10,100,1000] [--copies 35]
        [--drawn 1000] [--json OUT]
    python -m benchmarks.crowd --stream OUT [--forms invoice] [--siblings 220] [--copies 80]

Siblings are pages of one template with other values. `invoice` and `receipt` are drawn with six values changed each;
`rows` are receipts with other items, other numbers of items, and so with rows that shift; `vat` and `taxi` are
photographed invoices (from the folder that ASKONCE_DATA names, left out where it is absent) whose characters are
overwritten in six fields. The siblings arrive one after another, as look-ups that are then stored, in an embedded
store. Beyond `--drawn` pages further siblings are put together of the drawn ones: each band of rows from another page,
which makes them more alike than pages of their own would be.

Each copy went through one of seven ways (JPEG 70, scale 0.6, cropped by 2 %, darker, in the frame of a screenshot,
turned by 1.5 degrees, greyscale). Told are the share of copies whose original was among the images put to the check,
the CPU milliseconds (median) of a look-up up to the check, the store's process included, and how many images would be
checked on average.

`--stream` writes a stream for `benchmarks.replay` instead: pages of one form, then copies of some.
"""

import argparse
import asyncio
import io
import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.documents import Document, alter, draw, make_document
from benchmarks.images import interval, share
from dedup_service.image.dct import DctEncoder
from dedup_service.image.legibility import characters
from dedup_service.image.picture import open_picture
from dedup_service.image.residual import Cells
from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.policy.policy import Policy
from dedup_service.store.descriptors import Described, PointDescriptors, space_of
from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.records import ImageRecord, image_id
from dedup_service.usecases.forms import Forms
from dedup_service.usecases.image_features import Features, LocalImageWork, extract
from dedup_service.usecases.image_resolver import ImageResolver
from dedup_service.usecases.known_mismatches import KnownMismatches

TENANT = "crowd"
QUESTION = "What is the total amount?"
SEEDS = {"invoice": 7, "receipt": 3, "rows": 3}
FIELDS, RUN = 6, 8
"""Fields of a photographed form that are overwritten, and characters in each."""
BANDS = 12
"""Bands of rows of which a sibling is put together."""


def saved(image: Image.Image, quality: int) -> bytes:
    """As JPEG."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def framed(image: Image.Image) -> Image.Image:
    """In the frame of a screenshot."""
    frame = Image.new("RGB", (image.width + 160, image.height + 220), (40, 44, 52))
    frame.paste(image, (80, 120))
    return frame


def shrunk(image: Image.Image) -> Image.Image:
    """To 0.6 of its size."""
    return image.resize((int(image.width * 0.6), int(image.height * 0.6)), Image.Resampling.LANCZOS)


def cropped(image: Image.Image) -> Image.Image:
    """By 2 % on each side."""
    w, h = image.size
    return image.crop((int(w * 0.02), int(h * 0.02), int(w * 0.98), int(h * 0.98)))


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG 70": lambda image: saved(image, 70),
    "scale 0.6": lambda image: saved(shrunk(image), 75),
    "crop 2 %": lambda image: saved(cropped(image), 80),
    "darker": lambda image: saved(image.point([min(255, int(v * 0.9 + 8)) for v in range(256)] * 3), 85),
    "screenshot": lambda image: saved(framed(image), 80),
    "turned 1.5°": lambda image: saved(image.rotate(1.5, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255)), 80),
    "greyscale": lambda image: saved(image.convert("L"), 85),
}


def drawn_pages(kind: str) -> Iterator[Image.Image]:
    """Pages of one drawn template without end."""
    rng = random.Random(f"crowd {kind}")
    base = make_document("receipt" if kind == "rows" else kind, SEEDS[kind])
    while True:
        page: Document = base
        if kind == "rows":
            other = make_document("receipt", rng.randrange(10**6, 10**9))
            page = replace(base, values={**other.values, "shop": base.values["shop"]})
        else:
            for _ in range(6):
                page, _ = alter(page, rng)
        yield draw(page).convert("RGB")


def photographed_pages(kind: str) -> Iterator[Image.Image]:
    """Pages of one photographed form without end, its characters overwritten in some fields by others of the page."""
    folder = Path(os.environ["ASKONCE_DATA"]) / "images" / kind
    rng = random.Random(f"crowd {kind}")
    for path in sorted(folder.iterdir()):
        with suppress(OSError):
            photo = Image.open(path).convert("RGB")
            photo.thumbnail((2080, 2080))
            rgb = np.asarray(photo)
            boxes = characters(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8))
            boxes = boxes[(boxes[:, 3] >= 8) & (boxes[:, 2] >= 4)] if len(boxes) else boxes
            if len(boxes) >= 40:
                break
    else:
        raise FileNotFoundError(f"no form with enough characters in {folder}")
    fields = [field_at(boxes, boxes[rng.randrange(len(boxes))]) for _ in range(FIELDS)]
    while True:
        page = rgb.copy()
        for x, y, w, h in (box for field in fields for box in field.tolist()):
            ox, oy, ow, oh = boxes[rng.randrange(len(boxes))].tolist()
            page[y : y + h, x : x + w] = cv2.resize(rgb[oy : oy + oh, ox : ox + ow], (w, h))
        yield Image.fromarray(page)


def field_at(boxes: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """The characters next to one in its line."""
    level = np.abs(boxes[:, 1] + boxes[:, 3] / 2 - anchor[1] - anchor[3] / 2) < anchor[3] / 2
    line = boxes[level]
    return np.asarray(line[np.argsort(np.abs(line[:, 0] - anchor[0]))[:RUN]])


def pages_of(kind: str) -> Iterator[Image.Image]:
    """Pages of one form without end. Raises FileNotFoundError where its photographs are not there."""
    if kind in SEEDS:
        return drawn_pages(kind)
    if "ASKONCE_DATA" not in os.environ:
        raise FileNotFoundError("ASKONCE_DATA names no folder")
    return photographed_pages(kind)


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured at one number of siblings.

    Attributes:
        form: which form.
        siblings: how many pages of it were stored.
        hits, copies: copies whose original was among the images checked, and copies in all.
        interval: of their share, Clopper-Pearson, 95 %.
        by_way: the share for each way.
        cpu_ms: of a look-up up to the check, median.
        checked: images that would be checked, mean.
        forms: how many forms the pages founded.
    """

    form: str
    siblings: int
    hits: int
    copies: int
    interval: tuple[float, float]
    by_way: dict[str, float]
    cpu_ms: float
    checked: float
    forms: int


@dataclass
class Crowd:
    """A store that fills with siblings."""

    memory: EdgeMemory
    forms: Forms
    resolver: ImageResolver
    process: int
    """Id of the store's process."""
    pages: list[tuple[Image.Image, str]]
    """What was drawn and stored, with the ids of the records."""
    members: list[Described]
    """Descriptors of members that were put together of drawn ones."""

    def features(self, content: bytes) -> Features:
        """What a look-up computes."""
        return extract(open_picture(content), self.resolver.images.encoder)  # type: ignore[attr-defined]

    def cpu(self) -> float:
        """CPU seconds spent so far, here and in the store."""
        times = psutil.Process(self.process).cpu_times()
        return time.process_time() + times.user + times.system

    async def arrive(self, page: Image.Image) -> None:
        """Looks a page up and stores it. Its fingerprint is packed only where a form may be founded with it."""
        features = self.features(saved(page, 92))
        image = image_id(TENANT, bytes.fromhex(features.byte_digest))
        async for _ in self.resolver.candidates(TENANT, features, POLICY):
            pass
        record = ImageRecord(
            image, TENANT, (features.byte_digest, features.pixel_digest), features.hashes[0],
            features.width, features.height, time.time(),
        )  # fmt: skip
        packed = await self.resolver.pack(TENANT, features) if len(self.pages) < 3 else b""
        await self.memory.put_image(record, features.vectors[0], packed)
        await self.forms.describe(TENANT, image)
        self.pages.append((page, image))

    async def fill(self, count: int, drawn: int, source: Iterator[Image.Image]) -> None:
        """Lets siblings arrive until there are `count`, drawn ones first."""
        while len(self.pages) < min(count, drawn):
            await self.arrive(next(source))
            if len(self.pages) in (8, 16, 32, 64, 128, 256, 512, 1024):
                await self.forms.tend()
        self.forms.tenants.pop(TENANT, None)  # as after a start, so that what is stored is what is measured
        await self.forms.tend()
        missing = count - len(self.pages) - len(self.members)
        if missing > 0:
            await self.put_together(missing)

    async def put_together(self, count: int) -> None:
        """Stores further members of the largest form, made of bands of rows of drawn ones."""
        form = max(await self.forms.of(TENANT), key=lambda form: form.learnt.members)
        known = [one async for some in self.forms.descriptors.members(TENANT, form.id) for one in some]
        inks = [Cells.from_bytes(one.content) for one in known]
        across, down = form.frame.grid
        rng = np.random.default_rng(len(self.members))
        batch = []
        for number in range(count):
            chosen = rng.integers(0, len(inks), BANDS)
            of_cell = np.repeat(chosen[np.arange(down) * BANDS // down], across)
            ink, seen = (
                np.choose(
                    np.searchsorted(np.unique(of_cell), of_cell),
                    [getattr(inks[one], name) for one in np.unique(of_cell)],
                )
                for name in ("ink", "seen")
            )
            cells = Cells(ink, seen)
            image = image_id(TENANT, b"put together %d" % (len(self.members) + 1))
            one = replace(known[0], image=image, space=space_of(form.id, form.projection.key), content=cells.to_bytes())
            self.members.append(one)
            batch.append((one, form.projection.apply(cells)))
            if len(batch) == 64 or number == count - 1:
                await self.forms.descriptors.put(batch)
                batch = []

    async def measure(self, kind: str, siblings: int, copies: int) -> Result:
        """Looks copies of some pages up."""
        found: dict[str, list[bool]] = defaultdict(list)
        spent, counts = [], []
        ways = list(COPIES)
        for number in range(copies):
            page, image = random.Random(f"copy {number}").choice(self.pages)
            way = ways[number % len(ways)]
            content = COPIES[way](page)
            before = await asyncio.to_thread(self.cpu)
            features = self.features(content)
            checked = [one.record.id async for one in self.resolver.candidates(TENANT, features, POLICY)]
            spent.append((await asyncio.to_thread(self.cpu) - before) * 1e3)
            found[way].append(image in checked)
            counts.append(len(checked))
        hits = sum(sum(ones) for ones in found.values())
        return Result(
            kind, siblings, hits, copies, interval(hits, copies), {way: share(ones) for way, ones in found.items()},
            float(np.median(spent)), float(np.mean(counts)), len(await self.forms.of(TENANT)),
        )  # fmt: skip


POLICY = Policy()


def run(kind: str, sizes: list[int], drawn: int, copies: int) -> list[Result]:
    """Measures one form at growing numbers of siblings."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as threads:
        engine = open_database(f"sqlite:///{folder}/ledger.sqlite")
        ledger = Ledger(engine)
        try:
            return asyncio.run(grow(kind, sizes, drawn, copies, Path(folder), threads, ledger))
        finally:
            ledger.close()
            engine.dispose()


async def grow(
    kind: str, sizes: list[int], drawn: int, copies: int, folder: Path, threads: Executor, ledger: Ledger
) -> list[Result]:
    """The same, over a store in a folder."""
    encoder = DctEncoder()
    memory = EdgeMemory(folder, encoder.identity, encoder.dimension, "none", 4)
    await memory.start()
    forms = Forms(PointDescriptors(memory.points), memory, threads)
    resolver = ImageResolver(memory, LocalImageWork(encoder), KnownMismatches(ledger), forms, threads)
    process = memory.points.process
    if process is None:
        raise RuntimeError("the store has no process")
    crowd = Crowd(memory, forms, resolver, process.pid, [], [])
    source = pages_of(kind)
    results = []
    try:
        for size in sizes:
            await crowd.fill(size, drawn, source)
            results.append(await crowd.measure(kind, size, copies))
            print(json.dumps(asdict(results[-1]), ensure_ascii=False), file=sys.stderr, flush=True)
    finally:
        await memory.close()
    return results


def show(results: list[Result]) -> None:
    """Prints a table."""
    table = Table("form", "siblings", "among checked", "95 % interval", "CPU ms", "checked", "forms", *COPIES)
    for one in results:
        table.add_row(
            one.form, f"{one.siblings:,}", f"{one.hits / one.copies:.3f}", "{:.3f}-{:.3f}".format(*one.interval),
            f"{one.cpu_ms:.0f}", f"{one.checked:.1f}", str(one.forms),
            *(f"{one.by_way[way]:.2f}" if way in one.by_way else "" for way in COPIES),
        )  # fmt: skip
    Console(width=180).print(table)


def write_stream(out: Path, kind: str, pages: int, copies: int) -> None:
    """A stream of `pages` pages and then `copies` copies of some, every answer the page's number."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    source = pages_of(kind)
    drawn = [next(source) for _ in range(pages)]
    for number, page in enumerate(drawn):
        lines.append((f"images/page_{number}.jpg", saved(page, 92), number))
    ways = list(COPIES)
    for number in range(copies):
        of = random.Random(f"copy {number}").randrange(pages)
        lines.append((f"images/copy_{number}.jpg", COPIES[ways[number % len(ways)]](drawn[of]), of))
    with (out / "stream.jsonl").open("w", encoding="utf-8") as stream:
        for name, content, of in lines:
            (out / name).write_bytes(content)
            stream.write(
                json.dumps({"image": name, "question": QUESTION, "answer": f"{of + 1000}.{of % 100:02}"}) + "\n"
            )


def main() -> None:
    """Reads the arguments and measures, or writes a stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", default="invoice,receipt,rows,vat,taxi")
    parser.add_argument("--siblings", default="1,10,100,1000")
    parser.add_argument("--copies", type=int, default=35)
    parser.add_argument("--drawn", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stream", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    kinds = options.forms.split(",")
    sizes = sorted(int(size) for size in options.siblings.split(","))
    if options.stream is not None:
        write_stream(options.stream, kinds[0], sizes[-1], options.copies)
        return
    results = []
    for kind in kinds:
        try:
            results += run(kind, sizes, options.drawn, options.copies)
        except FileNotFoundError as error:
            print(f"{kind} left out: {error}", file=sys.stderr)
    show(results)
    if options.json is not None:
        options.json.write_text(
            json.dumps([asdict(one) for one in results], indent=1, ensure_ascii=False), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
