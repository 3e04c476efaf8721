"""Questions that can wait, in a Redis that gateways share: any of them answers for any job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis import asyncio as redis

from askonce.faults import Absent, Exhausted, InvalidInput, Unreachable
from askonce.periodic import PeriodicTask
from askonce.redis_client import connect
from askonce.settings import SettingsError
from askonce.v1 import answer_pb2, job_pb2
from benchmarks.servers import RedisServer
from gateway.__main__ import run
from gateway.jobs import Queue
from gateway.jobs_redis import SharedJobs, key_of
from gateway.settings import Jobs as JobSettings
from gateway.settings import Settings
from tests.gateway.doubles import running
from tests.gateway.test_job_service import create, done
from tests.gateway.test_jobs import ask, echo, never

pytestmark = pytest.mark.slow
DONE, CANCELLED = job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_CANCELLED


@asynccontextmanager
async def working(jobs: Queue) -> AsyncIterator[None]:
    """A gateway that works the queue off."""
    task = PeriodicTask("jobs", jobs.step, 0.0)
    await task.start()
    yield
    await task.stop()


async def until(jobs: Queue, name: str, state: job_pb2.JobState.ValueType) -> job_pb2.Job:
    """Waits until a job has come so far."""
    async with asyncio.timeout(20):
        while (job := await jobs.get(name)).state != state:
            await asyncio.sleep(0.01)
        return job


async def slow(request: answer_pb2.AnswerRequest, tenant: str) -> answer_pb2.AnswerResponse:
    """A model that takes for ever."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_any_gateway_answers_for_any_job(redis_client: redis.Redis) -> None:
    """What one gateway took in another one answers, and both say how far it is; an id that is known is no new job."""
    one, other = SharedJobs(JobSettings(), redis_client, never), SharedJobs(JobSettings(), redis_client, echo)
    job = await one.create("tenants/a", ask("Total?"), "j1")
    assert (await other.create("tenants/a", ask("Other?"), "j1")).name == job.name
    async with working(other):
        finished = await until(one, job.name, DONE)
    assert finished.response.answer.text == "tenants/a: Total?"
    assert finished.HasField("end_time")
    page = await other.list("tenants/a", 10, "")
    assert [(each.name, each.state, each.HasField("response")) for each in page.jobs] == [(job.name, DONE, False)]
    assert not (await other.list("tenants/b", 10, "")).jobs
    assert 0 < await redis_client.ttl(key_of(job.name)) <= JobSettings().ttl
    assert not await redis_client.hexists(key_of(job.name), "request")


async def test_a_job_is_cancelled_through_any_gateway(redis_client: redis.Redis) -> None:
    """Cancelling ends the work wherever it is done, and a job that has ended stays as it is."""
    stopped = asyncio.Event()

    async def told(request: answer_pb2.AnswerRequest, tenant: str) -> answer_pb2.AnswerResponse:
        try:
            return await slow(request, tenant)
        finally:
            stopped.set()

    one = SharedJobs(JobSettings(), redis_client, told, claim=0.3)
    other = SharedJobs(JobSettings(), redis_client, echo)
    job = await other.create("tenants/a", ask(), "")
    async with working(one):
        await until(other, job.name, job_pb2.JOB_STATE_RUNNING)
        assert (await other.cancel(job.name)).state == CANCELLED
        await asyncio.wait_for(stopped.wait(), 20)
    assert (await one.get(job.name)).state == CANCELLED
    waiting = await one.create("tenants/a", ask(), "")
    await one.cancel(waiting.name)
    after = await one.create("tenants/a", ask(), "")
    async with working(other):
        await until(other, after.name, DONE)
    assert (await other.get(waiting.name)).state == CANCELLED
    assert (await other.cancel(after.name)).state == DONE


async def test_a_dead_gateways_job_is_asked_again(redis_client: redis.Redis) -> None:
    """A job whose gateway says nothing more is taken by another one; one that is being answered is left alone."""
    one = SharedJobs(JobSettings(), redis_client, slow, claim=0.3)
    other = SharedJobs(JobSettings(), redis_client, echo, claim=0.3)
    job = await one.create("tenants/a", ask(), "")
    async with working(one):
        await until(one, job.name, job_pb2.JOB_STATE_RUNNING)
        async with working(other):
            await asyncio.sleep(0.9)
            assert (await other.get(job.name)).state == job_pb2.JOB_STATE_RUNNING
    async with working(other):  # the first gateway has ended without a word
        await until(other, job.name, DONE)


async def test_tenants_take_turns_and_the_queue_is_bounded(redis_client: redis.Redis) -> None:
    """The bounds hold for all gateways together, and one tenant's many jobs do not hold up another's only one."""
    asked = list[str]()

    async def note(request: answer_pb2.AnswerRequest, tenant: str) -> answer_pb2.AnswerResponse:
        asked.append(tenant)
        return answer_pb2.AnswerResponse()

    settings = JobSettings(queued_each=3, queued=4, kept=4)
    one, other = SharedJobs(settings, redis_client, note), SharedJobs(settings, redis_client, note)
    for number in range(3):
        await (one, other)[number % 2].create("tenants/loud", ask(), f"j{number}")
    with pytest.raises(Exhausted, match="tenant's places"):
        await other.create("tenants/loud", ask(), "j3")
    await other.create("tenants/quiet", ask(), "only")
    with pytest.raises(Exhausted, match="queue of jobs is full"):
        await one.create("tenants/third", ask(), "j")
    for _ in range(4):
        await one.step()
    assert asked == ["tenants/loud", "tenants/quiet", "tenants/loud", "tenants/loud"]
    for number in range(3, 5):
        await one.create("tenants/loud", ask(), f"j{number}")
    names = [job.name.rpartition("/")[2] for job in (await one.list("tenants/loud", 10, "")).jobs]
    assert names == ["j4", "j3", "j2", "j1"]
    first = await one.list("tenants/loud", 3, "")
    rest = await other.list("tenants/loud", 3, first.next_page_token)
    assert [job.name.rpartition("/")[2] for job in rest.jobs] == ["j1"]


async def test_a_busy_model_is_asked_again(redis_client: redis.Redis) -> None:
    """A job that the model has no time for waits on."""
    one = SharedJobs(JobSettings(), redis_client, never)
    job = await one.create("tenants/a", ask(), "")
    found = await redis_client.hmget(key_of(job.name), "job", "request")
    assert found[1] is not None
    async with working(one):
        await until(one, job.name, job_pb2.JOB_STATE_QUEUED)
    other = SharedJobs(JobSettings(), redis_client, echo, claim=0.1)
    async with working(other):
        await until(other, job.name, DONE)


CALLS: dict[str, Callable[[Queue], Awaitable[object]]] = {
    "create": lambda jobs: jobs.create("tenants/a", ask(), ""),
    "get": lambda jobs: jobs.get("tenants/a/jobs/x"),
    "list": lambda jobs: jobs.list("tenants/a", 1, ""),
    "cancel": lambda jobs: jobs.cancel("tenants/a/jobs/x"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_without_redis_callers_are_told_to_come_back(call: str) -> None:
    """A queue that can't be reached is UNAVAILABLE, not empty."""
    client = connect("redis://127.0.0.1:1/0")
    with pytest.raises(Unreachable) as caught:
        await CALLS[call](SharedJobs(JobSettings(), client, echo))
    assert (caught.value.reason, caught.value.retry_after) == ("JOBS_UNAVAILABLE", 1.0)
    await client.aclose()


async def test_names_are_checked(redis_client: redis.Redis) -> None:
    """What is no job's name is told from a job that is not there."""
    jobs = SharedJobs(JobSettings(), redis_client, echo)
    with pytest.raises(InvalidInput):
        await jobs.get("tenants/a/elsewhere/x")
    with pytest.raises(Absent):
        await jobs.get("tenants/a/jobs/x")
    with pytest.raises(InvalidInput):
        await jobs.create("tenants/a", ask(), "NO SUCH ID")


async def test_over_grpc(redis_server: RedisServer) -> None:
    """With the setting a gateway keeps its jobs there, and another one answers for them."""
    settings = Settings(redis=redis_server.url, jobs=JobSettings(shared=True))
    async with running(settings) as one, running(settings, beside=one) as other:
        job = await create(one)
        finished = await done(other, job.name)
        assert finished.response.answer.text.endswith("Total?")


def test_a_shared_queue_needs_a_place() -> None:
    """Jobs that are to be shared without a Redis are a mistake in the settings."""
    with pytest.raises(SettingsError, match="ASKONCE_GATEWAY_REDIS"):
        run(Settings(jobs=JobSettings(shared=True)))


async def test_a_purge_takes_the_answers_of_shared_jobs_along(redis_client: redis.Redis) -> None:
    """What was done before a removal of its tenant goes, for all gateways; other tenants' jobs and later ones stay."""
    now = [1_000.0]
    jobs = SharedJobs(JobSettings(), redis_client, echo, lambda: now[0])
    async with working(jobs):
        made = [await jobs.create(f"tenants/{tenant}", ask(), "") for tenant in ("a", "b")]
        for job in made:
            await until(jobs, job.name, DONE)
        now[0] = 3_000.0
        later = await jobs.create("tenants/a", ask(), "")
        await until(jobs, later.name, DONE)
    await jobs.purge("tenants/a", 2_000.0)
    listed = [(await jobs.list(f"tenants/{tenant}", 10, "")).jobs for tenant in ("a", "b")]
    assert [[job.name for job in each] for each in listed] == [[later.name], [made[1].name]]
