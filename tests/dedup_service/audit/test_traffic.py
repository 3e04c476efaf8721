"""Reading the ledger for an audit, and refusing what is no ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from benchmarks.ledgers import Made
from dedup_service.audit.sampling import note_of
from dedup_service.audit.traffic import AuditError, open_ledger, read_traffic
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import Label, Source
from dedup_service.policy.recorded import RIGHT, UNDECIDED, UNLABELLED, WRONG


def test_every_decision_is_read(engine: Engine, made: Made) -> None:
    """The columns hold all decisions, in step with each other."""
    traffic = read_traffic(Reader(engine), Span())
    assert len(traffic) == made.decisions
    assert int(traffic.recorded.hit.sum()) == made.hits
    decision = next(Reader(engine).decisions(Span(), limit=1))
    assert traffic.recorded.id[0].decode() == decision.id
    assert traffic.tenant.words[traffic.tenant.code[0]] == decision.tenant
    assert traffic.reason.words[traffic.reason.code[0]] == decision.reason
    assert traffic.lookup_ms[0] == pytest.approx(sum(decision.timings.values()), rel=1e-5)


def test_a_span_is_a_tenants_time(engine: Engine) -> None:
    """Only decisions of the tenant and of the time are read."""
    reader = Reader(engine)
    whole = read_traffic(reader, Span())
    middle = float(whole.recorded.time[2_000])
    found = read_traffic(reader, Span(since=middle, tenant="globex"))
    expected = (whole.recorded.time >= middle) & whole.tenant.mask("globex")
    assert len(found) == int(expected.sum())
    assert set(found.tenant.words) == {"globex"}


def hit_without_label(engine: Engine) -> str:
    """A served decision that nobody labelled."""
    traffic = read_traffic(Reader(engine), Span())
    row = int(np.flatnonzero(traffic.recorded.hit & (traffic.recorded.label == UNLABELLED))[0])
    return str(traffic.recorded.id[row].decode())


@pytest.mark.parametrize(
    ("note", "verified"), [(note_of(0.2, "draw=0.1 risk=2"), WRONG), (note_of(None, ""), UNLABELLED)]
)
def test_only_drawn_labels_of_people_enter_the_estimate(engine: Engine, note: str, verified: int) -> None:
    """A label of a random draw counts as verified; one that was picked by hand teaches and does not count."""
    decision = hit_without_label(engine)
    ledger = Ledger(engine)
    ledger.record_label(Label(decision, "acme", Source.AUDIT, False, 1_790_000_000.0, note=note), keep_text=True)
    ledger.close()
    traffic = read_traffic(Reader(engine), Span())
    row = traffic.recorded.id.tolist().index(decision.encode())
    assert traffic.recorded.verified[row] == verified
    assert traffic.recorded.label[row] == WRONG
    assert bool(traffic.by_person[row]) == (verified == WRONG)


def test_a_persons_cant_tell_does_not_erase_a_verdict(engine: Engine) -> None:
    """Where the system had a verdict and a person has none, the system's stays."""
    traffic = read_traffic(Reader(engine), Span())
    row = int(np.flatnonzero(traffic.recorded.verified == RIGHT)[0])
    decision = traffic.recorded.id[row].decode()
    ledger = Ledger(engine)
    note = note_of(0.5, "draw=0.1 risk=1")
    ledger.record_label(Label(decision, "acme", Source.AUDIT, None, 1_790_000_000.0, note=note), keep_text=True)
    ledger.close()
    assert read_traffic(Reader(engine), Span()).recorded.verified[row] == RIGHT
    assert UNDECIDED not in read_traffic(Reader(engine), Span()).recorded.verified


def test_an_empty_ledger_is_read(tmp_path: Path) -> None:
    """No decisions, no failure."""
    from dedup_service.ledger.database import open_database

    open_database(f"sqlite:///{tmp_path / 'empty.sqlite'}").dispose()
    engine = open_ledger(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    assert len(read_traffic(Reader(engine), Span())) == 0
    engine.dispose()


def refused(url: str) -> str:
    """The reason why a ledger is refused."""
    with pytest.raises(AuditError) as caught:
        open_ledger(url)
    return caught.value.reason


def test_what_is_no_ledger_is_refused(made: Made, tmp_path: Path) -> None:
    """Each broken input has its own reason, and none is created, migrated or mended."""
    whole = Path(made.url.removeprefix("sqlite:///")).read_bytes()
    half = tmp_path / "half.sqlite"
    half.write_bytes(whole[: len(whole) // 2])
    assert refused(f"sqlite:///{half}") == "LEDGER_DAMAGED"
    text = tmp_path / "text.sqlite"
    text.write_text("not a database " * 50)
    assert refused(f"sqlite:///{text}") == "LEDGER_DAMAGED"
    (tmp_path / "nothing.sqlite").touch()
    assert refused(f"sqlite:///{tmp_path / 'nothing.sqlite'}") == "LEDGER_DAMAGED"
    assert refused(f"sqlite:///{tmp_path / 'absent.sqlite'}") == "LEDGER_ABSENT"
    assert not (tmp_path / "absent.sqlite").exists()
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    other.close()
    assert refused(f"sqlite:///{tmp_path / 'other.sqlite'}") == "LEDGER_ABSENT"
    assert refused("mysql://host/name") == "LEDGER_INVALID"
    assert refused("not a url") == "LEDGER_INVALID"
    assert refused("postgresql://nobody@127.0.0.1:1/none") == "LEDGER_UNAVAILABLE"


def test_a_ledger_from_the_future_is_refused(ledger: Made) -> None:
    """A newer version's ledger is not guessed at."""
    connection = sqlite3.connect(ledger.url.removeprefix("sqlite:///"))
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    assert refused(ledger.url) == "LEDGER_NEWER"


def test_damage_in_the_middle_is_named(ledger: Made) -> None:
    """A file whose pages are overwritten fails with a reason while it is read."""
    path = Path(ledger.url.removeprefix("sqlite:///"))
    data = bytearray(path.read_bytes())
    start = len(data) // 3
    data[start : start + 400_000] = b"\xff" * 400_000
    path.write_bytes(data)
    with pytest.raises(AuditError) as caught:
        engine = open_ledger(ledger.url)
        try:
            read_traffic(Reader(engine), Span())
        finally:
            engine.dispose()
    assert caught.value.reason == "LEDGER_DAMAGED"
