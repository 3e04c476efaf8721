"""What look-ups measure, in the ledger's words. Every label's values are a closed list; no tenant and no text among
them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Histogram

from askonce.telemetry import children
from dedup_service.ledger.records import Decision

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

LOOKUPS = Counter(
    "askonce_dedup_lookups_total",
    "Decided look-ups by the tiers that settled image and question (NONE: nothing was found), outcome and reason.",
    ["image_tier", "question_tier", "outcome", "reason"],
)
STAGES = Histogram(
    "askonce_dedup_stage_seconds",
    "Time of a look-up's stages: hot (all of an exact repeat), recognise (the image), match (the question).",
    ["stage"],
    buckets=SECONDS,
)
CHECKS = Histogram(
    "askonce_dedup_check_seconds",
    "Time of one look-alike check, waiting for a worker included.",
    ["verdict"],
    buckets=SECONDS,
)
CANDIDATES = Histogram(
    "askonce_dedup_candidates",
    "Candidates that a look-up compared: images put to the look-alike check, questions scored.",
    ["kind"],
    buckets=(0, 1, 2, 3, 5, 10, 20),
)

lookups, stages = children(LOOKUPS), children(STAGES)


def count(decision: Decision, timings: Mapping[str, float]) -> None:
    """Counts a decided look-up; `timings` are milliseconds by stage."""
    lookups(
        decision.image_tier or "NONE",
        decision.question_tier or "NONE",
        "hit" if decision.hit else "miss",
        decision.reason,
    ).inc()
    for stage, milliseconds in timings.items():
        stages(stage).observe(milliseconds / 1e3)
