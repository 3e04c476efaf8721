"""The SQLite file of verdicts."""

import sqlite3
from pathlib import Path

from dedup_service.question.pair_store import PairRecord, SqlitePairStore


def record(at: int) -> PairRecord:
    return PairRecord("t", f"a{at}", f"b{at}", "", "问", "answer", 2.5, True, float(at), "image", -0.5, at % 2 == 1)


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    """Records survive the process, oldest first, every field as it was."""
    store = SqlitePairStore(tmp_path / "pairs.db")
    records = [record(at) for at in range(50)]
    for one in records:
        store.append([one])
    assert store.flush()
    store.close()
    again = SqlitePairStore(tmp_path / "pairs.db")
    assert list(again.load()) == records
    again.close()


def test_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    """Readers never wait for the writer."""
    store = SqlitePairStore(tmp_path / "pairs.db")
    store.close()
    connection = sqlite3.connect(tmp_path / "pairs.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_file_is_bounded(tmp_path: Path) -> None:
    """Beyond the bound the oldest records go."""
    store = SqlitePairStore(tmp_path / "pairs.db", most=100)
    for at in range(0, 10_500, 500):
        store.append([record(at + step) for step in range(500)])
        store.flush()
    store.close()
    again = SqlitePairStore(tmp_path / "pairs.db")
    kept = list(again.load())
    again.close()
    assert kept[-1].left == "a10499"
    assert len(kept) < 1100


def test_a_full_backlog_drops_and_counts(tmp_path: Path) -> None:
    """When the writer can't keep up, evidence is dropped and counted; the caller never waits."""
    store = SqlitePairStore(tmp_path / "pairs.db", backlog=1)
    blocker = sqlite3.connect(tmp_path / "pairs.db")
    blocker.execute("BEGIN EXCLUSIVE")
    for at in range(20):
        store.append([record(at)])
    blocker.rollback()
    blocker.close()
    store.close()
    assert store.dropped > 0
