"""Reading the ledger, row by row and as columns."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from sqlalchemy import Engine

from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Decision, Label, Source
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.policy.noise import Compared
from dedup_service.policy.policy import Policy
from dedup_service.policy.recorded import RIGHT, UNDECIDED, UNLABELLED, WRONG
from dedup_service.policy.revisions import PolicyBook
from dedup_service.policy.risk import Sample
from dedup_service.policy.threshold_learner import Learner
from dedup_service.policy.thresholds import Rule
from tests.dedup_service.ledger.test_ledger import decision


def write(engine: Engine, decisions: list[Decision], labels: list[Label]) -> Reader:
    """A reader of a ledger with these records."""
    ledger = Ledger(engine, interval=0.02)
    for made in decisions:
        assert ledger.record_decision(made, keep_text=True)
    for label in labels:
        assert ledger.record_label(label, keep_text=True)
    assert ledger.close(30) == 0
    return Reader(engine)


def label(number: int, source: Source, same: bool | None, when: float = 2_000.0) -> Label:
    """A label of decision `number`."""
    return Label(f"{number:032x}", "acme", source, same, when)


def test_columns_hold_what_the_decisions_hold(engine: Engine) -> None:
    """The columns agree with the decisions one by one: scores, kinds of evidence, what was exact, what was open."""
    exact = {"image_tier": "BYTES", "question_tier": "EXACT", "stratum": "exact/exact", "risk": 0.0}
    nothing = {"reason": "IMAGE_UNKNOWN", "risk": None, "image_score": None, "question_score": None, "stratum": ""}
    made = [
        decision(0),
        dataclasses.replace(decision(1), hit=True, would_hit=True, reason="EXACT", **exact),  # type: ignore[arg-type]
        dataclasses.replace(decision(2), **nothing),  # type: ignore[arg-type]
        decision(3, reason="QUESTION_VETOED"),
        decision(4, tenant="other"),
    ]
    reader = write(engine, made, [])
    found = reader.recorded(Span(tenant="acme"))
    assert [i.decode() for i in found.id] == [d.id for d in made[:4]]
    assert found.hit.tolist() == found.exact.tolist() == [False, True, False, False]
    assert found.open.tolist() == [True, True, False, False]
    assert [found.strata[code] for code in found.stratum] == ["copy/scored", "exact/exact", "", "copy/scored"]
    assert found.risk[0] == 0.31
    assert np.isnan(found.risk[2])
    assert set(found.label) == {UNLABELLED}
    assert len(reader.recorded(Span())) == 5
    assert len(reader.recorded(Span(since=1_001, until=1_003))) == 2
    assert reader.tenants(Span()) == ["acme", "other"]


def test_the_most_reliable_label_wins(engine: Engine) -> None:
    """A person overrules a comparison, a verdict overrules none, and only what was drawn at random counts as
    verified."""
    reader = write(
        engine,
        [decision(n) for n in range(6)],
        [
            label(0, Source.NEAR_MISS, True),
            label(1, Source.EXPLORATION, True),
            label(1, Source.AUDIT, False),
            label(2, Source.NEAR_MISS, False),
            label(2, Source.AUDIT, None),
            label(3, Source.SHADOW, None),
            label(4, Source.FEEDBACK, False),
            label(5, Source.JUDGE, True),
            label(99, Source.AUDIT, False),
        ],
    )
    found = reader.recorded(Span())
    assert found.label.tolist() == [RIGHT, WRONG, WRONG, UNDECIDED, UNLABELLED, UNLABELLED]
    assert found.verified.tolist() == [UNLABELLED, WRONG, UNLABELLED, UNDECIDED, UNLABELLED, UNLABELLED]


def test_labelled_candidates_are_read_alone(engine: Engine) -> None:
    """What thresholds are learnt from: labelled, decided, not exact, not forbidden; the same from both ways of
    reading."""
    made = [decision(n, question_text=f"q{n}") for n in range(5)]
    made[1] = decision(1, image_tier="BYTES", question_tier="EXACT")
    made[2] = decision(2, reason="QUESTION_VETOED")
    labels = [label(n, Source.NEAR_MISS, n != 4) for n in range(5)] + [label(3, Source.AUDIT, None)]
    reader = write(engine, made, labels)
    assert reader.labelled("acme", 0, cross_language=False).risk.size == 0
    rows = reader.labelled("acme", 0, cross_language=True)
    assert sorted(rows.wrong.tolist()) == [False, False, True]
    again = reader.recorded(Span()).labelled(cross_language=True)
    assert sorted(zip(rows.pair, rows.wrong, strict=True)) == sorted(zip(again.pair, again.wrong, strict=True))
    assert reader.label_counts(0) == {"acme": 6}
    assert reader.labelled("nobody", 0, cross_language=True).risk.size == 0


def test_verified_repeats_are_counted_once_each(engine: Engine) -> None:
    """Two answers of the model to one request: the latest verdict of each request that was drawn at random, from both
    ways of reading."""
    exact = {"image_tier": "BYTES", "question_tier": "EXACT", "hit": True, "would_hit": True, "reason": "EXACT"}
    texts = ("a", "a", "b", "c", "d")
    made = [decision(n, question_text=text, nearest_question_text=text, **exact) for n, text in enumerate(texts)]
    labels = [
        label(0, Source.EXPLORATION, False),
        label(1, Source.EXPLORATION, True),
        label(2, Source.SHADOW, False),
        label(3, Source.EXPLORATION, None),
        label(4, Source.NEAR_MISS, False),
    ]
    reader = write(engine, made, labels)
    rows = reader.labelled("acme", 0, cross_language=True)
    again = reader.recorded(Span()).labelled(cross_language=True)
    assert (rows.repeats, rows.repeats_wrong) == (again.repeats, again.repeats_wrong) == (2, 1)
    assert rows.risk.size == 0


def test_pages_follow_each_other(engine: Engine) -> None:
    """Pages joined are the whole, without gap or repetition, also while new decisions arrive."""
    reader = write(engine, [decision(n) for n in range(25)], [])
    seen: list[str] = []
    while page := [d.id for d in reader.decisions(Span(), after=seen[-1] if seen else "", limit=10)]:
        seen += page
    assert seen == [decision(n).id for n in range(25)]
    assert [d.id for d in reader.by_id([seen[3], "gone", seen[1]])] == [seen[3], seen[1]]


def test_an_empty_ledger_reads_as_empty(engine: Engine) -> None:
    """No decisions: empty columns of the right types, no tenants, no labels."""
    reader = Reader(engine)
    found = reader.recorded(Span())
    assert len(found) == len(found.id) == len(found.label) == 0
    assert found.risk.dtype == np.float64
    assert reader.tenants(Span()) == []
    assert reader.count(Span()) == 0


def test_the_learner_learns_what_the_ledger_labels(engine: Engine) -> None:
    """After enough right near-misses of distinct pairs, the learner opens their kind of evidence for the book;
    without new labels it rests."""
    now = time.time()
    made = [decision(n, time=now, question_text=f"q{n}", risk=0.02, cross_language=False) for n in range(800)]
    reader = write(engine, made, [label(n, Source.NEAR_MISS, True, now) for n in range(800)])
    book = PolicyBook(RevisionRows(engine))
    learner = Learner(reader, book)
    assert learner.tick(now) == 1
    bound = book.thresholds("acme").bound("copy/scored", Policy())
    assert (bound.rule, bound.labels) == (Rule.LEARNT, 800)
    assert bound.max_risk == pytest.approx(0.02)
    assert learner.tick(now) == 0
    other = PolicyBook(RevisionRows(engine))
    other.refresh()
    assert other.thresholds("acme") == book.thresholds("acme")


def test_compared_hits_are_counted_by_tenant_and_propensity(engine: Engine) -> None:
    """Only hits that were drawn count, each for as many as its propensity says; a person's verdict goes before the
    comparison's, and one without a verdict is unsure."""

    def served(number: int, propensity: float, tenant: str = "acme") -> Decision:
        return dataclasses.replace(
            decision(number, tenant=tenant), hit=True, would_hit=True, explored=True, propensity=propensity
        )

    repeat = dataclasses.replace(served(0, 0.1), image_tier="BYTES", question_tier="EXACT")
    made = [
        repeat,
        *(served(number, 0.1) for number in range(1, 4)),
        served(4, 0.5, "other"),
        decision(5),
        served(6, 0.1),
    ]
    labels = [
        label(0, Source.EXPLORATION, True),
        label(1, Source.EXPLORATION, True),
        label(1, Source.AUDIT, False),
        label(2, Source.EXPLORATION, None),
        label(3, Source.EXPLORATION, True, when=1_000.0),  # too long ago
        label(4, Source.EXPLORATION, True),
        label(5, Source.EXPLORATION, False),  # was no hit
        label(6, Source.NEAR_MISS, False),  # was not drawn
    ]
    found = write(engine, made, labels).verified(1_500.0)
    assert found == {
        "acme": Compared((Sample(10, 1, 0, 0),), (Sample(20, 0, 1, 1),)),
        "other": Compared((), (Sample(2, 1, 0, 0),)),
    }
