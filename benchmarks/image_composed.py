"""Look-alikes that come the way copies come: photographed, turned by a scanner, shrunk, or saved hard by a messenger.

A check may tell two clean files apart and fail when the second was photographed. This takes the look-alikes of an index
of pairs and passes the second file of each through what happens to copies.

    python -m benchmarks.image_composed OUT/index.jsonl COMPOSED [--skip 30] [--per-kind 8]
    python -m benchmarks.image_check COMPOSED/index.jsonl

The ways are those of `benchmarks.image_kinds`; the kinds are those whose difference is on a page or a picture, not in
how a file is read. Written by the author of the check, so it is development material.
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.image_kinds import jpeg, noisy, phone_photo, resized

WAYS = ("photographed", "turned", "shrunk", "saved hard")
LEFT_OUT = ("transparent_black_ink", "mirrored_photo", "thumbnail_with_other_digit", "arrow_turned_round")
LONGEST = 1300


def passed_through(image: Image.Image, way: str, rng: random.Random) -> bytes:
    """The file that becomes of an image on one of the `WAYS`."""
    drawn = np.random.default_rng(rng.getrandbits(60))
    if way == "photographed":
        image = resized(image, min(1.0, LONGEST / max(image.size)))
        photo = phone_photo(image, drawn, rng.uniform(0.01, 0.04), rng.uniform(0.15, 0.4), rng.uniform(0.4, 0.9))
        return jpeg(photo, rng.randint(75, 92))
    if way == "turned":
        corner = np.asarray(image)[:6, :6].reshape(-1, 3).mean(0)
        fill = (int(corner[0]), int(corner[1]), int(corner[2]))
        angle = rng.uniform(0.5, 2.0) * rng.choice([-1, 1])
        return jpeg(image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=fill), rng.randint(82, 93))
    if way == "shrunk":
        return jpeg(resized(image, rng.uniform(0.4, 0.7)), rng.randint(80, 92))
    dimmed = ImageEnhance.Brightness(noisy(image, drawn, rng.uniform(2, 6))).enhance(rng.uniform(0.9, 1.1))
    return jpeg(dimmed, rng.randint(40, 75))


def main() -> None:
    """Write the pairs and their index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--skip", type=int, default=30, help="pairs of each kind that are left out first")
    parser.add_argument("--per-kind", type=int, default=8)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    written = []
    for line in options.index.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        if pair["same"] or pair["kind"] in LEFT_OUT:
            continue
        seen[pair["kind"]] += 1
        if not options.skip < seen[pair["kind"]] <= options.skip + options.per_kind:
            continue
        first = (options.index.parent / pair["first"]).resolve()
        with Image.open(options.index.parent / pair["second"]) as opened:
            image = opened.convert("RGB")
        for way in WAYS:
            second = f"{first.stem}_{way.replace(' ', '_')}.jpg"
            content = passed_through(image, way, random.Random(f"{first.stem} {way}"))
            (options.out / second).write_bytes(content)
            written.append(
                pair | {"kind": f"{way}: {pair['kind']}", "group": way, "first": str(first), "second": second}
            )
    index = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in written)
    (options.out / "index.jsonl").write_text(index, encoding="utf-8")


if __name__ == "__main__":
    main()
