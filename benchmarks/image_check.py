"""Is a copy taken and a look-alike refused? By kind of pair, on material by another hand.

    python -m benchmarks.image_kinds --data DIR --pages examples/pages --out OUT --per-kind 68 --seed 22
    python -m benchmarks.image_check OUT/index.jsonl [--workers 2] [--copies N] [--json FILE]

Prints, for every kind, how many pairs were taken for copies, with the Clopper-Pearson interval (95 %); then the same
for limits that were chosen on half of the kinds (by the digest of their names) and are scored on the other half, both
ways round. Limits are chosen as the loosest that accept no look-alike of their half, a fifth inside of the nearest.
"""

import argparse
import hashlib
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import beta

from benchmarks.images import MARGIN, MAX_BYTES, interval
from dedup_service.image.fingerprint import Fingerprint, take_fingerprint
from dedup_service.image.lookalike import DEFAULT_LIMITS, Evidence, Limits, judge, kind_of, measure
from dedup_service.image.picture import PictureError, open_picture

SHAPES = np.arange(0.15, 0.41, 0.025)
STROKES = np.arange(0.14, 0.31, 0.02)


@dataclass(frozen=True, slots=True)
class Measured:
    """One pair and what was measured on it.

    Attributes:
        kind, group, same: as the index says.
        evidence: None where the two could not be registered.
        refused: why no comparison took place: HIDDEN_CONTENT or why a file was not accepted; empty mostly.
        ms: CPU milliseconds of one comparison, with the reading of the query's text.
    """

    kind: str
    group: str
    same: bool
    evidence: Evidence | None
    refused: str
    ms: float

    def reason(self, limits: Limits = DEFAULT_LIMITS) -> str:
        """COPY, or why the pair was not taken for one."""
        return self.refused or judge(self.evidence, limits)[2]


def weigh(line: tuple[Path, dict[str, str]]) -> Measured:
    """Measure one pair as a look-up would: the first is stored, the second asked about."""
    cv2.setNumThreads(1)
    root, row = line
    same, evidence, refused, took = bool(row["same"]), None, "", 0.0
    try:
        first, second = (
            open_picture((root / row[one]).read_bytes(), max_bytes=MAX_BYTES) for one in ("first", "second")
        )
        stored = Fingerprint.from_bytes(take_fingerprint(first).to_bytes())
        start = time.thread_time()
        query = take_fingerprint(second)
        if first.pixel_digest == second.pixel_digest:
            refused = "COPY"
        elif stored.hidden or query.hidden:
            refused = "HIDDEN_CONTENT"
        else:
            evidence = measure(stored, query)
        took = (time.thread_time() - start) * 1e3
    except PictureError as error:
        refused = error.reason
    return Measured(row["kind"], row["group"], same, evidence, refused, took)


def half_of(kind: str) -> int:
    """0 or 1, by the name of the kind."""
    return hashlib.sha256(kind.encode()).digest()[0] & 1


def fit(pairs: Sequence[Measured]) -> Limits:
    """The limits on shape and strokes that take most copies of `pairs`, MARGIN inside of every look-alike."""
    best, most = DEFAULT_LIMITS, -1
    for shape, stroke in product(SHAPES, STROKES):
        limits = replace(DEFAULT_LIMITS, shape=float(shape), stroke=float(stroke))
        wider = replace(limits, shape=limits.shape * MARGIN, stroke=limits.stroke * MARGIN)
        if any(pair.reason(wider) == "COPY" for pair in pairs if not pair.same):
            continue
        taken = sum(pair.reason(limits) == "COPY" for pair in pairs if pair.same)
        if taken > most:
            best, most = limits, taken
    return best


def row(name: str, pairs: Sequence[Measured], limits: Limits = DEFAULT_LIMITS) -> str:
    """One line of the table."""
    taken = sum(pair.reason(limits) == "COPY" for pair in pairs)
    low, high = interval(taken, len(pairs))
    why = Counter(pair.reason(limits) for pair in pairs if pair.reason(limits) != "COPY")
    return f"{name:44} {taken:5} of {len(pairs):5}  {low:.4f}-{high:.4f}  {dict(why.most_common(3))}"


def worth(pairs: Sequence[Measured]) -> None:
    """Print, for each kind of comparison, how many look-alikes pass at most, and so what a passed check is worth.

    The bound is one-sided, 95 %. It is the chance of being wrong where look-alikes and copies come equally often and
    every copy passes; `CHECK_PROBABILITY` of `dedup_service.usecases.image_resolver` is taken from here.
    """
    print("\nWhat was compared: look-alikes that passed, at most (95 %); copies that passed")
    for comparison in sorted({kind_of(pair.evidence) for pair in pairs}):
        of_kind = [pair for pair in pairs if kind_of(pair.evidence) == comparison]
        passed = {same: [pair.reason() == "COPY" for pair in of_kind if pair.same == same] for same in (False, True)}
        wrong, tried = sum(passed[False]), len(passed[False])
        most = float(beta.ppf(0.95, wrong + 1, tried - wrong)) if tried > wrong else 1.0
        right, copies = sum(passed[True]), len(passed[True])
        print(f"  {comparison:12} {wrong:3} of {tried:5}  at most {most:.4f}   {right:5} of {copies:5}")


def show(pairs: Sequence[Measured]) -> None:
    """Print the tables."""
    refused = Counter((pair.same, pair.kind) for pair in pairs if pair.refused.startswith("IMAGE_"))
    pairs = [pair for pair in pairs if not pair.refused.startswith("IMAGE_")]
    print(f"Left out, since the service does not take such files: {dict(refused)}")
    groups: dict[tuple[bool, str], dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        groups[pair.same, pair.group][pair.kind].append(pair)
    for (same, group), of_group in sorted(groups.items()):
        print(f"\n{'Copies' if same else 'Look-alikes'}, {group}: taken for copies")
        for kind, members in sorted(of_group.items()):
            print("  " + row(kind, members))
        print("  " + row("all", [member for members in of_group.values() for member in members]))
    worth(pairs)
    for half in (0, 1):
        limits = fit([pair for pair in pairs if half_of(pair.kind) != half])
        scored = [pair for pair in pairs if half_of(pair.kind) == half]
        print(f"\nLimits from the other half of the kinds: shape {limits.shape:.3f}, stroke {limits.stroke:.2f}")
        for same, group in sorted(groups):
            members = [pair for pair in scored if (pair.same, pair.group) == (same, group)]
            kinds = len({pair.kind for pair in members})
            print("  " + row(f"{'copies' if same else 'look-alikes'}, {group}, {kinds} kinds", members, limits))
    took = [pair.ms for pair in pairs if pair.evidence is not None]
    print(f"\nCPU ms a comparison: median {statistics.median(took):.0f}, p95 {np.percentile(took, 95):.0f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--copies", type=int, help="at most so many copies of a kind")
    parser.add_argument("--limit", type=int, help="at most so many pairs of a kind")
    parser.add_argument("--json", type=Path, help="kind, same and reason of every pair")
    options = parser.parse_args()
    lines, seen = [], Counter[str]()
    for text in options.index.read_text(encoding="utf-8").splitlines():
        pair = json.loads(text)
        seen[pair["kind"]] += 1
        most = options.copies if pair["same"] and options.copies else options.limit
        if most is None or seen[pair["kind"]] <= most:
            lines.append((options.index.parent, pair))
    with Pool(options.workers) as pool:
        pairs = pool.map(weigh, lines, chunksize=8)
    show(pairs)
    if options.json:
        rows = [{"kind": pair.kind, "same": pair.same, "reason": pair.reason(), "ms": round(pair.ms)} for pair in pairs]
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
