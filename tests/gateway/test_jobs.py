"""Questions that can wait: queued, asked when the model has time, and still there after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from askonce.faults import Exhausted, Fault, InvalidInput
from askonce.v1 import answer_pb2, content_pb2
from gateway.job_store import JobStore
from gateway.jobs import Jobs
from gateway.settings import Jobs as JobSettings
from tests.gateway.doubles import request_for
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow


def ask(text: str = "x") -> answer_pb2.AnswerRequest:
    """A request for a job."""
    return request_for(picture(), text)


def files(folder: Path, pattern: str) -> list[Path]:
    """What lies in the store's folder."""
    return list(folder.glob(f"*/{pattern}"))


async def never(request: answer_pb2.AnswerRequest, tenant: str) -> answer_pb2.AnswerResponse:
    """A model that has no time."""
    raise Exhausted("QUEUE_FULL", "busy", retry_after=60.0)


async def echo(request: answer_pb2.AnswerRequest, tenant: str) -> answer_pb2.AnswerResponse:
    """A model that says what it was asked."""
    return answer_pb2.AnswerResponse(answer=content_pb2.Answer(text=f"{tenant}: {request.question.text}"))


async def test_queue_and_memory_are_bounded(tmp_path: Path) -> None:
    """A full queue refuses; what is done makes room for what comes, oldest first."""
    jobs = Jobs(JobSettings(folder=tmp_path, queued=2, kept=3), JobStore(tmp_path), echo)
    for number in range(2):
        await jobs.create("tenants/a", ask(), f"j{number}")
    with pytest.raises(Exhausted, match="full"):
        await jobs.create("tenants/a", ask(), "j2")
    await jobs.step()
    await jobs.step()
    for number in range(2, 4):
        await jobs.create("tenants/a", ask(), f"j{number}")
    assert [name[-2:] for name in jobs.jobs] == ["j1", "j2", "j3"]
    assert not (tmp_path / "a" / "j0.job").exists()


async def test_jobs_expire(tmp_path: Path) -> None:
    """A job is forgotten when its time is over, done or not, with its files."""
    now = 1_000.0
    jobs = Jobs(JobSettings(folder=tmp_path, ttl=10.0), JobStore(tmp_path), never, clock=lambda: now)
    job = await jobs.create("tenants/a", ask(), "")
    now += 9.0
    await jobs.expire()
    assert await jobs.get(job.name) is job
    now += 2.0
    await jobs.expire()
    with pytest.raises(Fault, match="no such job"):
        await jobs.get(job.name)
    assert files(tmp_path, "*") == []


@pytest.mark.parametrize("size", [-1, 101])
async def test_page_size(tmp_path: Path, size: int) -> None:
    """A page has 1 to 100 jobs."""
    jobs = Jobs(replace(JobSettings(), folder=tmp_path), JobStore(tmp_path), echo)
    with pytest.raises(InvalidInput):
        await jobs.list("tenants/a", size, "")
    with pytest.raises(InvalidInput):
        await jobs.list("tenants/a", 1, "nowhere")


async def test_tenants_take_turns(tmp_path: Path) -> None:
    """One tenant may not fill the queue, and its many jobs do not hold up another's only one."""
    asked = list[str]()

    async def note(request: answer_pb2.AnswerRequest, tenant: str) -> answer_pb2.AnswerResponse:
        asked.append(tenant)
        return answer_pb2.AnswerResponse()

    jobs = Jobs(JobSettings(folder=tmp_path, queued_each=3), JobStore(tmp_path), note)
    for number in range(3):
        await jobs.create("tenants/loud", ask(), f"j{number}")
    with pytest.raises(Exhausted, match="tenant's places"):
        await jobs.create("tenants/loud", ask(), "j3")
    await jobs.create("tenants/quiet", ask(), "only")
    for _ in range(4):
        await jobs.step()
    assert asked == ["tenants/loud", "tenants/quiet", "tenants/loud", "tenants/loud"]
