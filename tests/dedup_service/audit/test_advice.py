"""What a report tells its reader to do, in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dedup_service.audit.advice import advise
from dedup_service.audit.curves import Share
from dedup_service.audit.making import Wanted, make_report
from dedup_service.audit.report import Report
from dedup_service.policy.risk import Interval
from tests.dedup_service.audit.conftest import END, FORTNIGHT

pytestmark = pytest.mark.slow


@pytest.fixture
def report(engine: Engine, tmp_path: Path) -> Report:
    """A report to change."""
    return make_report(engine, Wanted(END - FORTNIGHT, END, pairs=()), tmp_path / "report")


def titles(report: Report) -> list[str]:
    """What is advised."""
    return [advice.title for advice in advise(report)]


def test_safety_comes_first(report: Report) -> None:
    """A broken bound is the first thing, then what is known to be wrong; each names the tenant in its command."""
    broken = replace(report, verdict="BOUND_BROKEN", mode="STATIC")
    assert titles(broken)[0] == "Tighten reuse now"
    assert f"--tenant {report.sweep_policy}" in advise(broken)[0].command
    assert any(title.startswith("Remove ") for title in titles(broken)[1:3])
    assert "mode=SHADOW" in advise(replace(broken, mode="VERIFIED"))[0].command


def test_a_model_that_contradicts_itself_is_named(report: Report) -> None:
    """Exact repeats that got other answers point at the model, not at a threshold."""
    exact = Share("exact/exact", 100, 100, Interval(0.1, 0.2, 0.3), 50, 10, 0.0)
    broken = replace(report, verdict="BOUND_BROKEN", strata=(exact,))
    assert "Look at the model first" in titles(broken)
    steady = replace(exact, wrong=Interval(0.0, 0.0, 0.05))
    assert "Look at the model first" not in titles(replace(broken, strata=(steady,)))


def test_too_few_labels_say_how_many(report: Report) -> None:
    """The number of labels still missing is named, for the wrong ones seen so far."""
    few = replace(report, verdict="TOO_FEW_LABELS", accuracy=replace(report.accuracy, verified=100, wrong=0))
    assert "Label at least 199 hits" in titles(few)


def test_nothing_to_do(report: Report) -> None:
    """Where all is well it says so, and an empty span asks for traffic."""
    well = replace(
        report, verdict="BOUND_HOLDS", suspicious=(), promising=(), intents_contradictory=(), lookalikes=(), drift=(),
        suggested=(), accuracy=replace(report.accuracy, unsure=0),
    )  # fmt: skip
    assert titles(well) == ["Nothing"]
    assert "traffic" in titles(replace(report, requests=0))[0]
