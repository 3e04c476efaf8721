"""What was purged at dedup leaves the jobs of the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from askonce.faults import Unreachable
from askonce.times import to_timestamp
from askonce.v1 import dedup_pb2
from gateway.job_store import JobStore
from gateway.jobs import Jobs
from gateway.removals import Removals
from gateway.settings import Jobs as JobSettings
from tests.gateway.doubles import Running
from tests.gateway.test_jobs import ask, echo

pytestmark = pytest.mark.slow


async def done(jobs: Jobs, tenant: str) -> str:
    """A job that is done, and its name."""
    job = await jobs.create(f"tenants/{tenant}", ask(f"the heron of {tenant}"), "")
    await jobs.step()
    return job.name


def held(folder: Path, text: str) -> bool:
    """Whether a file holds a text."""
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_purge_takes_the_answers_of_jobs_along(system: Running, tmp_path: Path) -> None:
    """Whatever was done before a removal of its tenant goes with its file, over several pages; other tenants' jobs,
    later ones and those that wait stay. What dedup can't say is asked for again."""
    now = [1_000.0]
    jobs = Jobs(JobSettings(folder=tmp_path), JobStore(tmp_path), echo, lambda: now[0])
    gone = [await done(jobs, tenant) for tenant in ("a", "b", "c")]
    stays = [await done(jobs, "d")]
    waiting = await jobs.create("tenants/a", ask("the heron waits"), "waiting")
    now[0] = 3_000.0
    system.memory.removals += [
        dedup_pb2.Removal(parent=f"tenants/{tenant}", remove_time=to_timestamp(2_000.0)) for tenant in ("a", "b", "c")
    ]
    removals = Removals(system.gateway.dedup, jobs)
    system.memory.fault = Unreachable("MEMORY_UNAVAILABLE", "away", retry_after=1.0)
    assert await removals.step() is None
    system.memory.fault = None
    assert await removals.step() == 0.0
    assert await removals.step() == 0.0
    assert await removals.step() is None
    assert not jobs.jobs.keys() & set(gone)
    assert not any(held(tmp_path, f"heron of {tenant}") for tenant in ("a", "b", "c"))
    assert held(tmp_path, "heron of d")
    assert jobs.jobs.keys() == {*stays, waiting.name}
    stays.append(await done(jobs, "d"))
    assert await removals.step() is None
    assert stays[-1] in jobs.jobs
