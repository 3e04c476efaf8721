"""What the gateway measures beside the counters that every service has (`askonce.telemetry`)."""

from __future__ import annotations

import time

from prometheus_client import Counter, Gauge, Histogram

from askonce.telemetry import children

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 1.8, 3.0, 5.0, 10.0, 30.0, 60.0)

ANSWERS = Counter("askonce_gateway_answers_total", "Answers by where they came from and why.", ["source", "reason"])
TIERS = Counter(
    "askonce_gateway_hits_total", "Hits by the tiers that settled image and question.", ["image_tier", "question_tier"]
)
COALESCED = Counter("askonce_gateway_coalesced_total", "Answers that waited for another caller's request.", ["how"])
FIRST_PIECE = Histogram(
    "askonce_gateway_first_piece_seconds", "Arrival of a request to the first piece of its answer.", ["source"],
    buckets=SECONDS,
)  # fmt: skip
TOTAL = Histogram(
    "askonce_gateway_answer_seconds", "Arrival of a request to the end of its answer.", ["source"], buckets=SECONDS
)
INTERVAL = Histogram(
    "askonce_gateway_request_interval_seconds", "Time between one request and the next.", buckets=SECONDS
)
FAIL_OPEN = Counter("askonce_gateway_fail_open_total", "Look-ups given up, the model asked instead.", ["reason"])
REMEMBERED = Counter("askonce_gateway_remembered_total", "Fresh answers by what became of them.", ["outcome"])
JUDGED = Counter("askonce_gateway_judged_total", "Question pairs by what the judge said.", ["how", "verdict"])
JUDGE_QUEUE = Gauge("askonce_gateway_judge_queue", "Question pairs waiting for the judge.")
EXPLORED = Counter(
    "askonce_gateway_explored_total", "Hits drawn for verification, by what became of them.", ["outcome"]
)
JOBS = Counter("askonce_gateway_jobs_total", "Jobs by what became of them.", ["outcome"])
REFUSED = Counter("askonce_gateway_refused_total", "Requests refused before any look-up.", ["reason"])
WAITING = Gauge("askonce_gateway_answers_in_flight", "Requests for answers under way.")

answers, hits, totals, first_pieces = children(ANSWERS), children(TIERS), children(TOTAL), children(FIRST_PIECE)
"""The metrics of every answer, with their labels at hand."""


class Interval:
    """Observes the time between requests."""

    def __init__(self) -> None:
        self.last: float | None = None

    def tick(self, now: float | None = None) -> None:
        """Notes that a request arrived."""
        now = time.monotonic() if now is None else now
        if self.last is not None:
            INTERVAL.observe(now - self.last)
        self.last = now
