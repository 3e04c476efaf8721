"""Audits made-up ledgers whose truth is known: does the estimate cover it, are planted faults found, how long does a
million decisions take?

    python -m benchmarks.audit [--decisions 1000000] [--streams 3] [--json OUT] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ledgers import Made, make_ledger
from dedup_service.audit.sampling import accuracy
from dedup_service.audit.traffic import open_ledger, read_traffic
from dedup_service.ledger.reading import Reader, Span

END = 1_790_000_000.0
DAY = 86_400.0
RATES = (0.001, 0.005, 0.02)
"""True wrong-answer rates of the streams."""


def main() -> None:
    """Runs the parts and prints a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=1_000_000, help="decisions of the timed audit")
    parser.add_argument(
        "--stream-decisions", type=int, default=50_000, help="decisions of each stream with known truth"
    )
    parser.add_argument("--repeats", type=int, default=5, help="ledgers of each wrong-answer rate")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--keep", type=Path, help="keep the big ledger and its report in this folder")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = {
            "estimates": estimates(folder, chosen.stream_decisions, chosen.repeats),
            "planted": planted(folder, chosen.stream_decisions),
            "speed": speed(chosen.keep or folder, chosen.decisions),
        }
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def estimates(folder: Path, decisions: int, repeats: int) -> list[dict[str, Any]]:
    """The estimated wrong-answer rate against the truth, with a fiftieth of the hits verified."""
    print(f"estimate against truth ({decisions:,} decisions a stream, 2 % of the hits verified, 95 % interval)")
    print(f"{'true rate':>10} {'estimate':>10} {'interval':>22} {'covered':>8}")
    rows = []
    for rate in RATES:
        for seed in range(repeats):
            path = folder / "stream.sqlite"
            made = make_ledger(path, decisions=decisions, wrong_rate=rate, seed=seed)
            interval = estimate_of(made)
            covered = interval[0] <= made.wrong_rate <= interval[2]
            rows.append(
                {
                    "true": made.wrong_rate,
                    "low": interval[0],
                    "mid": interval[1],
                    "high": interval[2],
                    "covered": covered,
                }
            )
            text = f"{interval[0]:.3%} to {interval[2]:.3%}"
            print(f"{made.wrong_rate:>10.3%} {interval[1]:>10.3%} {text:>22} {'yes' if covered else 'NO':>8}")
            path.unlink()
    print(f"covered: {sum(row['covered'] for row in rows)} of {len(rows)}\n")
    return rows


def estimate_of(made: Made) -> tuple[float, float, float]:
    """The estimate that an audit of a whole ledger makes."""
    engine = open_ledger(made.url)
    try:
        interval = accuracy(read_traffic(Reader(engine), Span()), 0.95).interval
    finally:
        engine.dispose()
    return interval.low, interval.mid, interval.high


def planted(folder: Path, decisions: int) -> dict[str, Any]:
    """How many of ten planted wrong reuses, with fine scores and no label, are among the top 40 findings."""
    path = folder / "planted.sqlite"
    made = make_ledger(path, decisions=decisions, wrong_rate=0.0, planted=10, seed=3)
    from dedup_service.audit.suspicion import suspicious

    engine = open_ledger(made.url)
    try:
        reader = Reader(engine)
        traffic = read_traffic(reader, Span())
        found = suspicious(traffic, reader.by_id)
        # a finding stands for its pair: another decision of the same pair has the same verdict
        shown = {(d.tenant, d.question_digest, d.nearest_entry) for d in reader.by_id([f.decision for f in found])}
        pairs = {
            (d.tenant, d.question_digest, d.nearest_question_digest)
            for d in reader.by_id([f.decision for f in found if "VETO_NOW" in f.signs])
        }
        plants = reader.by_id(made.planted)
        hit = [
            d for d in plants
            if (d.tenant, d.question_digest, d.nearest_entry) in shown
            or (d.tenant, d.question_digest, d.nearest_question_digest) in pairs
        ]  # fmt: skip
    finally:
        engine.dispose()
    path.unlink()
    kinds = {"another field's question": 0, "a look-alike": 0, "a poisoned entry": 0}
    for decision in hit:
        kinds[kind_of(decision.nearest_answer_text, decision.image_tier)] += 1
    print(f"planted: {len(hit)} of {len(plants)} among the top {len(found)} findings {kinds}\n")
    return {"planted": len(plants), "found": len(hit), "findings": len(found), "kinds": kinds}


def kind_of(answer: str | None, image_tier: str) -> str:
    """Which fault was planted."""
    if image_tier == "PERCEPTUAL":
        return "a look-alike"
    return "a poisoned entry" if answer == "FREE MONEY Ltd" else "another field's question"


def speed(folder: Path, decisions: int) -> dict[str, Any]:
    """Wall time, memory and size of one whole report, made by the command line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ledger-{decisions}.sqlite"
    if not path.exists():
        make_ledger(path, decisions=decisions, planted=10)
    out = folder / "report"
    command = [sys.executable, "-m", "dedup_service.console", "audit", "--ledger", f"sqlite:///{path}", "--since",
               "14d", "--until", str(END), "--out", str(out), "--price", "2.5"]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory, processor = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    size = (out / "report.html").stat().st_size
    pairs = (out / "pairs.parquet").stat().st_size
    print(f"{'decisions':>12} {'seconds':>9} {'CPU s':>7} {'memory':>9} {'report.html':>12} {'pairs.parquet':>14}")
    sizes = f"{size / 1e6:>9.2f} MB {pairs / 1e6:>11.1f} MB"
    print(f"{decisions:>12,} {seconds:>9.1f} {processor:>7.1f} {memory:>6.0f} MB {sizes}")
    print(f"{'limit':>12} {60:>9} {'':>7} {1024:>6} MB {5:>9} MB")
    return {
        "decisions": decisions,
        "seconds": seconds,
        "cpu_seconds": processor,
        "memory_mb": memory,
        "html_bytes": size,
        "pairs_bytes": pairs,
    }


if __name__ == "__main__":
    main()
