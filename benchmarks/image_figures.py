"""The two figures of docs/tune.md about images.

    python -m benchmarks.images PAIRS.jsonl --scores SCORES.npz
    python -m benchmarks.image_figures SCORES.npz [--out docs/figures]

Writes image_scores.svg (the check's score for copies and look-alikes) and image_difference.png (a located one-digit
difference in a rendered receipt, through JPEG at half the quality).
"""

import argparse
import io
import random
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmarks.documents import draw, make_document
from dedup_service.image.fingerprint import Fingerprint, take_fingerprint
from dedup_service.image.lookalike import compare
from dedup_service.image.picture import open_picture


def draw_scores(scores: Path, out: Path) -> None:
    """Histogram of the score on a logarithmic axis, copies above, look-alikes below, the limit at 1."""
    data = np.load(scores)
    comparable = np.isfinite(data["score"]) & ~np.isin(data["reason"], ["CONTENT_OUTSIDE"])
    bins = np.logspace(-2, 1.5, 50)
    figure = Figure(figsize=(8, 3.6))
    axes = figure.add_subplot()
    for same, sign, colour, name in ((True, 1, "#2a7", "copies"), (False, -1, "#c43", "look-alikes")):
        chosen = data["score"][comparable & (data["same"] == same)]
        count, _ = np.histogram(np.clip(chosen, 0.011, 30), bins)
        axes.bar(bins[:-1], sign * count, np.diff(bins), align="edge", color=colour, label=f"{len(chosen)} {name}")
    axes.axvline(1, color="black", lw=1)
    axes.set_xscale("log")
    axes.set_xlabel("score (1 = the limit; accepted to the left)")
    axes.set_ylabel("pairs")
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.legend()
    figure.tight_layout()
    figure.savefig(out)


def draw_difference(out: Path) -> None:
    """Stored and query side by side with the box that the check gives, and the place enlarged."""
    stored = make_document("receipt", 4)
    name = next(name for name in stored.values if name.startswith("item"))
    goods, count, cents = stored.values[name]
    changed = replace(
        stored, values=stored.values | {name: (goods, count, cents + 10 * random.Random(1).randrange(2, 7))}
    )
    packed = [io.BytesIO(), io.BytesIO()]
    draw(stored).save(packed[0], "PNG")
    draw(changed).save(packed[1], "JPEG", quality=50)
    pictures = [open_picture(one.getvalue()) for one in packed]
    verdict = compare(Fingerprint.from_bytes(take_fingerprint(pictures[0]).to_bytes()), take_fingerprint(pictures[1]))
    if verdict.box is None:
        raise SystemExit(f"no difference was located: {verdict}")
    height, width = pictures[0].rgb.shape[:2]
    x, y, w, h = verdict.box
    figure = Figure(figsize=(9, 5), dpi=110)
    grid = figure.add_gridspec(2, 3)
    for column, (title, picture) in enumerate(zip(("stored", "query"), pictures, strict=True)):
        axes = figure.add_subplot(grid[:, column])
        axes.imshow(picture.rgb)
        axes.add_patch(Rectangle((x * width, y * height), w * width, h * height, fill=False, color="#d22", lw=2))
        axes.set_title(title)
        axes.axis("off")
        near = figure.add_subplot(grid[column, 2])
        near.imshow(picture.rgb)
        near.set_xlim(x * width - 60, (x + w) * width + 60)
        near.set_ylim((y + h) * height + 20, y * height - 20)
        near.add_patch(Rectangle((x * width, y * height), w * width, h * height, fill=False, color="#d22", lw=2))
        near.set_title(f"{title}, enlarged")
        near.axis("off")
    figure.suptitle(f"{verdict.verdict}: {verdict.reason}, score {verdict.score:.1f} (limit 1)")
    figure.tight_layout()
    figure.savefig(out)


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    mpl.rcParams["svg.hashsalt"] = "askonce"  # equal data, equal file
    options.out.mkdir(parents=True, exist_ok=True)
    draw_scores(options.scores, options.out / "image_scores.svg")
    draw_difference(options.out / "image_difference.png")


if __name__ == "__main__":
    main()
