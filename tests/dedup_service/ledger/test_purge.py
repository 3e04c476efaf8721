"""What a purge takes out of the ledger's database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.pair_evidence import PairEvidence
from dedup_service.ledger.purge import Purged, RemovalTail, Scrubber, removals_after
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Decision, Feedback, Label, Source, digest
from dedup_service.question.normal import normalise
from dedup_service.question.pair_memory import POOL, Evidence, PairMemory

PLANTED = "does the heron owe seventeen lanterns"
OTHER = "how much did they pay"


def fill(ledger: Ledger, memory: PairMemory, tenant: str = "t", *, keep: bool = True) -> None:
    """A decision, a label, feedback and evidence that all hold the sentence."""
    decision = Decision(
        f"d-{tenant}", tenant, 100.0, image="aa", nearest_image="i1", entry="e1", nearest_entry="e1",
        question_text=PLANTED, nearest_question_text=PLANTED, nearest_answer_text=PLANTED,
        vetoes=(("WORD", PLANTED, PLANTED),),
    )  # fmt: skip
    ledger.record_decision(decision, keep_text=keep)
    label = Label(decision.id, tenant, Source.NEAR_MISS, True, 100.0, note=PLANTED, answer_text=PLANTED)
    ledger.record_label(label, keep_text=keep)
    ledger.record_feedback(Feedback(decision.id, tenant, 100.0, True, PLANTED, PLANTED), keep_text=keep)
    for image in ("i1", "i2", "i3"):
        memory.add(tenant, PLANTED, OTHER, Evidence("answer", 3.0, True, 100.0, image), share=True)


def everything(engine: Engine, evidence: PairEvidence) -> str:
    """All that the database tells."""
    reader = Reader(engine)
    told = [*reader.decisions(Span()), *reader.all_labels(Span()), *reader.feedback(Span())]
    return repr([*told, *evidence.of_tenant("t"), *evidence.of_tenant("u"), *evidence.of_tenant("")])


CASES = {
    "tenant": Purged("t", whole=True),
    "image": Purged("t", entries=("e1",), normals=(normalise(PLANTED),), images=("i1",), digests=("aa",)),
    "age": Purged("t", before=200.0, entries=("e1",), normals=(normalise(PLANTED),)),
    "tag": Purged("t", entries=("e1",), normals=(normalise(PLANTED),)),
    "asked in vain": Purged("t", normals=(normalise(PLANTED),), asked=(("bb", digest("")), ("aa", digest(PLANTED)))),
    "a stored answer": Purged("t", normals=(normalise(PLANTED),), decisions=("d-t",)),
    "unknown image": Purged("t", normals=(normalise(PLANTED),), images=("i1",), digests=("aa",)),
}


@pytest.mark.parametrize("case", CASES)
def test_no_text_stays(engine: Engine, case: str) -> None:
    """Whatever a purge names, its texts are gone from decisions, labels, feedback and pairs, shared ones included,
    while another tenant's stay."""
    ledger = Ledger(engine)
    evidence = PairEvidence(engine, ledger)
    memory = PairMemory(evidence)
    fill(ledger, memory)
    Scrubber(engine, ledger).scrub(CASES[case])
    assert PLANTED not in everything(engine, evidence)
    fill(ledger, memory, "u")
    Scrubber(engine, ledger).scrub(CASES[case])
    assert PLANTED in everything(engine, evidence)
    ledger.close()


def test_what_is_before_a_time_goes_and_what_is_after_it_stays(engine: Engine) -> None:
    """A purge by age leaves younger records alone."""
    ledger = Ledger(engine)
    evidence = PairEvidence(engine, ledger)
    fill(ledger, PairMemory(evidence))
    Scrubber(engine, ledger).scrub(Purged("t", before=50.0))
    assert PLANTED in everything(engine, evidence)
    ledger.close()


def test_the_files_hold_no_text(tmp_path: Path) -> None:
    """SQLite's pages and its write-ahead log hold nothing of what was purged."""
    engine = open_database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger = Ledger(engine)
    fill(ledger, PairMemory(PairEvidence(engine, ledger)))
    assert ledger.flush(10)
    assert holds(tmp_path, PLANTED)
    Scrubber(engine, ledger).scrub(Purged("t", whole=True))
    assert not holds(tmp_path, PLANTED)
    ledger.close()
    engine.dispose()


def test_without_permission_no_text_is_ever_written(tmp_path: Path) -> None:
    """`keep_question_text=false` holds for every table, pairs and shared pairs included."""
    engine = open_database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger = Ledger(engine)
    fill(ledger, PairMemory(PairEvidence(engine, ledger), keeps_text=lambda _: False), keep=False)
    assert ledger.flush(10)
    assert not holds(tmp_path, PLANTED)
    ledger.close()
    engine.dispose()


def test_a_wrong_answer_goes_and_its_question_stays(engine: Engine) -> None:
    """Where answers alone are named, those go; what was asked stays as the policy has it."""
    ledger = Ledger(engine)
    decision = Decision(
        "d", "t", 100.0, entry="e1", nearest_entry="e1", question_text=OTHER, nearest_question_text=OTHER,
        nearest_answer_text=PLANTED,
    )  # fmt: skip
    ledger.record_decision(decision, keep_text=True)
    ledger.record_label(Label("d", "t", Source.NEAR_MISS, True, 100.0, answer_text=PLANTED), keep_text=True)
    Scrubber(engine, ledger).scrub(Purged("t", answers=("e1",)))
    told = everything(engine, PairEvidence(engine, ledger))
    assert PLANTED not in told
    assert OTHER in told
    ledger.close()


def test_other_replicas_let_go(engine: Engine) -> None:
    """A purge at one replica is followed by the others: what was learnt from the tenant is gone there too."""
    ledger = Ledger(engine)
    evidence = PairEvidence(engine, ledger)
    fill(ledger, PairMemory(evidence))
    assert ledger.flush(10)
    theirs = PairMemory(PairEvidence(engine, ledger))
    tail = RemovalTail(engine, evidence, theirs)
    assert (theirs.size("t")[1], theirs.size(POOL)[1]) == (1, 1)
    Scrubber(engine, ledger).scrub(CASES["tenant"])
    tail.turn()
    assert (theirs.size("t")[1], theirs.size(POOL)[1]) == (0, 0)
    ledger.close()


def test_removals_are_told_in_order(engine: Engine) -> None:
    """Each purge leaves word with its tenant and time; who goes on from a number gets what came after it."""
    ledger = Ledger(engine)
    times = iter((10.0, 20.0, 30.0))
    scrubber = Scrubber(engine, ledger, lambda: next(times))
    for tenant in ("t", "u", "t"):
        scrubber.scrub(Purged(tenant, whole=True))
    found = removals_after(engine, 0, 2)
    assert [row[1:] for row in found] == [("t", 10.0), ("u", 20.0)]
    assert [row[1:] for row in removals_after(engine, found[-1][0], 2)] == [("t", 30.0)]
    ledger.close()


def holds(folder: Path, sentence: str) -> bool:
    """Whether any file below a folder holds a sentence."""
    return any(sentence.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
