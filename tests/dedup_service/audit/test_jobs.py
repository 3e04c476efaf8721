"""Reports on demand: one at a time, in a process of its own."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from benchmarks.ledgers import Made
from dedup_service.audit.jobs import KEEP, BusyError, Reports
from dedup_service.store.records import MemoryUnavailableError, Unused
from tests.dedup_service.audit.conftest import END, FORTNIGHT
from tests.dedup_service.store.test_repository import an_entry, an_image

pytestmark = pytest.mark.slow


@pytest.fixture
def reports(ledger: Made, tmp_path: Path) -> Reports:
    """Reports over the made ledger, at its end."""
    return Reports(tmp_path / "reports", ledger.url, clock=lambda: END)


async def test_a_report_is_made_and_found(reports: Reports) -> None:
    """It is made in the background with progress, one at a time, and read from its folder."""
    running = reports.start("-", FORTNIGHT)
    with pytest.raises(BusyError):
        reports.start("acme", 60.0)
    assert running.task is not None
    await running.task
    assert (running.done, running.reason, running.stage) == (True, "", "done")
    assert await asyncio.to_thread(reports.ids, "-") == [running.id]
    read = await asyncio.to_thread(reports.read, "-", running.id)
    assert read["requests"] == 4_000
    assert await asyncio.to_thread(reports.delete, "-", running.id)
    with pytest.raises(LookupError):
        await asyncio.to_thread(reports.read, "-", running.id)


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
        running = reports.start("acme", FORTNIGHT)
        assert running.task is not None
        await running.task
        assert (running.done, running.reason) == (True, "")
        found.append((await asyncio.to_thread(reports.read, "acme", running.id))["never_hit"])
    assert asked == ["acme", "acme"]
    assert (found[0]["entries"], found[0]["never"], found[0]["oldest"][0][1]) == (3, 1, "glm")
    assert found[1] is None


async def test_a_cancelled_report_leaves_nothing(reports: Reports) -> None:
    """Cancelling ends the process and its draft, and makes room for the next."""
    running = reports.start("acme", FORTNIGHT)
    while running.stage == "starting" and not running.done:
        await asyncio.sleep(0.05)
    await reports.cancel(running.id)
    assert running.cancelled
    assert running.reason == "CANCELLED"
    left = await asyncio.to_thread(lambda: [p for p in reports.folder.rglob("*") if p.is_file()])
    assert left == []
    reports.start("acme", FORTNIGHT)
    await reports.stop()


async def test_a_refused_report_has_a_reason(reports: Reports) -> None:
    """What the process refuses, the job says."""
    await asyncio.to_thread(shutil.os.unlink, reports.ledger.removeprefix("sqlite:///"))  # type: ignore[attr-defined]
    running = reports.start("-", FORTNIGHT)
    assert running.task is not None
    await running.task
    assert running.reason == "LEDGER_ABSENT"


def test_old_reports_go(tmp_path: Path) -> None:
    """A report past its time is deleted, a younger one stays; names that are no ids are left alone and refused."""
    now = 1_800_000_000.0
    reports = Reports(tmp_path, "sqlite:///x", clock=lambda: now)
    old, young = (f"{int((now - age) * 1e6):014x}{'0' * 18}" for age in (KEEP + 10, KEEP - 10))
    for name in (old, young):
        (tmp_path / "acme" / name).mkdir(parents=True)
        (tmp_path / "acme" / name / "report.json").write_text("{}")
    assert reports.sweep() == 1
    assert reports.ids("acme") == [young]
    with pytest.raises(LookupError):
        reports.place("acme", "../../etc")
