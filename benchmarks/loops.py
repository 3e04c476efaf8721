"""What the loop guard finds and what it leaves alone.

    ASKONCE_DATA=... python -m benchmarks.loops [--pages FOLDER]

Loops are made here: texts that begin well and then repeat a word, a phrase, a table row or a paragraph, in English and
Chinese, some with a slip now and then. Counted: how many are found, and how many characters after the loop began.
Texts to be left alone are what was recognised on pages (the folder that `benchmarks.reader` keeps), read out whole as a
model transcribing a page would, and texts with good reason to repeat: ruled lines, empty columns, lists.
Intervals are Clopper-Pearson, 95 %.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

from benchmarks.reader import share
from inference_service.loop_guard import LoopGuard

BEGINNINGS = ("The invoice lists three items. ", "这张发票上有三个项目。", "Total: 12.50\n", "")
UNITS = (
    "dog ",
    "是",
    "The total is RM 12.50. ",
    "合计金额为一百元。",
    "| Pen | 2 | 3.00 |\n",
    "名称：办公用品，数量：2，单价：3.00，金额：6.00；",
    "The seller is Northwind and the buyer is Alder; the invoice is dated 17 April and due in thirty days. ",
    "1, 2, 3, ",
)


def steps(text: str) -> int | None:
    """Characters that were fed when the guard saw a loop; None when it did not."""
    guard = LoopGuard()
    for place in range(0, len(text), 4):
        if guard.feed(text[place : place + 4]):
            return place + 4
    return None


def loops() -> list[tuple[str, int]]:
    """Texts with the place where each begins to go round."""
    chance = random.Random(7)
    found = []
    for beginning in BEGINNINGS:
        for unit in UNITS:
            found.append((beginning + unit * (4_000 // len(unit)), len(beginning)))
            slips = [unit if chance.random() > 0.03 else unit[::-1] for _ in range(8_000 // len(unit))]
            found.append((beginning + "".join(slips), len(beginning)))
    return found


def plain_texts(folder: Path) -> list[str]:
    """Texts without a loop."""
    pages = [
        "\n".join(str(line[0]) for line in json.loads(file.read_text(encoding="utf-8"))[2])
        for file in folder.glob("*.json")
    ]
    made = ["_" * 600, "-" * 79 + "\n" + "." * 600, "0.00\n" * 40, "| | | |\n" * 60]
    made += ["\n".join(f"{number}. item number {number}: {number * 3}.00" for number in range(1, 300))]
    return [*pages, *made]


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loops", description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=Path, default=Path("var/pages"), help="where benchmarks.reader keeps pages")
    chosen = parser.parse_args()
    late = [(steps(text), begin) for text, begin in loops()]
    found = [end - begin for end, begin in late if end is not None]
    texts = plain_texts(chosen.pages)
    alarms = sum(steps(text) is not None for text in texts)
    print(f"loops found:        {share(len(found), len(late))} of {len(late)}")
    print(f"characters until:   {statistics.median(found):.0f} at the median, {max(found)} at most")
    print(f"others interrupted: {share(alarms, len(texts))} of {len(texts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
