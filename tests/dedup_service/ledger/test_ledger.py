"""The ledger's writer: nothing lost, nothing blocked, nothing kept that may not be."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Decision, Feedback, Label, Source, digest, new_id, pair_key, sealed

ROOT = Path(__file__).parents[3]


def decision(number: int = 0, /, **changes: object) -> Decision:
    """A near-miss with every kind of evidence."""
    made = Decision(
        id=f"{number:032x}",
        tenant="acme",
        time=1_000.0 + number,
        request_id=f"r{number}",
        reason="QUESTION_UNSURE",
        image_tier="NEIGHBOUR",
        image_verdict="SAME",
        image_score=0.99,
        image_reason="COPY",
        image_box=(0.1, 0.2, 0.3, 0.4),
        question_tier="NEIGHBOUR",
        question_verdict="UNSURE",
        question_score=0.7,
        question_reason="SCORED",
        vetoes=(("NUMBER", "2", "3"),),
        stratum="copy/scored",
        risk=0.31,
        max_risk=0.01,
        image_threshold=0.98,
        question_threshold=0.98,
        policy_revision=4,
        image="ab" * 32,
        nearest_image="img-1",
        nearest_entry="e-1",
        question_text="总金额是多少?",
        nearest_question_text="how much is it?",
        nearest_answer_text="RM 138.90",
        language="zh",
        cross_language=True,
        model="reader",
        timings={"encode": 4.5, "search": 1.25},
        propensity=0.01,
        saved_seconds=1.5,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def ledger(engine: Engine) -> Iterator[Ledger]:
    """An open ledger."""
    opened = Ledger(engine, interval=0.05)
    yield opened
    opened.close()


def test_a_decision_comes_back_as_it_was(ledger: Ledger, engine: Engine) -> None:
    """Every field of a decision survives, with the digests filled in."""
    made = decision()
    assert ledger.record_decision(made, keep_text=True)
    assert ledger.flush(10)
    assert Reader(engine).decision(made.id) == sealed(made, keep_text=True)
    assert Reader(engine).decision("no such id") is None


def test_texts_are_kept_only_if_the_policy_allows(ledger: Ledger, engine: Engine) -> None:
    """Without permission no word of a question or answer reaches the database: digests, and the kinds of the vetoes."""
    ledger.record_decision(decision(), keep_text=False)
    label = Label(
        decision().id, "acme", Source.NEAR_MISS, True, 1_001.0, note="138.90 = 138.90", answer_text="RM 138.90"
    )
    ledger.record_label(label, keep_text=False)
    assert ledger.flush(10)
    found = Reader(engine).decision(decision().id)
    assert found is not None
    assert found.question_text is found.nearest_question_text is found.nearest_answer_text is None
    assert found.question_digest == digest("总金额是多少?")
    assert found.vetoes == (("NUMBER", "", ""),)
    kept = Reader(engine).labels(decision().id)[0]
    assert (kept.answer_text, kept.note, kept.answer_digest) == (None, "", digest("RM 138.90"))
    with engine.connect() as connection:
        for table in ("decisions", "labels"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            assert "138.90" not in repr(rows)
            assert "金额" not in repr(rows)


def test_close_loses_nothing(engine: Engine) -> None:
    """Everything taken before a clean stop is in the database after it, however much was waiting."""
    ledger = Ledger(engine, interval=60, batch=700)
    for number in range(5_000):
        assert ledger.record_decision(decision(number), keep_text=True)
    assert ledger.close(30) == 0
    assert Reader(engine).count(Span()) == 5_000
    assert not ledger.record_decision(decision(5_001), keep_text=True)
    assert ledger.state().dropped == 1


def test_recording_never_waits_for_the_database(engine: Engine) -> None:
    """While another transaction holds the database, recording takes no longer than putting into a queue; once the
    queue is full, new records are dropped and counted; and when the database is free again, what was taken is
    written."""
    ledger = Ledger(engine, capacity=100, batch=10, interval=0.02)
    slowest = 0.0
    with engine.execution_options(writes=True).begin() as blocker:
        blocker.execute(text("DELETE FROM decisions"))
        if engine.dialect.name == "postgresql":
            blocker.execute(text("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE"))
        taken = 0
        for number in range(300):
            before = time.perf_counter()
            taken += ledger.record_decision(decision(number), keep_text=True)
            slowest = max(slowest, time.perf_counter() - before)
        assert ledger.state().dropped == 300 - taken > 0
    assert slowest < 0.1
    assert ledger.close(30) == 0
    assert Reader(engine).count(Span()) == taken


def test_an_outage_is_outlived(tmp_path: Path) -> None:
    """Records taken while the database is out of reach are written when it returns, each once."""
    engine = open_database(f"sqlite:///{tmp_path}/ledger.db")
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("ALTER TABLE decisions RENAME TO away"))
    ledger = Ledger(engine, interval=0.02)
    for number in range(50):
        ledger.record_decision(decision(number), keep_text=True)
    assert not ledger.flush(0.5)
    assert ledger.state().failures > 0
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO decisions"))
    assert ledger.close(30) == 0
    assert Reader(engine).count(Span()) == 50
    engine.dispose()


def test_close_gives_up_in_time_and_says_what_was_lost(tmp_path: Path) -> None:
    """When the database does not return, stopping takes no longer than it may, and the loss is reported."""
    engine = open_database(f"sqlite:///{tmp_path}/ledger.db")
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("DROP TABLE decisions"))
    ledger = Ledger(engine, interval=0.02)
    for number in range(30):
        ledger.record_decision(decision(number), keep_text=True)
    before = time.monotonic()
    assert ledger.close(0.5) == 30
    assert time.monotonic() - before < 3
    engine.dispose()


def test_one_bad_record_does_not_take_the_others_with_it(ledger: Ledger, engine: Engine) -> None:
    """A record that the database refuses is counted and left out; the batch around it is written."""
    for number in range(20):
        changes: dict[str, object] = {"time": None} if number == 7 else {}
        ledger.record_decision(decision(number, **changes), keep_text=True)
    assert ledger.flush(20)
    state = ledger.state()
    assert (state.written, state.refused) == (19, 1)
    assert Reader(engine).count(Span()) == 19


def test_nul_and_odd_characters(ledger: Ledger, engine: Engine) -> None:
    """NUL characters, which PostgreSQL does not store, are dropped; any other character survives."""
    ledger.record_decision(decision(question_text="a\0b 😀 𠮷 ‮"), keep_text=True)
    assert ledger.flush(10)
    found = Reader(engine).decision(decision().id)
    assert found is not None
    assert found.question_text == "ab 😀 𠮷 ‮"


def test_sending_twice_counts_once(ledger: Ledger, engine: Engine) -> None:
    """A repeated decision changes nothing; a repeated label or feedback replaces the older one; sources stand beside
    each other."""
    for same in (True, False):
        ledger.record_decision(decision(reason="A" if same else "B"), keep_text=True)
        ledger.record_label(Label(decision().id, "acme", Source.NEAR_MISS, same, 1.0), keep_text=True)
        ledger.record_feedback(Feedback(decision().id, "acme", 2.0, right=same, client="shop"), keep_text=True)
        assert ledger.flush(10)
    reader = Reader(engine)
    assert [d.reason for d in reader.decisions(Span())] == ["A"]
    assert {(label.source, label.same) for label in reader.labels(decision().id)} == {
        (Source.NEAR_MISS, False),
        (Source.FEEDBACK, False),
    }
    assert [f.right for f in reader.feedback(Span())] == [False]


def test_retention_is_by_age_and_tenant_and_bounded(ledger: Ledger, engine: Engine) -> None:
    """What is older than its tenant's time goes, a bounded number of rows at a time, with its labels; the rest
    stays."""
    for number in range(100):
        tenant = "brief" if number % 2 else "acme"
        ledger.record_decision(decision(number, tenant=tenant), keep_text=True)
        ledger.record_label(Label(f"{number:032x}", tenant, Source.NEAR_MISS, True, 1_000.0 + number), keep_text=True)
    assert ledger.flush(10)
    now = 1_100.0
    assert ledger.sweep({"brief": 10.0}, 50.0, now=now, limit=20) == 2 * 2 * 20
    while ledger.sweep({"brief": 10.0}, 50.0, now=now, limit=20):
        pass
    left = list(Reader(engine).decisions(Span()))
    assert all(d.time >= now - (10 if d.tenant == "brief" else 50) for d in left)
    assert len(left) == 5 + 25
    assert len(list(Reader(engine).all_labels(Span()))) == len(left)


CRASH = """
import sys, time
from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.records import Decision, new_id
ledger = Ledger(open_database(sys.argv[1]))
while True:
    now = time.time()
    made = Decision(id=new_id(now), tenant="acme", time=now)
    ledger.record_decision(made, keep_text=True)
    print(f"{made.id} {now}", flush=True)
    time.sleep(0.002)
"""


@pytest.mark.slow
def test_a_crash_loses_no_more_than_the_last_second(url: str) -> None:
    """kill -9 in the middle of writing: everything recorded more than a second before is there."""
    path = str(ROOT)
    child = subprocess.Popen(
        [sys.executable, "-c", CRASH, url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(3)
    child.send_signal(signal.SIGKILL)
    killed = time.time()
    rest, _ = child.communicate(timeout=10)
    recorded = [line.split() for line in (first + rest).splitlines() if len(line.split()) == 2]
    assert len(recorded) > 500
    engine = open_database(url)
    there = {d.id for d in Reader(engine).decisions(Span())}
    engine.dispose()
    assert {i for i, at in recorded if float(at) < killed - 1.0} <= there


def test_ids_sort_by_time_and_never_repeat() -> None:
    """Ids made later sort later, to the microsecond, and two of one moment differ."""
    assert new_id(1.0) < new_id(1.000002) < new_id(2.0) < new_id()
    assert len({new_id(5.0) for _ in range(10_000)}) == 10_000
    assert {len(new_id()), len(new_id(0.0))} == {32}


def test_what_was_proved_the_same_is_not_part_of_the_pair() -> None:
    """Two questions on a hundred equal images are one pair; on two different copies they are two."""

    def key(**changes: object) -> int:
        return pair_key(sealed(decision(0, **changes), keep_text=True))

    assert key(image_tier="BYTES", image="1") == key(image_tier="PIXELS", image="2")
    assert key(image="1") != key(image="2")
    assert key(question_tier="EXACT", question_text="x") == key(question_tier="NORMALISED", question_text="y")
    assert key(question_text="x") != key(question_text="y")
    assert key(tenant="a") != key(tenant="b")
