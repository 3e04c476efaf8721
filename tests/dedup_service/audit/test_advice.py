"""What a report tells its reader to do, in order."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dedup_service.audit.advice import advise
from dedup_service.audit.curves import Share
from dedup_service.audit.making import Wanted, make_report
from dedup_service.audit.report import Report
from dedup_service.policy.policy import Policy, to_json
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


def test_what_is_followed_is_not_advised_again(report: Report) -> None:
    """Advice goes when its command would change nothing: the floor, the judge's mode, texts that are kept."""
    shown = replace(report.promising[0], signs=("LABELLED_RIGHT",)) if report.promising else None
    told = replace(report, promising=(shown,) if shown else (), texts_kept=False)

    def commands(**policy: object) -> str:
        return "\n".join(advice.command for advice in advise(replace(told, policy={**told.policy, **policy})))

    assert "judge=BACKGROUND" in commands(judge="OFF")
    assert "judge=" not in commands(judge="BACKGROUND")
    assert "judge=INLINE" in "\n".join(advice.command for advice in advise(replace(told, judge_verdicts=5)))
    assert "keep_question_text" in commands(keep_question_text=False)
    assert "keep_question_text" not in commands(keep_question_text=True)
    assert "image_floor" not in commands(image_floor=0.999)
    assert "mode=SHADOW" not in "\n".join(
        advice.command for advice in advise(replace(told, verdict="BOUND_BROKEN", mode="SHADOW"))
    )


def test_what_feedback_removed_is_not_to_be_removed(report: Report) -> None:
    """Answers known to be wrong are to be removed until feedback has done so."""
    assert any(title.startswith("Remove ") for title in titles(report))
    done = tuple(replace(shown, removed=True) for shown in report.suspicious)
    assert not any(title.startswith("Remove ") for title in titles(replace(report, suspicious=done)))


def test_no_advice_is_the_default(report: Report) -> None:
    """Under a default policy no command sets a field to what it is."""
    defaults = Policy()
    for verdict in ("BOUND_BROKEN", "BOUND_HOLDS", "TOO_FEW_LABELS"):
        for advice in advise(replace(report, verdict=verdict, policy=json.loads(to_json(defaults)))):
            for name, value in re.findall(r"\b([a-z_]+)=(\S+)", advice.command):
                assert str(getattr(defaults, name)) != value, advice
