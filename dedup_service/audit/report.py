"""The report as a value: everything that the page shows and `report.json` holds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from dedup_service.audit.curves import CalibrationBin, Drift, Scores, Share, Slot, SweepPoint
from dedup_service.audit.sampling import Accuracy
from dedup_service.policy.noise import Blame
from dedup_service.policy.risk import Interval

FORMAT = 1
"""Version of report.json; counts up when a field changes its meaning or goes."""


@dataclass(frozen=True)
class Piece:
    """A piece of a text, marked where it differs from the other one."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Shown:
    """A decision as a report shows it."""

    decision: str
    tenant: str
    time: float
    """Seconds since the epoch."""
    hit: bool
    signs: tuple[str, ...]
    """Why it is listed, UPPER_SNAKE."""
    score: float
    count: int
    """Decisions that it stands for."""
    question: tuple[Piece, ...]
    """The question asked, in pieces; empty when texts are not kept."""
    stored_question: tuple[Piece, ...]
    answer: str
    """The stored answer."""
    other_answer: str
    """What the model, a person or another entry said instead; empty when nothing is known."""
    reason: str
    image_tier: str
    image_score: float | None
    image_reason: str
    question_tier: str
    question_score: float | None
    question_reason: str
    vetoes: tuple[tuple[str, str, str], ...]
    risk: float | None
    label: str
    """RIGHT, WRONG, UNDECIDED or empty."""
    box: tuple[float, float, float, float] | None
    """Where the images differ: x, y, width, height in shares of the image."""
    image: str
    """Thumbnail key of the request's image."""
    stored_image: str
    """Thumbnail key of the stored image."""
    entry: str
    removed: bool = False
    """Whether feedback has removed the entry since."""


@dataclass(frozen=True)
class Cluster:
    """A group of questions or of images."""

    members: tuple[str, ...]
    """Up to eight members: questions, or thumbnail keys."""
    size: int
    decisions: int
    newest: float
    contradictions: int
    tenant: str


@dataclass(frozen=True)
class Suggested:
    """The thresholds that a tenant's labels carry."""

    tenant: str
    reason: str
    """SUGGESTED, TOO_FEW_LABELS or BUDGET_NOT_REACHED."""
    image_threshold: float
    question_threshold: float
    current_image_threshold: float
    current_question_threshold: float
    hit_rate_now: float
    hit_rate_then: float
    wrong_then: Interval
    """Estimated wrong-answer rate under the suggestion."""
    upper: float
    labels: int
    needed: int
    """Labels still missing."""


@dataclass(frozen=True)
class Advice:
    """One thing to do."""

    title: str
    why: str
    command: str = ""
    """A command line that does it; empty when none does."""


@dataclass(frozen=True)
class NeverHit:
    """Entries of the store that were never served."""

    entries: int
    never: int
    oldest: tuple[tuple[str, str, float], ...]
    """Some of them: question, model, time of storing; the oldest first."""


@dataclass(frozen=True)
class Savings:
    """What memory saved."""

    calls: int
    model_seconds: float
    """GPU-seconds that the served answers had taken when they were made."""
    explored_calls: int
    """Hits that were asked of the model all the same, to verify them."""
    money: float | None
    """Net of verification; None without a price."""
    price: float | None
    """Per GPU-hour."""
    currency: str


@dataclass(frozen=True)
class Report:
    """One audit report."""

    created: float
    """Seconds since the epoch."""
    since: float
    until: float
    tenant: str
    """The tenant, or empty for all."""
    ledger: str
    """Where it was read from, without a password."""
    version: str
    """Version of askonce."""
    requests: int
    hits: int
    exact_hits: int
    copy_hits: int
    rephrased_hits: int
    shadow: bool
    """Whether some hits were withheld by SHADOW mode; they count as hits here."""
    accuracy: Accuracy
    budget: float
    """The share of wrong answers that is allowed."""
    verdict: str
    """BOUND_HOLDS, BOUND_BROKEN or TOO_FEW_LABELS."""
    savings: Savings
    slot_seconds: int
    slots: tuple[Slot, ...]
    scores: dict[str, Scores]
    sweep: tuple[SweepPoint, ...]
    sweep_policy: str
    """Whose policy and thresholds the sweep was made with."""
    mode: str
    """That policy's mode."""
    judge_verdicts: int
    """Pairs of questions on which the judge said something."""
    policy: dict[str, Any]
    """That policy's fields with their values."""
    current_threshold: float
    suggested: tuple[Suggested, ...]
    calibration: tuple[CalibrationBin, ...]
    suspicious: tuple[Shown, ...]
    promising: tuple[Shown, ...]
    intents_largest: tuple[Cluster, ...]
    intents_newest: tuple[Cluster, ...]
    intents_contradictory: tuple[Cluster, ...]
    intent_count: int
    lookalikes: tuple[Cluster, ...]
    lookalike_count: int
    tenants: tuple[Share, ...]
    languages: tuple[Share, ...]
    strata: tuple[Share, ...]
    reasons: tuple[tuple[str, int], ...]
    """Reasons of misses with their counts, the most frequent first."""
    never_hit: NeverHit | None
    """None when the store was not given."""
    drift: tuple[Drift, ...]
    drift_before: int
    """Decisions in the period before."""
    hit_rate_before: float | None
    texts_kept: bool
    thumbnails_kept: bool
    blame: Blame | None = None
    """Which part of the wrong answers among the hits is the model's own, and which is reuse's."""
    advice: tuple[Advice, ...] = ()
    format: int = field(default=FORMAT)

    @property
    def hit_rate(self) -> float:
        """Share of requests that were hits, 0 to 1."""
        return self.hits / self.requests if self.requests else 0.0


def to_json(report: Report) -> str:
    """The report as JSON; numbers that are none become null."""
    return json.dumps(finite(asdict(report)), ensure_ascii=False, indent=1, allow_nan=False)


def finite(value: Any) -> Any:
    """`value` with NaN and infinities replaced by None, all the way down."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value
