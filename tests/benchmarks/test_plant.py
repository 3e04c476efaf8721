"""Planting wrong reuses: what is planted is what the benchmark says."""

from __future__ import annotations

from pathlib import Path

from benchmarks.plant import found_in, plant
from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader
from dedup_service.ledger.records import Decision, Label, Source, digest

FIELDS = ("total", "date", "number", "seller")
ANSWERS = {"total": "RM 5.00", "date": "2026-01-31", "number": "46623131", "seller": "HARBOUR STORE"}


def decision(number: int, **fields: object) -> Decision:
    """A look-up about one image; line `number` of the stream."""
    return Decision(f"{number:032x}", "acme", 1_000.0 + number, f"line-{number}", **fields)  # type: ignore[arg-type]


def asked(field: str, stored: str) -> dict[str, object]:
    """A question for one field that met the stored answer of another."""
    return {
        "nearest_entry": stored,
        "question_text": field,
        "question_digest": digest(field),
        "nearest_question_text": stored,
        "nearest_question_digest": digest(stored),
        "nearest_answer_text": ANSWERS[stored],
        "nearest_answer_digest": digest(ANSWERS[stored]),
        "nearest_image": "image",
        "image": "file",
        "image_tier": "BYTES",
        "image_verdict": "SAME",
        "image_score": 1.0,
        "question_tier": "NEIGHBOUR",
    }


def test_refused_look_ups_become_unlabelled_hits(tmp_path: Path) -> None:
    """A question that met another field's answer becomes a hit with a hit's score and without its label, and the audit
    finds it; what was rightly served stays as it was."""
    path = tmp_path / "ledger.sqlite"
    engine = open_database(f"sqlite:///{path}")
    ledger = Ledger(engine)
    lines = []
    for number, field in enumerate(FIELDS * 3):
        right = {**asked(field, field), "question_tier": "NEIGHBOUR"}
        served = decision(number, hit=True, would_hit=True, question_score=0.99, risk=0.01, **right)
        ledger.record_decision(served, keep_text=True)
        lines.append(ANSWERS[field])
    for number, field in enumerate(FIELDS, len(lines)):
        stored = FIELDS[(number + 1) % 4]
        refused = decision(number, question_score=0.2, risk=0.8, reason="QUESTION_UNSURE", **asked(field, stored))
        ledger.record_decision(refused, keep_text=True)
        ledger.record_label(Label(refused.id, "acme", Source.NEAR_MISS, False, 1_100.0), keep_text=True)
        lines.append(ANSWERS[field])
    ledger.close()
    plants = plant(path, lines, 4, seed=1)
    assert [one.kind for one in plants] == ["question"], "a look-alike or a veto there is not in this ledger"
    (planted,) = Reader(engine).by_id([plants[0].decision])
    assert planted.hit
    assert planted.question_score == 0.99
    assert planted.stratum == "exact/scored"
    assert Reader(engine).labels(planted.id) == []
    (found,) = found_in(path, plants, 40)
    assert found["rank"] == 1
    assert "ANSWERED_OTHERWISE" in found["signs"]
    engine.dispose()
