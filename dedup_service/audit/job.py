"""What the process that makes a report is told."""

from __future__ import annotations

from dataclasses import dataclass

OLDEST = 20
"""Entries never hit that a report names."""


@dataclass(frozen=True)
class Job:
    """What to make."""

    ledger: str
    """The ledger's URL."""
    out: str
    """The folder of the report."""
    since: float
    until: float
    tenant: str | None = None
    max_wrong: float | None = None
    confidence: float | None = None
    price: float | None = None
    currency: str = "USD"
    default_policy: str = ""
    """The default policy as JSON; empty for the built-in one."""
    never_hit: tuple[int, int, list[tuple[str, str, float]]] | None = None
    """Entries in the store, those never served, and the oldest of these: question, model, time. None when unknown."""
