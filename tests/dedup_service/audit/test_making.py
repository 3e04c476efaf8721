"""A report as a folder: complete or not at all."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from sqlalchemy import Engine

from benchmarks.ledgers import Made
from dedup_service.audit import making
from dedup_service.audit.making import Wanted, make_report
from dedup_service.audit.report import NeverHit
from dedup_service.audit.traffic import AuditError, open_ledger
from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.records import Decision, new_id
from dedup_service.ledger.thumbnails import Thumbnails, thumbnail_of
from tests.dedup_service.audit.conftest import END, FORTNIGHT

pytestmark = pytest.mark.slow
WANTED = Wanted(END - FORTNIGHT, END, price=2.5)


def left_in(folder: Path) -> list[str]:
    """What a failed report left behind."""
    return sorted(path.name for path in folder.iterdir() if "report" in path.name)


def test_a_report_says_what_the_ledger_knows(engine: Engine, made: Made, tmp_path: Path) -> None:
    """Counts match the ledger, the interval covers the truth, the files are there, and the page loads nothing."""
    stages: list[str] = []
    report = make_report(engine, WANTED, tmp_path / "report", lambda stage, _share: stages.append(stage))
    assert (report.requests, report.hits) == (made.decisions, made.hits)
    assert report.exact_hits + report.copy_hits + report.rephrased_hits == made.hits
    assert report.accuracy.interval.low <= made.wrong_rate <= report.accuracy.interval.high
    assert report.savings.money == pytest.approx(
        2.5 * report.savings.model_seconds / 3_600 * (1 - report.savings.explored_calls / report.savings.calls),
        rel=0.05,
    )
    assert list(dict.fromkeys(stages)) == ["reading decisions", "computing", "drawing", "writing pairs", "done"]
    read = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (read["requests"], read["verdict"]) == (made.decisions, report.verdict)
    page = (tmp_path / "report" / "report.html").read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", page)
    assert "<script" not in page
    assert page.count("<svg") == 6
    assert "总金额是多少" in page
    assert 'style="left' not in page or "%" in page


def test_planted_faults_are_found(engine: Engine, made: Made, tmp_path: Path) -> None:
    """Reuses that are wrong although every recorded score is fine are among the findings, by what contradicts them;
    those that nothing contradicts can't be."""
    report = make_report(engine, WANTED, tmp_path / "report")
    planted = {d.id: d for d in making.Reader(engine).by_id(made.planted)}
    fields = {
        d.question_digest + d.nearest_question_digest
        for d in planted.values()
        if d.question_text != d.nearest_question_text
    }
    found = {shown.decision for shown in report.suspicious if shown.signs != ("RISKY",)}
    parted = [shown for shown in report.suspicious if "VETO_NOW" in shown.signs]
    assert fields
    assert parted
    assert len(found & set(planted)) >= 3


def test_pairs_hold_what_was_compared(engine: Engine, tmp_path: Path) -> None:
    """Parquet and CSV hold the same pairs, exact repeats left out, with their labels."""
    make_report(engine, Wanted(END - FORTNIGHT, END, pairs=("parquet", "csv")), tmp_path / "report")
    table = pyarrow.parquet.read_table(tmp_path / "report" / "pairs.parquet")
    assert table.num_rows == pyarrow.csv.read_csv(tmp_path / "report" / "pairs.csv").num_rows
    rows = table.to_pylist()
    assert all(row["risk"] is not None for row in rows)
    assert not [r for r in rows if r["image_tier"] == "BYTES" and r["question_tier"] == "EXACT"]
    assert {row["label"] for row in rows} >= {"RIGHT", "WRONG", None}


def test_a_report_replaces_the_one_before(engine: Engine, tmp_path: Path) -> None:
    """The folder is swapped; nothing of the old report stays, and no draft."""
    out = tmp_path / "report"
    make_report(engine, WANTED, out)
    (out / "old").touch()
    make_report(engine, Wanted(END - FORTNIGHT, END, tenant="acme", pairs=()), out)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]
    assert left_in(tmp_path) == ["report"]


def test_a_foreign_folder_is_not_touched(engine: Engine, tmp_path: Path) -> None:
    """What is no report is not replaced."""
    out = tmp_path / "report"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(AuditError) as caught:
        make_report(engine, WANTED, out)
    assert caught.value.reason == "OUT_NOT_OURS"
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def decided(engine: Engine, **given: Any) -> None:
    """Puts one decision into a ledger."""
    ledger = Ledger(engine)
    ledger.record_decision(Decision(new_id(END - 60), "acme", END - 60, **given), keep_text=True)
    ledger.close()


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_ledger_and_one_decision_make_a_report(tmp_path: Path, count: int) -> None:
    """Little to say is said plainly, not with an error, a division by zero or a rate out of nothing."""
    engine = open_database(f"sqlite:///{tmp_path / 'small.sqlite'}")
    if count:
        decided(engine, hit=True, would_hit=True, reason="EXACT", image_tier="BYTES", question_tier="EXACT", risk=0.0)
    report = make_report(engine, WANTED, tmp_path / "report")
    engine.dispose()
    assert report.requests == count
    assert report.verdict == "TOO_FEW_LABELS"
    page = (tmp_path / "report" / "report.html").read_text()
    assert ("Nothing was decided in this time" in page) == (count == 0)
    assert "not known" in page


def test_no_texts_no_findings_to_read(tmp_path: Path) -> None:
    """Where the policy keeps no texts, the page says so and shows none."""
    engine = open_database(f"sqlite:///{tmp_path / 'small.sqlite'}")
    ledger = Ledger(engine)
    secret = Decision(
        new_id(END - 60), "acme", END - 60, hit=True, would_hit=True, reason="KNOWN", image_tier="BYTES",
        question_tier="KNOWN", image_score=1.0, question_score=0.99, risk=0.01, question_text="my salary?",
        nearest_question_text="what do I earn?", nearest_answer_text="too little",
    )  # fmt: skip
    ledger.record_decision(secret, keep_text=False)
    ledger.close()
    report = make_report(engine, WANTED, tmp_path / "report")
    engine.dispose()
    page = (tmp_path / "report" / "report.html").read_text()
    assert "salary" not in page
    assert "text not kept" in page
    assert not report.texts_kept


def test_a_full_disk_leaves_nothing(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the disk is full at once or in the middle of the pairs: a clear reason, and no half report."""
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1_000))
        with pytest.raises(AuditError) as caught:
            make_report(engine, WANTED, tmp_path / "report")
    assert caught.value.reason == "DISK_FULL"

    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(making, "write_pairs", full)
    with pytest.raises(AuditError) as caught:
        make_report(engine, WANTED, tmp_path / "report")
    assert caught.value.reason == "DISK_FULL"
    assert left_in(tmp_path) == []


def test_a_cancelled_report_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    """Whatever ends it, the draft is gone."""

    def progress(stage: str, _share: float) -> None:
        if stage == "drawing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_report(engine, WANTED, tmp_path / "report", progress)
    assert left_in(tmp_path) == []


def test_an_unwritable_place(engine: Engine, tmp_path: Path) -> None:
    """A place that can't be written is named."""
    (tmp_path / "file").touch()
    with pytest.raises(AuditError) as caught:
        make_report(engine, WANTED, tmp_path / "file" / "report")
    assert caught.value.reason == "OUT_UNWRITABLE"


def test_thumbnails_are_shown_where_they_are_kept(engine: Engine, tmp_path: Path) -> None:
    """Kept pictures stand beside the findings, with the differing place boxed; otherwise the page says why not."""
    first = make_report(engine, WANTED, tmp_path / "report")
    assert "Thumbnails are not kept" in (tmp_path / "report" / "report.html").read_text()
    shown = next(each for each in (*first.suspicious, *first.promising) if each.stored_image)
    kept = Thumbnails(engine)
    picture = thumbnail_of(np.full((400, 300, 3), 200, np.uint8))
    assert picture is not None
    kept.put(shown.tenant, shown.stored_image, picture)
    report = make_report(
        engine, Wanted(END - FORTNIGHT, END, never_hit=NeverHit(3, 1, (("q", "m", END),))), tmp_path / "report"
    )
    page = (tmp_path / "report" / "report.html").read_text()
    assert report.thumbnails_kept
    assert "data:image/webp;base64," in page
    assert "1 of 3 stored answers were never served" in page


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(engine: Engine, tmp_path: Path, width: int) -> None:
    """Without network, at both widths: it renders, its figures have pixels of their colours, and nothing complains."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    make_report(engine, WANTED, tmp_path / "report")
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
         "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
         f"--window-size={width},6000", f"--screenshot={shot}", (tmp_path / "report" / "report.html").as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    pixels = cv2.imread(str(shot))
    assert pixels is not None
    assert pixels.shape[1] == width
    blue = (np.abs(pixels.astype(int) - (0xA6, 0x66, 0x00)).sum(axis=2) < 40).sum()
    assert blue > 500


def test_a_ledger_read_only_is_enough(ledger: Made, tmp_path: Path) -> None:
    """An audit writes nothing into the ledger."""
    path = Path(ledger.url.removeprefix("sqlite:///"))
    before = path.read_bytes()
    opened = open_ledger(ledger.url)
    make_report(opened, WANTED, tmp_path / "report")
    opened.dispose()
    assert path.read_bytes() == before
