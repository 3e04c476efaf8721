"""Jobs outlive the process that took them."""

from __future__ import annotations

from pathlib import Path

from gateway.job_store import JobStore
from gateway.jobs import Jobs
from gateway.settings import Jobs as JobSettings
from tests.gateway.test_jobs import ask, echo, files


async def test_jobs_outlive_the_process(tmp_path: Path) -> None:
    """A queue taken up by another process has every job: those done with their answers, the others to be asked."""
    before = Jobs(JobSettings(folder=tmp_path), JobStore(tmp_path), echo)
    first = await before.create("tenants/a", ask("one"), "one")
    await before.step()
    await before.create("tenants/b", ask("two"), "two")
    after = Jobs(JobSettings(folder=tmp_path), JobStore(tmp_path), echo)
    await after.load()
    assert (await after.get(first.name)).response.answer.text == "tenants/a: one"
    await after.step()
    assert (await after.get("tenants/b/jobs/two")).response.answer.text == "tenants/b: two"
    assert files(tmp_path, "*.request") == []


async def test_broken_file_hinders_nobody(tmp_path: Path) -> None:
    """A job whose file can't be read is left out."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.job").write_bytes(b"\xff\xff\xff")
    jobs = Jobs(JobSettings(folder=tmp_path), JobStore(tmp_path), echo)
    await jobs.load()
    assert jobs.jobs == {}
