"""Copies in, look-alikes out: how well images are told apart, and what it costs.

    python -m benchmarks.images PAIRS.jsonl [--json OUT] [--workers 1] [--limit N] [--scores OUT.npz]

Input lines: {"a": path, "b": path, "same": bool, "kind": str}, paths relative to the file; "source", "detail" and
"legible" are used where present (`benchmarks.make_image_pairs` writes them). `a` is the stored image: it goes through
its fingerprint's bytes. `b` is the query.

Source images are split in two by name. Whatever has a threshold is fitted on one half (the loosest that accepts none of
its look-alikes, less a margin for the look-alike check) and scored on the other, both ways round; the shipped limits
are scored on everything. Intervals are Clopper-Pearson, 95 %.
"""

import argparse
import hashlib
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import product
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from dedup_service.image.dct import DctEncoder
from dedup_service.image.fingerprint import Fingerprint, take_fingerprint
from dedup_service.image.lookalike import DEFAULT_LIMITS, Evidence, Limits, judge, measure
from dedup_service.image.perceptual import hamming, perceptual_hash, turned_hashes
from dedup_service.image.picture import Picture, PictureError, open_picture

MAX_BYTES = 64 * 2**20  # the benchmark reads originals that the service would refuse for their file size

PHASH_LIMIT = 5
PDQ_LIMIT = 31
# The fitted limits stay this far inside the nearest look-alike of the fitting half.
MARGIN = 1.2


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of the input."""

    a: str
    b: str
    same: bool
    kind: str
    source: str
    detail: str
    legible: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured on one pair.

    Attributes:
        evidence: None where the two could not be registered.
        phash: Hamming distance of 256-bit pHashes.
        pdq: Hamming distance of PDQ hashes; 256 where pdqhash is not installed.
        cosine: cosine of the `dct` descriptors, the best of four turns.
        bytes_stored: bytes of the stored image's fingerprint.
        ms: CPU milliseconds of this thread, by stage.
        refused: why an image was not accepted at all; empty mostly.
    """

    pair: Pair
    evidence: Evidence | None
    phash: int
    pdq: int
    cosine: float
    bytes_stored: int
    ms: dict[str, float]
    refused: str = ""


def read_pairs(path: Path) -> list[Pair]:
    """The lines of the input; `source` defaults to the path of `a`, `legible` to true."""
    pairs = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                one = json.loads(line)
                pairs.append(
                    Pair(
                        one["a"],
                        one["b"],
                        bool(one["same"]),
                        str(one["kind"]),
                        str(one.get("source", one["a"])),
                        str(one.get("detail", "")),
                        bool(one.get("legible", True)),
                    )
                )
    return pairs


class Stopwatch:
    """CPU time of this thread by stage, milliseconds. Other processes on the machine do not count."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        start = time.thread_time()
        done = work()
        self.ms[stage] = (time.thread_time() - start) * 1e3
        return done


_root = Path()
_encoder = DctEncoder()


def _start(root: Path) -> None:
    global _root
    _root = root
    cv2.setNumThreads(1)


@lru_cache(maxsize=4)
def _stored(name: str) -> tuple[Picture, Fingerprint, int, bytes, int, np.ndarray, np.ndarray]:
    picture = open_picture((_root / name).read_bytes(), max_bytes=MAX_BYTES)
    packed = take_fingerprint(picture).to_bytes()
    return (
        picture,
        Fingerprint.from_bytes(packed),
        len(packed),
        perceptual_hash(picture),
        0,
        _pdq(picture),
        _encoder.encode([picture])[0],
    )


def _pdq(picture: Picture) -> np.ndarray:
    try:
        import pdqhash
    except ImportError:
        return np.zeros(0, np.uint8)
    vector, _ = pdqhash.compute(picture.rgb)
    return np.asarray(vector)


def weigh(pair: Pair) -> Outcome:
    """Measure one pair, as a look-up would."""
    watch = Stopwatch()
    try:
        _, stored, size, stored_hash, _, stored_pdq, stored_vector = _stored(pair.a)
        content = (_root / pair.b).read_bytes()
        picture: Picture = watch("decode and digests", lambda: open_picture(content, max_bytes=MAX_BYTES))
    except PictureError as error:
        return Outcome(pair, None, 256, 256, -1.0, 0, watch.ms, error.reason)
    hashes = watch("perceptual hash, 4 turns", lambda: turned_hashes(picture))
    vectors = watch("descriptor, 4 turns", lambda: _encoder.encode_turns(picture))
    query = watch("fingerprint", lambda: take_fingerprint(picture))
    evidence = watch("look-alike check", lambda: measure(stored, query))
    watch.ms["total"] = sum(watch.ms.values())
    pdq = _pdq(picture)
    return Outcome(
        pair,
        evidence,
        min(hamming(stored_hash, one) for one in hashes),
        int((pdq != stored_pdq).sum()) if len(pdq) else 256,
        float((vectors @ stored_vector).max()),
        size,
        watch.ms,
    )


def half_of(pair: Pair) -> int:
    """0 or 1, by the name of the source image: all pairs of one image fall into one half."""
    return hashlib.sha256(pair.source.encode()).digest()[0] & 1


def interval(hits: int, count: int) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of a share."""
    if count == 0:
        return 0.0, 1.0
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def verdict_of(outcome: Outcome, limits: Limits = DEFAULT_LIMITS) -> tuple[str, float, str]:
    """Verdict, score and reason for one outcome."""
    if outcome.refused:
        return "unsure", np.inf, outcome.refused
    verdict, score, reason, _, _ = judge(outcome.evidence, limits)
    return verdict, score, reason


def fit_limits(outcomes: Sequence[Outcome]) -> Limits:
    """The limits on shape and faint print that accept most copies of `outcomes`, MARGIN inside of every look-alike."""
    best, most = DEFAULT_LIMITS, -1
    for shape, faint in product(np.arange(0.2, 0.61, 0.02), np.arange(0.3, 0.91, 0.05)):
        limits = replace(DEFAULT_LIMITS, shape=float(shape), faint=float(faint))
        wider = replace(limits, shape=limits.shape * MARGIN, faint=limits.faint * MARGIN)
        if any(verdict_of(o, wider)[0] == "same" for o in outcomes if not o.pair.same):
            continue
        accepted = sum(verdict_of(o, limits)[0] == "same" for o in outcomes if o.pair.same)
        if accepted > most:
            best, most = limits, accepted
    return best


def share(flags: Iterable[bool]) -> float:
    """Mean of booleans; 0 of none."""
    flags = list(flags)
    return sum(flags) / len(flags) if flags else 0.0


def best_threshold(scored: Sequence[tuple[float, bool]]) -> float:
    """The loosest limit on a distance that still accepts none of the look-alikes."""
    return min((score for score, same in scored if not same), default=np.inf)


def baselines(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Accepted shares of the plain tiers, beside the same pairs."""
    same = [o for o in outcomes if o.pair.same]
    different = [o for o in outcomes if not o.pair.same]
    halves = [[o for o in outcomes if half_of(o.pair) == half] for half in (0, 1)]
    limits = [best_threshold([(-o.cosine, o.pair.same) for o in half]) for half in halves]

    def shares(accepts: Callable[[Outcome], bool]) -> dict[str, float]:
        return {"accepted_same": share(map(accepts, same)), "accepted_different": share(map(accepts, different))}

    found = {
        f"phash_{PHASH_LIMIT}_of_256": shares(lambda o: o.phash <= PHASH_LIMIT),
        f"pdq_{PDQ_LIMIT}_of_256": shares(lambda o: o.pdq <= PDQ_LIMIT),
        # Fitted on the other half to accept none of its look-alikes: what "a stricter threshold" would be worth.
        "dct_cosine_best": shares(lambda o: -o.cosine < limits[1 - half_of(o.pair)]),
        "dct_cosine_0.95": shares(lambda o: o.cosine >= 0.95),
    }
    zero = [best_threshold([(o.phash, o.pair.same) for o in half]) for half in halves]
    found["phash_best"] = shares(lambda o: o.phash < zero[1 - half_of(o.pair)])
    return found


def tally(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Accepted and unsure shares by kind; a kind with both labels becomes "kind (same)" and "kind (different)"."""
    labels: dict[str, set[bool]] = defaultdict(set)
    for outcome in outcomes:
        labels[outcome.pair.kind].add(outcome.pair.same)
    groups: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        kind = outcome.pair.kind
        if len(labels[kind]) == 2:
            kind = f"{kind} ({'same' if outcome.pair.same else 'different'})"
        groups[kind].append(verdict_of(outcome)[0])
    return {
        kind: {
            "n": len(verdicts),
            "accepted": share(v == "same" for v in verdicts),
            "unsure": share(v == "unsure" for v in verdicts),
        }
        for kind, verdicts in sorted(groups.items())
    }


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything `--json` writes."""
    same = [o for o in outcomes if o.pair.same]
    different = [o for o in outcomes if not o.pair.same]
    stages = sorted({stage for o in outcomes for stage in o.ms})
    sizes = [o.bytes_stored for o in outcomes if o.bytes_stored]
    crossed = []
    for half in (0, 1):
        fitting = [o for o in outcomes if half_of(o.pair) != half]
        scored = [o for o in outcomes if half_of(o.pair) == half]
        limits = fit_limits(fitting)
        verdicts = [(o, verdict_of(o, limits)[0] == "same") for o in scored]
        crossed.append(
            {
                "limits": {"shape": limits.shape, "faint": limits.faint},
                "n_same": sum(o.pair.same for o in scored),
                "n_different": sum(not o.pair.same for o in scored),
                "accepted_same": share(ok for o, ok in verdicts if o.pair.same),
                "accepted_legible": share(ok for o, ok in verdicts if o.pair.same and o.pair.legible),
                "accepted_different": share(ok for o, ok in verdicts if not o.pair.same),
            }
        )
    wrong = sum(verdict_of(o)[0] == "same" for o in different)
    right = sum(verdict_of(o)[0] == "same" for o in same)
    return {
        "n_same": len(same),
        "n_different": len(different),
        "accepted_same": share(verdict_of(o)[0] == "same" for o in same),
        "accepted_same_interval": interval(right, len(same)),
        "accepted_different": share(verdict_of(o)[0] == "same" for o in different),
        "accepted_different_count": wrong,
        "accepted_different_interval": interval(wrong, len(different)),
        "unsure_same": share(verdict_of(o)[0] == "unsure" for o in same),
        "accepted_legible": share(verdict_of(o)[0] == "same" for o in same if o.pair.legible),
        "by_kind": tally(outcomes),
        "by_kind_legible": tally([o for o in same if o.pair.legible]),
        "by_detail": tally([replace(o, pair=replace(o.pair, kind=o.pair.detail or o.pair.kind)) for o in outcomes]),
        "ms_median": statistics.median(o.ms["total"] for o in outcomes if "total" in o.ms) if outcomes else 0.0,
        "ms_by_stage": {s: statistics.median(o.ms[s] for o in outcomes if s in o.ms) for s in stages},
        "ms_p95": float(np.percentile([o.ms["total"] for o in outcomes if "total" in o.ms], 95)) if outcomes else 0.0,
        "fingerprint_bytes": statistics.median(sizes) if sizes else 0,
        "fingerprint_bytes_p90": float(np.percentile(sizes, 90)) if sizes else 0.0,
        "baselines": baselines(outcomes),
        "limits": asdict(DEFAULT_LIMITS),
        "half_fitted_half_scored": crossed,
    }


def show(summary: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Print the tables."""
    console = Console()
    for title, rows in (
        ("By kind", summary["by_kind"]),
        ("Readable copies", summary["by_kind_legible"]),
        ("By what was done", summary["by_detail"]),
    ):
        table = Table("kind", "n", "accepted", "95 % interval", "unsure", title=title)
        for kind, row in rows.items():
            low, high = interval(round(row["accepted"] * row["n"]), row["n"])
            table.add_row(
                kind, str(row["n"]), f"{row['accepted']:.3f}", f"{low:.3f}–{high:.3f}", f"{row['unsure']:.3f}"
            )
        console.print(table)
    table = Table("", "copies accepted", "look-alikes accepted", "95 % interval", title="Overall")
    low, high = summary["accepted_different_interval"]
    table.add_row(
        "look-alike check",
        f"{summary['accepted_same']:.3f}",
        f"{summary['accepted_different']:.4f} ({summary['accepted_different_count']} of {summary['n_different']})",
        f"{low:.4f}–{high:.4f}",
    )
    for name, row in summary["baselines"].items():
        low, high = interval(round(row["accepted_different"] * summary["n_different"]), summary["n_different"])
        table.add_row(name, f"{row['accepted_same']:.3f}", f"{row['accepted_different']:.4f}", f"{low:.4f}–{high:.4f}")
    console.print(table)
    for crossed in summary["half_fitted_half_scored"]:
        low, high = interval(round(crossed["accepted_different"] * crossed["n_different"]), crossed["n_different"])
        console.print(
            f"fitted on the other half (shape {crossed['limits']['shape']:.2f}, "
            f"faint {crossed['limits']['faint']:.2f}): copies {crossed['accepted_same']:.3f} of "
            f"{crossed['n_same']} (readable {crossed['accepted_legible']:.3f}), "
            f"look-alikes {crossed['accepted_different']:.4f} of {crossed['n_different']} ({low:.4f}–{high:.4f})"
        )
    console.print("ms, one core, median:", {stage: round(ms, 1) for stage, ms in summary["ms_by_stage"].items()})
    console.print(
        f"fingerprint: {summary['fingerprint_bytes']} bytes median, "
        f"{summary['fingerprint_bytes_p90']:.0f} at the 90th percentile"
    )
    refused = Counter(verdict_of(o)[2] for o in outcomes if o.pair.same and verdict_of(o)[0] != "same")
    console.print("copies not accepted, by reason:", dict(refused.most_common()))
    scored = [(verdict_of(o)[1], o.pair) for o in outcomes if not o.pair.same]
    close = sorted(((score, pair) for score, pair in scored if np.isfinite(score)), key=lambda one: one[0])
    console.print("nearest look-alikes:", [(round(score, 2), p.kind, p.detail, p.b) for score, p in close[:8]])


def run(path: Path, *, workers: int, limit: int | None) -> list[Outcome]:
    """Measure the pairs of one file, in its order."""
    pairs = read_pairs(path)[:limit]
    if workers == 1:
        _start(path.parent)
        return [weigh(pair) for pair in pairs]
    with Pool(workers, initializer=_start, initargs=(path.parent,)) as pool:
        return pool.map(weigh, pairs, chunksize=16)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scores", type=Path, help="scores and labels of every pair, for the figures")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    outcomes = run(options.pairs, workers=options.workers, limit=options.limit)
    summary = summarise(outcomes)
    show(summary, outcomes)
    if options.json:
        options.json.write_text(json.dumps(summary, indent=2, ensure_ascii=False), encoding="utf-8")
    if options.scores:
        np.savez_compressed(
            options.scores,
            score=np.array([verdict_of(o)[1] for o in outcomes]),
            same=np.array([o.pair.same for o in outcomes]),
            legible=np.array([o.pair.legible for o in outcomes]),
            kind=np.array([o.pair.kind for o in outcomes]),
            detail=np.array([o.pair.detail for o in outcomes]),
            reason=np.array([verdict_of(o)[2] for o in outcomes]),
        )


if __name__ == "__main__":
    main()
