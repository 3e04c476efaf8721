"""Learns thresholds in the background: reads new labels, and publishes what they carry."""

from __future__ import annotations

import time as clock
from typing import Protocol

import structlog

from dedup_service.policy.revisions import PolicyBook
from dedup_service.policy.thresholds import Labelled, learn

log = structlog.get_logger("policy")


class LabelSource(Protocol):
    """Where labels are read. Every method blocks."""

    def label_counts(self, since: float) -> dict[str, int]:
        """Labels by tenant, made since then (seconds since the epoch)."""

    def labelled(self, tenant: str, since: float, *, cross_language: bool) -> Labelled:
        """A tenant's labelled candidates that are not exact repeats; those in another language only if asked for."""


class Learner:
    """Keeps every tenant's thresholds up to date with its labels.

    A tenant's thresholds are learnt anew when its policy changed or when its labels grew by a tenth. `window` seconds
    of labels count: older ones tell about traffic that is gone. Call `turn` every minute or so.
    """

    def __init__(self, source: LabelSource, book: PolicyBook, *, window: float = 2_592_000.0) -> None:
        self.source = source
        self.book = book
        self.window = window
        self.seen: dict[str, tuple[int, int]] = {}

    def turn(self) -> None:
        """Learns what is due now."""
        self.tick(clock.time())

    def tick(self, now: float) -> int:
        """Learns what is due at `now` (seconds since the epoch). Returns the number of tenants learnt."""
        learnt = 0
        for tenant, count in self.source.label_counts(now - self.window).items():
            revision = self.book.current(tenant)
            labels, applied = self.seen.get(tenant, (0, -1))
            if applied == revision.revision and count < labels * 1.1 + 1:
                continue
            version = self.book.thresholds(tenant).version + 1
            crossing = revision.policy.cross_language
            rows = self.source.labelled(tenant, now - self.window, cross_language=crossing)
            thresholds = learn(rows, revision.policy, version=version, time=now)
            self.book.learn(tenant, thresholds)
            self.seen[tenant] = (count, revision.revision)
            learnt += 1
            log.info(
                "thresholds_learnt",
                tenant=tenant,
                version=version,
                labels=len(rows.risk),
                rules={name: str(bound.rule) for name, bound in thresholds.bounds.items()},
            )
        return learnt
