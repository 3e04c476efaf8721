"""How fast the ledger takes, writes and reads decisions: can it keep up with a million a day?

    python -m benchmarks.ledger [--decisions 1000000] [--url sqlite:///PATH] [--json OUT]

Writes the decisions as fast as the writer goes (about a fifth of them hits, a twentieth labelled), then reads them
back as an audit does, and then records at a steady pace to time what a request sees. A million a day is 11.6 a
second.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Decision, Label, Source, new_id
from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.preview import preview
from dedup_service.policy.thresholds import PRIOR

DAILY = 1_000_000 / 86_400
"""Decisions a second in a day of a million."""
PACE = 200.0
"""Decisions a second while the cost for a request is timed: 17 times the day's mean."""
PACED_SECONDS = 10.0


def main() -> None:
    """Runs the benchmark and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--url", help="an empty database; default: SQLite in a temporary folder")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="askonce-ledger-") as folder:
        url = arguments.url or f"sqlite:///{folder}/ledger.db"
        figures = measure(url, arguments.decisions)
        if not arguments.url:
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
            figures["bytes_per_decision"] = size / arguments.decisions
    for name, value in figures.items():
        print(f"{name:<32}{value:>16,.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure(url: str, count: int) -> dict[str, float]:
    """Every figure; seconds, rates a second, milliseconds and megabytes as the names say."""
    engine = open_database(url)
    ledger = Ledger(engine)
    figures: dict[str, float] = {"decisions": count}
    started = time.perf_counter()
    written = fill(ledger, count)
    if not ledger.flush(600):
        raise RuntimeError("the ledger fell behind")
    seconds = time.perf_counter() - started
    figures["write_seconds"] = seconds
    figures["written_per_second"] = written / seconds
    figures["times_a_million_a_day"] = written / seconds / DAILY
    figures.update(paced(ledger))
    ledger.close(60)
    figures["dropped"] = ledger.state().dropped
    started = time.perf_counter()
    recorded = Reader(engine).recorded(Span())
    figures["read_seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    preview(recorded, Policy(), Policy(mode=Mode.STATIC, question_threshold=0.9), PRIOR)
    figures["preview_seconds"] = time.perf_counter() - started
    figures["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    engine.dispose()
    return figures


def fill(ledger: Ledger, count: int) -> int:
    """Records `count` decisions and their labels as fast as the writer takes them; returns the number of records."""
    chance = random.Random(5)
    now = time.time() - count / DAILY
    records = 0
    for number in range(count):
        made = decision(chance, now + number / DAILY)
        while ledger.state().queued > ledger.capacity - 10:
            time.sleep(0.01)
        ledger.record_decision(made, keep_text=True)
        records += 1
        if number % 20 == 0:
            ledger.record_label(
                Label(made.id, made.tenant, Source.NEAR_MISS, chance.random() < 0.95, made.time), keep_text=True
            )
            records += 1
    return records


def decision(chance: random.Random, when: float) -> Decision:
    """A decision of ordinary size."""
    score = chance.random()
    hit = score > 0.8
    base = Decision(
        id=new_id(when),
        tenant=f"tenant-{chance.randrange(20)}",
        time=when,
        request_id=f"{chance.getrandbits(64):016x}",
        hit=hit,
        would_hit=hit,
        reason="KNOWN" if hit else "QUESTION_UNSURE",
        image_tier="BYTES",
        image_verdict="SAME",
        image_score=1.0,
        image_reason="SAME_BYTES",
        question_tier="KNOWN" if hit else "NEIGHBOUR",
        question_verdict="SAME" if hit else "UNSURE",
        question_score=score,
        question_reason="INTENT" if hit else "SCORED",
        stratum="exact/known" if hit else "exact/scored",
        risk=1 - score,
        max_risk=0.01,
        image_threshold=0.98,
        question_threshold=0.98,
        policy_revision=3,
        image=f"{chance.getrandbits(256):064x}",
        nearest_image=f"{chance.getrandbits(128):032x}",
        nearest_entry=f"{chance.getrandbits(128):032x}",
        question_text=f"What is the total amount on receipt {chance.randrange(10_000)}?",
        nearest_question_text="how much is it in all?",
        nearest_answer_text=f"RM {chance.randrange(10_000) / 100:.2f}",
        language="en",
        model="reader",
        timings={"decode": 3.1, "encode": 6.2, "search": 1.4, "decide": 0.2},
        propensity=0.01 if hit else 0.0,
    )
    return replace(base, entry=base.nearest_entry) if hit else base


def paced(ledger: Ledger) -> dict[str, float]:
    """What recording costs a request at a steady pace: milliseconds a call, and the most records that ever waited."""
    chance = random.Random(6)
    calls: list[float] = []
    waiting = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < PACED_SECONDS:
        made = decision(chance, time.time())
        before = time.perf_counter()
        ledger.record_decision(made, keep_text=True)
        calls.append(time.perf_counter() - before)
        waiting = max(waiting, ledger.state().queued)
        time.sleep(max(0.0, len(calls) / PACE - elapsed))
    calls.sort()
    return {
        "paced_per_second": len(calls) / PACED_SECONDS,
        "record_ms_p50": calls[len(calls) // 2] * 1000,
        "record_ms_p99": calls[int(len(calls) * 0.99)] * 1000,
        "most_waiting": waiting,
    }


if __name__ == "__main__":
    main()
