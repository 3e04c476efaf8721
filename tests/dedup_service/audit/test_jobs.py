"""Reports on demand: one at a time, in a process of its own, and any replica answers for any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.ledgers import Made
from dedup_service.audit.jobs import KEEP, BusyError, Reports
from dedup_service.ledger.database import open_database
from dedup_service.ledger.report_rows import ALIVE, ReportRows, ReportState
from dedup_service.store.records import MemoryUnavailableError, Unused
from tests.dedup_service.audit.conftest import END, FORTNIGHT
from tests.dedup_service.store.memories import an_entry, an_image

pytestmark = pytest.mark.slow
REPORT = f"{int(END * 1e6):014x}{'0' * 18}"


@pytest.fixture
def rows(ledger: Made) -> Iterator[ReportRows]:
    """The table of reports beside the made ledger."""
    engine = open_database(ledger.url)
    yield ReportRows(engine)
    engine.dispose()


@pytest.fixture
def reports(ledger: Made, rows: ReportRows, tmp_path: Path) -> Reports:
    """Reports over the made ledger, at its end."""
    return Reports(tmp_path / "reports", ledger.url, rows, clock=lambda: END)


@pytest.fixture
def other(ledger: Made, rows: ReportRows, tmp_path: Path) -> Reports:
    """The same at another replica, with a folder of its own."""
    return Reports(tmp_path / "other", ledger.url, rows, clock=lambda: END)


async def ended(reports: Reports, state: ReportState) -> ReportState:
    """How a report ended."""
    await reports.wait(state.id, 60.0)
    found = await reports.state(state.id)
    assert found is not None
    assert found.done
    return found


async def test_a_report_is_made_and_found(reports: Reports) -> None:
    """It is made in the background with progress, one at a time, and read from the database; its files are gone."""
    running = await reports.start("-", FORTNIGHT)
    with pytest.raises(BusyError):
        await reports.start("acme", 60.0)
    state = await ended(reports, running)
    assert (state.reason, state.stage, state.share) == ("", "done", 1.0)
    assert await asyncio.to_thread(reports.ids, "-") == [running.id]
    read = await asyncio.to_thread(reports.read, "-", running.id)
    assert read["requests"] == 4_000
    assert await asyncio.to_thread(lambda: [p for p in reports.folder.rglob("*") if p.is_file()]) == []
    assert await asyncio.to_thread(reports.delete, "-", running.id)
    with pytest.raises(LookupError):
        await asyncio.to_thread(reports.read, "-", running.id)


async def test_any_replica_answers_for_any_report(reports: Reports, other: Reports) -> None:
    """Another replica says how far a report is, refuses a second one meanwhile, stops it, and reads it."""
    running = await reports.start("-", FORTNIGHT)
    state = await other.state(running.id)
    assert state is not None
    assert not state.done
    with pytest.raises(BusyError):
        await other.start("acme", 60.0)
    await other.cancel(running.id)
    state = await ended(other, running)
    assert (state.cancelled, state.reason) == (True, "CANCELLED")
    assert not reports.here
    running = await reports.start("-", FORTNIGHT)
    assert (await ended(other, running)).reason == ""
    assert (await asyncio.to_thread(other.read, "-", running.id))["requests"] == 4_000
    page, figures = await asyncio.to_thread(other.files, "-", running.id)
    assert page.startswith(b"<!doctype html>")
    assert figures.startswith(b"{")
    assert running.id in {each.id for each in await other.states()}
    await other.unlist(running.id)
    assert await reports.state(running.id) is None
    assert await asyncio.to_thread(reports.ids, "-") == [running.id]


async def test_a_report_of_a_dead_replica_has_failed(rows: ReportRows, reports: Reports) -> None:
    """A report of which nothing is heard any more has failed, and is in nobody's way."""
    await asyncio.to_thread(rows.start, REPORT, "acme", END - ALIVE - 1)
    state = await reports.state(REPORT)
    assert state is not None
    assert (state.done, state.reason) == (True, "AUDIT_FAILED")
    await reports.start("acme", FORTNIGHT)
    await reports.stop()


async def test_forgetting_a_tenant_stops_what_is_made(reports: Reports, other: Reports) -> None:
    """A purge at one replica deletes the tenant's reports and those over all tenants, finished or not; others stay."""
    done, kept = (f"{int((END - age) * 1e6):014x}{'0' * 18}" for age in (1, 2))
    await asyncio.to_thread(reports.rows.take, "-", done, b"<!doctype html>", b"{}")
    await asyncio.to_thread(reports.rows.take, "globex", kept, b"<!doctype html>", b"{}")
    running = await reports.start("acme", FORTNIGHT)
    assert await other.forget("acme") == 1
    assert await reports.state(running.id) is None
    assert not reports.here
    assert await asyncio.to_thread(reports.ids, "-") == []
    assert await asyncio.to_thread(reports.ids, "globex") == [kept]


async def test_what_was_never_served_comes_from_the_store(reports: Reports) -> None:
    """A tenant's report names the entries that nobody was served; where the store is away it is made without."""
    asked: list[str] = []

    async def unused(tenant: str, most: int) -> Unused:
        asked.append(tenant)
        if len(asked) > 1:
            raise MemoryUnavailableError("away")
        image = an_image(tenant="acme")
        return Unused(3, 1, (an_entry(image, "how much"),))

    reports.unused = unused
    found = []
    for _ in range(2):
        state = await ended(reports, await reports.start("acme", FORTNIGHT))
        assert state.reason == ""
        found.append((await asyncio.to_thread(reports.read, "acme", state.id))["never_hit"])
    assert asked == ["acme", "acme"]
    assert (found[0]["entries"], found[0]["never"], found[0]["oldest"][0][1]) == (3, 1, "glm")
    assert found[1] is None


async def test_a_cancelled_report_leaves_nothing(reports: Reports) -> None:
    """Cancelling ends the process and its draft, and makes room for the next."""
    running = await reports.start("acme", FORTNIGHT)
    here = reports.here[running.id]
    while here.stage == "starting" and running.id in reports.here:
        await asyncio.sleep(0.05)
    await reports.cancel(running.id)
    state = await ended(reports, running)
    assert state.cancelled
    assert state.reason == "CANCELLED"
    left = await asyncio.to_thread(lambda: [p for p in reports.folder.rglob("*") if p.is_file()])
    assert left == []
    await reports.start("acme", FORTNIGHT)
    await reports.stop()


async def test_a_refused_report_has_a_reason(reports: Reports, tmp_path: Path) -> None:
    """What the process refuses, the job says."""
    reports.ledger = f"sqlite:///{tmp_path / 'nothing.sqlite'}"
    state = await ended(reports, await reports.start("-", FORTNIGHT))
    assert state.reason == "LEDGER_ABSENT"


def test_old_reports_go(rows: ReportRows, reports: Reports) -> None:
    """A report past its time is deleted, a younger one stays; names that are no ids are refused."""
    old, young = (f"{int((END - age) * 1e6):014x}{'0' * 18}" for age in (KEEP + 10, KEEP - 10))
    for name in (old, young):
        rows.take("acme", name, b"<!doctype html>", b"{}")
    assert reports.sweep() == 1
    assert reports.ids("acme") == [young]
    with pytest.raises(LookupError):
        reports.place("acme", "../../etc")


def test_reports_kept_as_files_are_taken_over(reports: Reports) -> None:
    """What an earlier version kept below the folder is found in the database afterwards, and nowhere else."""
    folder = reports.folder / "acme" / REPORT
    folder.mkdir(parents=True)
    (folder / "report.html").write_bytes(b"<!doctype html>")
    (folder / "report.json").write_bytes(b'{"requests": 7}')
    assert reports.take_over() == 1
    assert reports.take_over() == 0
    assert reports.read("acme", REPORT) == {"requests": 7}
    assert not folder.exists()
