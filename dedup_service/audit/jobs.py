"""Reports made on demand: one at a time, each in a process of its own, kept for 30 days as folders."""

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

from askonce.names import ALL
from dedup_service.audit.job import OLDEST, Job
from dedup_service.ledger.records import new_id, time_of
from dedup_service.store.records import MemoryUnavailableError, Unused

KEEP = 30 * 86_400.0
"""Seconds that a report is kept."""
REMEMBERED = 100
"""Most jobs remembered after their end."""
GRACE = 5.0
"""Seconds that a process told to stop may take to clean up."""
ID = re.compile(r"[0-9a-f]{32}")


class BusyError(Exception):
    """A report is being made already."""


@dataclass
class Running:
    """One report on its way, or how it ended."""

    id: str
    tenant: str
    """The tenant, or "-"."""
    start: float
    stage: str = "starting"
    share: float = 0.0
    done: bool = False
    cancelled: bool = False
    reason: str = ""
    """Why it failed, UPPER_SNAKE; empty when it did not."""
    message: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Reports:
    """Makes, finds and deletes reports below `folder`."""

    def __init__(
        self,
        folder: Path,
        ledger: str,
        *,
        default_policy: str = "",
        unused: Callable[[str, int], Awaitable[Unused]] | None = None,
        keep: float = KEEP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.ledger = ledger
        self.default_policy = default_policy
        self.unused = unused
        self.keep = keep
        self.clock = clock
        self.jobs: dict[str, Running] = {}

    def start(
        self,
        tenant: str,
        window: float,
        *,
        max_wrong: float | None = None,
        confidence: float | None = None,
        price: float | None = None,
        currency: str = "USD",
    ) -> Running:
        """Starts a report over the last `window` seconds. Raises BusyError while another one is made."""
        if any(not job.done for job in self.jobs.values()):
            raise BusyError
        now = self.clock()
        running = Running(new_id(now), tenant, now)
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
        self.jobs[running.id] = running
        for old in list(self.jobs)[:-REMEMBERED]:
            del self.jobs[old]
        running.task = asyncio.create_task(self.run(running, job))
        return running

    async def run(self, running: Running, job: Job) -> None:
        """Follows the process to its end; stops it when cancelled."""
        process: asyncio.subprocess.Process | None = None
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
            if process is not None:
                await end(process)
            running.done = True

    async def never_hit(self, tenant: str | None) -> tuple[int, int, list[tuple[str, str, float]]] | None:
        """What the store says about entries that were never served; None over all tenants, or when it is away."""
        if tenant is None or self.unused is None:
            return None
        try:
            found = await self.unused(tenant, OLDEST)
        except MemoryUnavailableError:
            return None
        return found.entries, found.never, [(e.question, e.model, e.create_time) for e in found.oldest]

    async def cancel(self, job: str) -> None:
        """Stops a report on its way; nothing of it is left. Finished ones stay."""
        running = self.jobs.get(job)
        if running is not None and running.task is not None and not running.done:
            running.task.cancel()
            await asyncio.wait([running.task])

    async def stop(self) -> None:
        """Stops what is on its way."""
        for job in list(self.jobs):
            await self.cancel(job)

    def place(self, tenant: str, report: str) -> Path:
        """The folder of a report. Raises LookupError for an id that is none."""
        if not ID.fullmatch(report):
            raise LookupError(report)
        return self.folder / tenant / report

    def read(self, tenant: str, report: str) -> Mapping[str, Any]:
        """A finished report's JSON. Raises LookupError. Blocks."""
        try:
            found: Mapping[str, Any] = json.loads((self.place(tenant, report) / "report.json").read_bytes())
        except (OSError, ValueError) as error:
            raise LookupError(report) from error
        return found

    def files(self, tenant: str, report: str) -> tuple[bytes, bytes]:
        """The page and the JSON of a finished report. Raises LookupError. Blocks."""
        folder = self.place(tenant, report)
        try:
            return (folder / "report.html").read_bytes(), (folder / "report.json").read_bytes()
        except OSError as error:
            raise LookupError(report) from error

    def ids(self, tenant: str) -> list[str]:
        """Ids of a tenant's finished reports, newest first. Blocks."""
        folder = self.folder / tenant
        if not folder.is_dir():
            return []
        found = (each.name for each in folder.iterdir() if (each / "report.json").is_file())
        return sorted((name for name in found if ID.fullmatch(name)), reverse=True)

    def delete(self, tenant: str, report: str) -> bool:
        """Deletes a report. False when there was none. Blocks."""
        folder = self.place(tenant, report)
        there = folder.is_dir()
        shutil.rmtree(folder, ignore_errors=True)
        return there

    async def forget(self, tenant: str) -> int:
        """Deletes a tenant's reports and those over all tenants, finished or not: they quote its questions. Returns how
        many were finished."""
        for job in [each for each in self.jobs.values() if each.tenant in (tenant, ALL) and not each.done]:
            await self.cancel(job.id)
        return await asyncio.to_thread(self.forget_files, (tenant, ALL))

    def forget_files(self, owners: Sequence[str]) -> int:
        """Deletes the reports of these owners, and what a process that was killed left of others. Blocks."""
        self.clear(owners)
        return sum(self.delete(owner, report) for owner in owners for report in self.ids(owner))

    def clear(self, owners: Sequence[str] | None = None) -> None:
        """Deletes what processes that were killed left half-made. Blocks; call it while none is under way."""
        for owner in ("*",) if owners is None else owners:
            for draft in self.folder.glob(f"{owner}/.*.draft-*"):
                shutil.rmtree(draft, ignore_errors=True)

    def sweep(self) -> int:
        """Deletes reports past their time. Returns how many. Blocks."""
        if not self.folder.is_dir():
            return 0
        due = self.clock() - self.keep
        old = [
            (tenant.name, report)
            for tenant in self.folder.iterdir()
            if tenant.is_dir()
            for report in self.ids(tenant.name)
            if time_of(report) < due
        ]
        return sum(self.delete(tenant, report) for tenant, report in old)


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
