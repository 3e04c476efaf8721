"""Evidence on pairs of questions in the ledger's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine, func, select, text

from dedup_service.ledger.ledger import PAIRS, Ledger
from dedup_service.ledger.pair_evidence import PairEvidence, PairTail, take_over
from dedup_service.question.intent_graph import digest, reading_key
from dedup_service.question.pair_memory import Evidence, PairMemory
from dedup_service.question.pair_store import PairRecord

PAID = "how much did they pay"
SPENT = "what did the dinner set us back"


def record(at: int, tenant: str = "t", pair: str = "") -> PairRecord:
    name = pair or str(at)
    return PairRecord(
        tenant, f"a{name}", f"b{name}", "left", "问", "answer", 2.5, True, float(at), f"image-{at}", -0.5, at % 2 == 1,
        f"id-{tenant}-{at}", "one", "other",
    )  # fmt: skip


def agree(memory: PairMemory) -> None:
    for image in ("one", "two", "three"):
        memory.add("t", PAID, SPENT, Evidence("answer", 3.0, True, 1.0, image))


def test_what_was_written_is_read_back_in_order(engine: Engine) -> None:
    """Records survive, oldest first, every field as it was, and one that is written twice is there once."""
    ledger = Ledger(engine)
    records = [record(at) for at in range(50)]
    PairEvidence(engine, ledger).append(records)
    assert ledger.flush(10)
    PairEvidence(engine, ledger).append(records[:10])
    ledger.close()
    assert list(PairEvidence(engine, ledger).load()) == records


def test_a_replica_learns_what_another_one_did(engine: Engine) -> None:
    """What one replica learnt is known to the other after its next look, and so it is after a restart."""
    ledger = Ledger(engine)
    here, there = PairEvidence(engine, ledger), PairEvidence(engine, ledger)
    mine, theirs = PairMemory(here), PairMemory(there)
    tail = PairTail(there, theirs)
    agree(mine)
    assert ledger.flush(10)
    assert theirs.verdict("t", PAID, SPENT).state == "unknown"
    tail.turn()
    assert theirs.verdict("t", PAID, SPENT).state == "same"
    assert PairMemory(PairEvidence(engine, ledger)).verdict("t", PAID, SPENT) == theirs.verdict("t", PAID, SPENT)
    ledger.close()


def test_compaction_keeps_the_newest(engine: Engine) -> None:
    """Of each pair the newest records stay, of all the newest; the sequence goes on, so that readers miss nothing."""
    ledger = Ledger(engine)
    evidence = PairEvidence(engine, ledger)
    evidence.insert([record(at, pair="x") for at in range(30)] + [record(at) for at in range(100, 140)])
    reached = evidence.reached
    list(evidence.load())
    assert evidence.compact(lambda _: True, most=20, of_pair=5) > 0
    kept = list(PairEvidence(engine, ledger).load())
    assert [one.time for one in kept] == [float(at) for at in range(120, 140)]
    evidence.insert([record(200)])
    assert [one.time for one in evidence.fresh()] == [200.0]
    assert reached == 0
    ledger.close()


def test_compaction_takes_out_texts_that_are_no_longer_allowed(engine: Engine) -> None:
    """A policy that forbids texts holds for those that are there already, shared ones included."""
    ledger = Ledger(engine)
    evidence = PairEvidence(engine, ledger)
    shared = replace(record(3, ""), origin="quiet")
    evidence.insert([record(1, "quiet"), record(2, "loud"), shared])
    evidence.compact(lambda tenant: tenant != "quiet")
    with engine.connect() as connection:
        rows = connection.execute(select(PAIRS.c.tenant, PAIRS.c.left_text).order_by(PAIRS.c.sequence)).all()
    assert [tuple(row) for row in rows] == [("quiet", ""), ("loud", "left"), ("", "")]
    ledger.close()


def test_one_replica_compacts(engine: Engine) -> None:
    """While another replica is at it, compaction leaves the log alone."""
    if engine.dialect.name != "postgresql":
        return
    ledger = Ledger(engine)
    evidence = PairEvidence(engine, ledger)
    evidence.insert([record(at, pair="x") for at in range(9)])
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(4603012026122)"))
        assert evidence.compact(lambda _: True, of_pair=1) == 0
    assert evidence.compact(lambda _: True, of_pair=1) == 8
    ledger.close()


def test_an_earlier_file_is_taken_over(engine: Engine, tmp_path: Path) -> None:
    """The records of an earlier version's file count, cut-off runs repeat nothing, and the file goes."""
    path = tmp_path / "pairs.sqlite"
    left, right = sorted((digest(PAID), digest(SPENT)))
    texts = (PAID, SPENT) if digest(PAID) == left else (SPENT, PAID)

    def write() -> None:
        connection = sqlite3.connect(path)
        connection.execute(
            "CREATE TABLE pair_evidence (id INTEGER PRIMARY KEY, tenant, left_key, right_key, left_text, right_text,"
            " source, log_odds, same, time, context, prior, blocked)"
        )
        for at in range(3):
            row = (at + 1, "t", left, right, *texts, "answer", 3.0, 1, 1.0, f"image-{at}", 0.0, 0)
            connection.execute(f"INSERT INTO pair_evidence VALUES ({','.join('?' * 13)})", row)
        connection.commit()
        connection.close()

    ledger = Ledger(engine)
    evidence = PairEvidence(engine, ledger)
    allowed: tuple[Callable[[str], bool], ...] = (lambda _: True, lambda _: False)
    for keeps in allowed:  # as if the first run had been cut off before it deleted the file
        write()
        assert take_over(path, evidence, keeps) == 3
        assert not path.exists()
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(PAIRS)).scalar() == 3
    assert PairMemory(PairEvidence(engine, ledger)).verdict("t", PAID, SPENT).state == "same"
    assert next(iter(PairEvidence(engine, ledger).load())).left_reading == reading_key(texts[0])
    assert take_over(path, evidence, lambda _: True) == 0
    ledger.close()
