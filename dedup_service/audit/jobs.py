"""Reports made on demand: one at a time, each in a process of its own, kept for 30 days in the ledger's database."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from askonce.names import ALL
from dedup_service.audit.job import OLDEST, Job
from dedup_service.ledger.records import new_id
from dedup_service.ledger.report_rows import ReportRows, ReportState
from dedup_service.store.records import MemoryUnavailableError, Unused

log = structlog.get_logger("reports")
KEEP = 30 * 86_400.0
"""Seconds that a report is kept."""
BEAT = 1.0
"""Seconds between two words about a report on its way."""
POLL = 0.2
"""Seconds between two looks at a report that another replica makes."""
STOPPING = 10.0
"""Seconds to wait for another replica to stop a report."""
PAGE, FIGURES = "report.html", "report.json"
GRACE = 5.0
"""Seconds that a process told to stop may take to clean up."""
ID = re.compile(r"[0-9a-f]{32}")


class BusyError(Exception):
    """A report is being made already, here or at another replica."""


@dataclass
class Running:
    """One report on its way here."""

    id: str
    tenant: str
    """The tenant, or "-"."""
    stage: str = "starting"
    share: float = 0.0
    cancelled: bool = False
    reason: str = ""
    """Why it failed, UPPER_SNAKE; empty when it did not."""
    message: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Reports:
    """Makes, finds and deletes reports. They stand in the ledger's database, so that any replica answers for any of
    them; while one is made its files lie below `folder`."""

    def __init__(
        self,
        folder: Path,
        ledger: str,
        rows: ReportRows,
        *,
        default_policy: str = "",
        unused: Callable[[str, int], Awaitable[Unused]] | None = None,
        keep: float = KEEP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.ledger = ledger
        self.rows = rows
        self.default_policy = default_policy
        self.unused = unused
        self.keep = keep
        self.clock = clock
        self.here: dict[str, Running] = {}

    async def start(
        self,
        tenant: str,
        window: float,
        *,
        max_wrong: float | None = None,
        confidence: float | None = None,
        price: float | None = None,
        currency: str = "USD",
    ) -> ReportState:
        """Starts a report over the last `window` seconds. Raises BusyError while another one is made."""
        now = self.clock()
        running = Running(new_id(now), tenant)
        if not await asyncio.to_thread(self.rows.start, running.id, tenant, now):
            raise BusyError
        job = Job(
            self.ledger,
            str(self.place(tenant, running.id)),
            now - window,
            now,
            None if tenant == ALL else tenant,
            max_wrong,
            confidence,
            price,
            currency,
            self.default_policy,
        )
        self.here[running.id] = running
        running.task = asyncio.create_task(self.run(running, job))
        return ReportState(running.id, tenant, running.stage, running.share, False, False, "", "")

    async def run(self, running: Running, job: Job) -> None:
        """Follows the process to its end; stops it when cancelled, here or at another replica."""
        process: asyncio.subprocess.Process | None = None
        telling = asyncio.create_task(self.tell(running))
        try:
            job = replace(job, never_hit=await self.never_hit(job.tenant))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "dedup_service.audit",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asdict(job)).encode())
            process.stdin.close()
            async for line in process.stdout:
                said = json.loads(line)
                running.stage, running.share = said.get("stage", running.stage), said.get("share", running.share)
                running.reason, running.message = said.get("reason", ""), said.get("message", "")
            if await process.wait() != 0 and not running.reason:
                running.reason, running.message = "AUDIT_FAILED", "The audit's process ended before it was done."
        except asyncio.CancelledError:
            running.cancelled = True
            running.reason, running.message = "CANCELLED", "The report was cancelled."
        except (OSError, ValueError) as error:
            running.reason, running.message = "AUDIT_FAILED", f"The audit's process failed: {type(error).__name__}."
        finally:
            telling.cancel()
            if process is not None:
                await end(process)
            await asyncio.to_thread(self.finish, running)
            self.here.pop(running.id, None)

    async def tell(self, running: Running) -> None:
        """Writes down now and then how far a report is; stops it when nobody wants it any more."""
        while True:
            await asyncio.sleep(BEAT)
            try:
                wanted = await asyncio.to_thread(self.rows.say, running.id, running.stage, running.share, self.clock())
            except SQLAlchemyError:
                continue
            if not wanted and running.task is not None:
                running.task.cancel()
                return

    def finish(self, running: Running) -> None:
        """Moves a report's files into the database, or writes down why there are none. Blocks."""
        place = self.place(running.tenant, running.id)
        page = figures = None
        try:
            if not running.reason:
                page, figures = (place / PAGE).read_bytes(), (place / FIGURES).read_bytes()
            self.rows.end(
                running.id,
                cancelled=running.cancelled,
                reason=running.reason,
                message=running.message,
                page=page,
                figures=figures,
            )
        except (OSError, SQLAlchemyError) as error:
            log.error("report_lost", report=running.id, error=type(error).__name__)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    async def never_hit(self, tenant: str | None) -> tuple[int, int, list[tuple[str, str, float]]] | None:
        """What the store says about entries that were never served; None over all tenants, or when it is away."""
        if tenant is None or self.unused is None:
            return None
        try:
            found = await self.unused(tenant, OLDEST)
        except MemoryUnavailableError:
            return None
        return found.entries, found.never, [(e.question, e.model, e.create_time) for e in found.oldest]

    async def cancel(self, report: str) -> None:
        """Stops a report on its way, at whichever replica; nothing of it is left. Finished ones stay."""
        running = self.here.get(report)
        if running is not None and running.task is not None:
            running.task.cancel()
            await asyncio.wait([running.task])
            return
        await asyncio.to_thread(self.rows.stop, report)
        await self.wait(report, STOPPING)

    async def wait(self, report: str, seconds: float) -> None:
        """Waits until a report is done, at whichever replica, or so many seconds are over."""
        running = self.here.get(report)
        if running is not None and running.task is not None:
            await asyncio.wait([running.task], timeout=seconds)
            return
        until = time.monotonic() + seconds
        while True:
            state = await self.state(report)
            if state is None or state.done or time.monotonic() >= until:
                return
            await asyncio.sleep(POLL)

    async def state(self, report: str) -> ReportState | None:
        """How far a report is."""
        return await asyncio.to_thread(self.rows.state, report, self.clock())

    async def states(self) -> list[ReportState]:
        """How far the newest reports are, newest first."""
        return await asyncio.to_thread(self.rows.states, self.clock())

    async def unlist(self, report: str) -> None:
        """Takes what is told of a report's making off the list."""
        await asyncio.to_thread(self.rows.unlist, report)

    async def stop(self) -> None:
        """Stops what is on its way here."""
        for report in list(self.here):
            await self.cancel(report)

    def place(self, tenant: str, report: str) -> Path:
        """The folder of a report that is being made. Raises LookupError for an id that is none."""
        if not ID.fullmatch(report):
            raise LookupError(report)
        return self.folder / tenant / report

    def read(self, tenant: str, report: str) -> Mapping[str, Any]:
        """A finished report's JSON. Raises LookupError. Blocks."""
        packed = self.rows.figures(tenant, report)
        if packed is None:
            raise LookupError(report)
        found: Mapping[str, Any] = json.loads(packed)
        return found

    def files(self, tenant: str, report: str) -> tuple[bytes, bytes]:
        """The page and the JSON of a finished report. Raises LookupError. Blocks."""
        page, figures = self.rows.page(tenant, report), self.rows.figures(tenant, report)
        if page is None or figures is None:
            raise LookupError(report)
        return page, figures

    def ids(self, tenant: str) -> list[str]:
        """Ids of a tenant's finished reports, newest first. Blocks."""
        return self.rows.ids(tenant)

    def delete(self, tenant: str, report: str) -> bool:
        """Deletes a report. False when there was none. Blocks."""
        return self.rows.delete(tenant, report)

    async def forget(self, tenant: str) -> int:
        """Deletes a tenant's reports and those over all tenants, finished or not: they quote its questions. Returns how
        many were finished."""
        owners = (tenant, ALL)
        for report in await asyncio.to_thread(self.rows.under_way, owners):
            await self.cancel(report)
        await asyncio.to_thread(self.clear, owners)
        return await asyncio.to_thread(self.rows.delete_all, owners)

    def clear(self, owners: Sequence[str] | None = None) -> None:
        """Deletes what processes that were killed left half-made. Blocks; call it while none is under way."""
        for owner in ("*",) if owners is None else owners:
            for draft in self.folder.glob(f"{owner}/.*.draft-*"):
                shutil.rmtree(draft, ignore_errors=True)

    def take_over(self) -> int:
        """Moves reports that an earlier version kept as files into the database. Returns how many. Blocks; call it
        while none is under way."""
        taken = 0
        for figures in self.folder.glob(f"*/*/{FIGURES}"):
            report, tenant = figures.parent.name, figures.parent.parent.name
            if ID.fullmatch(report):
                self.rows.take(tenant, report, (figures.parent / PAGE).read_bytes(), figures.read_bytes())
                shutil.rmtree(figures.parent, ignore_errors=True)
                taken += 1
        return taken

    def sweep(self) -> int:
        """Deletes reports past their time. Returns how many. Blocks."""
        return self.rows.sweep(self.clock() - self.keep)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends a process that still runs: asks first, so that it cleans up."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), GRACE)
    except TimeoutError:
        process.kill()
        await process.wait()
