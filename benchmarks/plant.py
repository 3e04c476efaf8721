"""Plants wrong reuses in the ledger of a replay, and counts how many of them an audit puts among its top findings.

    python -m benchmarks.plant LEDGER STREAM [--count 10] [--seeds 5] [--json OUT]

LEDGER is the SQLite file that `benchmarks.replay --home HOME` left in HOME/dedup, STREAM the stream that it played. In
a copy, look-ups that were rightly refused become hits, as if the decision had erred this once: half of them
look-alikes taken for copies, half of them questions taken for others. Each has the scores of a real hit of its kind
and no label. That the stored answer is wrong for it is known from the stream.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dedup_service.audit.suspicion import suspicious
from dedup_service.audit.traffic import open_ledger, read_traffic
from dedup_service.ledger.reading import Reader, Span
from dedup_service.policy.reuse import combine, hit_reason, stratum_of
from dedup_service.question.answers import compare_answers

QUESTIONS = """
    SELECT d.*, d.nearest_answer_text AS stored FROM decisions d
    WHERE d.hit = 0 AND d.image_verdict = 'SAME' AND d.nearest_answer_text IS NOT NULL AND d.vetoes IS NULL
"""
"""Refused for the question alone, without a veto: a veto is looked up anew in every audit."""
VETOED = QUESTIONS.replace("IS NULL", "IS NOT NULL")
"""Refused for the question, with a veto."""
LOOKALIKES = """
    SELECT d.*, h.nearest_entry AS other_entry, h.nearest_question_text AS other_text,
           h.nearest_question_digest AS other_digest, h.nearest_answer_text AS stored,
           h.nearest_answer_digest AS stored_digest, h.question_tier AS other_tier, h.question_score AS other_score
    FROM decisions d JOIN decisions h ON h.hit = 1 AND h.nearest_image = d.nearest_image
         AND h.question_digest = d.question_digest
    WHERE d.reason = 'IMAGE_LOOKALIKE' GROUP BY d.id
"""
"""Refused look-alikes whose question the other image has an answer to."""


@dataclass(frozen=True)
class Plant:
    """A look-up to be turned into a wrong reuse."""

    kind: str
    decision: str
    entry: str
    changes: dict[str, Any]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("stream", type=Path)
    parser.add_argument("--count", type=int, default=10, help="wrong reuses to plant")
    parser.add_argument("--seeds", type=int, default=5, help="how often, with other ones each time")
    parser.add_argument("--most", type=int, default=40, help="top findings that count")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    chosen = parser.parse_args()
    with chosen.stream.open(encoding="utf-8") as file:
        answers = [json.loads(line)["answer"] for line in file if line.strip()]
    rounds = []
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "ledger.sqlite"
            copied(chosen.ledger, copy)
            rounds.append(found_in(copy, plant(copy, answers, chosen.count, seed), chosen.most))
    show(rounds, chosen.most)
    if chosen.json:
        chosen.json.write_text(json.dumps(rounds, indent=1), encoding="utf-8")


def copied(ledger: Path, copy: Path) -> None:
    """Copies a ledger with what is still in its log."""
    shutil.copy(ledger, copy)
    for suffix in ("-wal", "-shm"):
        beside = ledger.with_name(ledger.name + suffix)
        if beside.exists():
            shutil.copy(beside, copy.with_name(copy.name + suffix))


def plant(ledger: Path, answers: Sequence[str], count: int, seed: int) -> list[Plant]:
    """Turns `count` refused look-ups into wrong reuses; returns which."""
    draw = random.Random(seed)
    connection = sqlite3.connect(ledger)
    connection.row_factory = sqlite3.Row
    with connection:
        copies = scores(connection, "image_score", "image_tier", ("PERCEPTUAL", "NEIGHBOUR"))
        plants: list[Plant] = []
        kinds = (("look-alike", LOOKALIKES, count // 2), ("question", QUESTIONS, (count + 1) // 4),
                 ("vetoed question", VETOED, count - count // 2 - (count + 1) // 4))  # fmt: skip
        for kind, query, wanted in kinds:
            rows = [row for row in connection.execute(query) if is_wrong(row, answers)]
            draw.shuffle(rows)
            once: dict[tuple[str, str], sqlite3.Row] = {}
            for row in rows:
                once.setdefault((row["question_digest"], row["nearest_image"]), row)
            for row in [*once.values()][:wanted]:
                if kind == "look-alike":
                    plants.append(lookalike(row, draw.choice(copies)))
                else:
                    tier = scores(connection, "question_score", "question_tier", (row["question_tier"],))
                    plants.append(question(row, kind, draw.choice(tier)))
        for one in plants:
            fields = ", ".join(f"{name} = :{name}" for name in one.changes)
            connection.execute(f"UPDATE decisions SET {fields} WHERE id = :id", {**one.changes, "id": one.decision})
            connection.execute("DELETE FROM labels WHERE decision = ?", (one.decision,))
    connection.close()
    return plants


def scores(connection: sqlite3.Connection, score: str, tier: str, tiers: Sequence[str]) -> list[float]:
    """The scores of real hits of some tiers."""
    marks = ", ".join("?" * len(tiers))
    query = f"SELECT {score} FROM decisions WHERE hit = 1 AND {score} IS NOT NULL AND {tier} IN ({marks})"
    return [row[0] for row in connection.execute(query, tiers)]


def is_wrong(row: sqlite3.Row, answers: Sequence[str]) -> bool:
    """Whether the stored answer is wrong for this request, by the stream."""
    number = int(str(row["request_id"]).removeprefix("line-").partition("/")[0])
    return compare_answers(row["stored"], answers[number]).verdict == "different"


def question(row: sqlite3.Row, kind: str, score: float) -> Plant:
    """A question taken for another one about the same image."""
    image = row["image_score"] if row["image_score"] is not None else 1.0
    tier = row["question_tier"]
    changes = {
        **served(row["image_tier"], tier, image, score),
        "question_verdict": "SAME",
        "question_score": score,
        "vetoes": None,
        "entry": row["nearest_entry"],
    }
    return Plant(kind, row["id"], row["nearest_entry"], changes)


def lookalike(row: sqlite3.Row, score: float) -> Plant:
    """A look-alike taken for a copy, and served what the other image was asked before."""
    same_text = row["other_digest"] == row["question_digest"]
    tier, asked = ("EXACT", 1.0) if same_text else (row["other_tier"], row["other_score"])
    changes = {
        **served(row["image_tier"], tier, score, asked),
        "image_verdict": "SAME",
        "image_reason": "COPY",
        "image_score": score,
        "image_box": None,
        "question_tier": tier,
        "question_verdict": "SAME",
        "question_score": asked,
        "entry": row["other_entry"],
        "nearest_entry": row["other_entry"],
        "nearest_question_text": row["other_text"],
        "nearest_question_digest": row["other_digest"],
        "nearest_answer_text": row["stored"],
        "nearest_answer_digest": row["stored_digest"],
    }
    return Plant("look-alike", row["id"], row["other_entry"], changes)


def served(image_tier: str, question_tier: str, image: float, question: float) -> dict[str, Any]:
    """What every hit has."""
    return {
        "hit": 1,
        "would_hit": 1,
        "reason": hit_reason(question_tier, exact=False),
        "stratum": stratum_of(image_tier, question_tier),
        "risk": combine(image, question),
        "explored": 0,
    }


def found_in(ledger: Path, plants: Sequence[Plant], most: int) -> list[dict[str, Any]]:
    """Where each plant stands among the findings; a finding stands for all decisions of its pair."""
    engine = open_ledger(f"sqlite:///{ledger}")
    try:
        reader = Reader(engine)
        findings = suspicious(read_traffic(reader, Span()), reader.by_id, most)
        shown = {decision.id: decision for decision in reader.by_id([finding.decision for finding in findings])}
        planted = {decision.id: decision for decision in reader.by_id([one.decision for one in plants])}
    finally:
        engine.dispose()
    placed: list[dict[str, Any]] = []
    for one in plants:
        own = planted[one.decision]
        rank: int | None = None
        signs: tuple[str, ...] = ()
        for at, finding in enumerate(findings, 1):
            other = shown[finding.decision]
            same_pair = (other.question_digest, other.nearest_question_digest) == (
                own.question_digest,
                own.nearest_question_digest,
            )
            same_entry = (other.question_digest, other.nearest_entry) == (own.question_digest, own.nearest_entry)
            if finding.decision == one.decision or same_entry or (same_pair and "VETO_NOW" in finding.signs):
                rank, signs = at, finding.signs
                break
        placed.append({"kind": one.kind, "rank": rank, "signs": list(signs), "asked": own.question_text,
                       "stored": own.nearest_question_text})  # fmt: skip
    return placed


def show(rounds: Sequence[Sequence[dict[str, Any]]], most: int) -> None:
    """Prints a line a round."""
    console = Console()
    table = Table(title=f"wrong reuses planted, and found among the top {most}", title_justify="left")
    for name in ("round", "found", "ranks", "not found"):
        table.add_column(name)
    for number, plants in enumerate(rounds):
        ranks = sorted(one["rank"] for one in plants if one["rank"])
        missed = "; ".join(f"{one['kind']}: {one['asked']} / {one['stored']}" for one in plants if not one["rank"])
        table.add_row(str(number), f"{len(ranks)} of {len(plants)}", ", ".join(map(str, ranks)), missed)
    console.print(table)
    total = sum(len(plants) for plants in rounds)
    console.print(f"found: {sum(bool(one['rank']) for plants in rounds for one in plants)} of {total}")


if __name__ == "__main__":
    main()
