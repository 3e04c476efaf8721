"""Questions that can wait: a bounded queue, worked off at background priority, that survives a restart."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from askonce import faults, telemetry
from askonce.fair import FairQueue
from askonce.faults import Absent, Exhausted, Fault, Internal, InvalidInput, TooLate, Unreachable
from askonce.names import split_child, tenant_name
from askonce.paging import page_size, unknown_token
from askonce.times import to_seconds, to_timestamp
from askonce.v1 import answer_pb2, job_pb2
from gateway import metrics
from gateway.job_store import JobStore
from gateway.settings import Jobs as JobSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(service="gateway")
IDENTIFIER = re.compile(r"[a-z0-9-]{1,63}")
DEFAULT_PAGE = 20
PATIENCE = (1.0, 30.0)
"""Seconds to wait, at least and at most, before a busy model is asked again."""
SWEEP_INTERVAL = 60.0
UNFINISHED = frozenset((job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING))

Answer = Callable[[answer_pb2.AnswerRequest, str], Awaitable[answer_pb2.AnswerResponse]]
"""Answers a tenant's request at background priority. Raises Fault."""


class Queue(Protocol):
    """Jobs as the API sees them. Every method raises InvalidInput for what is no job's name, and Unreachable where the
    place in which they are kept does not answer."""

    async def create(self, tenant: str, request: answer_pb2.AnswerRequest, identifier: str) -> job_pb2.Job:
        """Queues a checked request; an id that is known returns its job. Raises Exhausted."""
        ...

    async def get(self, name: str) -> job_pb2.Job:
        """A job as it is now. Raises Absent."""
        ...

    async def list(self, tenant: str, size: int, token: str) -> job_pb2.ListJobsResponse:
        """A page of a tenant's jobs, newest first, without answers."""
        ...

    async def cancel(self, name: str) -> job_pb2.Job:
        """Cancels a job unless it is done. Raises Absent."""
        ...

    async def load(self) -> None:
        """Takes up what an earlier process left."""
        ...

    async def step(self) -> None:
        """Waits for a job and answers it; called again and again."""
        ...

    async def expire(self) -> None:
        """Forgets what has expired; called now and then."""
        ...

    async def purge(self, tenant: str, before: float) -> None:
        """Forgets a tenant's jobs that were done before a time, in seconds since the epoch: their answers may be what
        was purged then."""
        ...


class Jobs:
    """The jobs of one gateway. Implements `Queue`."""

    def __init__(
        self, settings: JobSettings, store: JobStore, answer: Answer, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.store = store
        self.answer = answer
        self.clock = clock
        self.jobs: OrderedDict[str, job_pb2.Job] = OrderedDict()
        """By name, oldest first."""
        self.waiting: FairQueue[str] = FairQueue()
        self.arrived = asyncio.Event()
        self.running: dict[str, asyncio.Task[answer_pb2.AnswerResponse]] = {}
        self.creating = asyncio.Lock()

    async def load(self) -> None:
        """Takes up what an earlier process left; what was being answered is asked again."""
        found = await asyncio.to_thread(self.store.load)
        for job in sorted(found, key=lambda job: job.create_time.ToNanoseconds()):
            self.jobs[job.name] = job
            if job.state in UNFINISHED:
                job.state = job_pb2.JOB_STATE_QUEUED
                self.enqueue(job.name)

    async def create(self, tenant: str, request: answer_pb2.AnswerRequest, identifier: str) -> job_pb2.Job:
        """Queues a checked request; an id that is known returns its job. Raises InvalidInput and Exhausted."""
        name = job_name(tenant, identifier)
        async with self.creating:
            if (known := self.jobs.get(name)) is not None:
                return known
            if self.waiting.waiting(tenant) >= self.settings.queued_each:
                raise full(own=True)
            if len(self.waiting) >= self.settings.queued or not await self.make_room(tenant):
                raise full()
            job = new_job(name, self.clock(), self.settings.ttl)
            await asyncio.to_thread(self.store.put_request, name, request)
            await asyncio.to_thread(self.store.put, job)
            self.jobs[name] = job
        self.enqueue(name)
        return job

    async def make_room(self, tenant: str) -> bool:
        """Forgets the oldest job that is done, one of the tenant's own if there is one, when as many are kept as may
        be; says whether there is room."""
        if len(self.jobs) < self.settings.kept:
            return True
        over = [name for name, job in self.jobs.items() if job.state not in UNFINISHED]
        done = next((name for name in over if name.startswith(f"{tenant}/")), next(iter(over), None))
        if done is None:
            return False
        await self.forget(done)
        return True

    async def get(self, name: str) -> job_pb2.Job:
        """A job as it is now. Raises InvalidInput and Absent."""
        tenant_of(name)
        job = self.jobs.get(name)
        if job is None:
            raise unknown()
        return job

    async def list(self, tenant: str, size: int, token: str) -> job_pb2.ListJobsResponse:
        """A page of a tenant's jobs, newest first, without answers. Raises InvalidInput."""
        names = [name for name in reversed(self.jobs) if name.startswith(f"{tenant}/")]
        page, following = page_of(names, tenant, size, token)
        return listed([self.jobs[name] for name in page], following)

    async def cancel(self, name: str) -> job_pb2.Job:
        """Cancels a job unless it is done. Raises InvalidInput and Absent."""
        job = await self.get(name)
        if job.state in UNFINISHED:
            await self.finish(job, job_pb2.JOB_STATE_CANCELLED)
            if (task := self.running.get(name)) is not None:
                task.cancel()
        return job

    def enqueue(self, name: str) -> None:
        """Puts a job at the end of its tenant's queue."""
        self.waiting.append(tenant_of(name), name)
        self.arrived.set()

    async def step(self) -> None:
        """Waits for a job and answers it; when the model is busy or down the job waits on, and so do the others."""
        while not self.waiting:
            self.arrived.clear()
            await self.arrived.wait()
        name = self.waiting.popleft()
        job = self.jobs.get(name)
        if job is None or job.state not in UNFINISHED:
            return
        pause = await self.attempt(job)
        if pause is not None:
            self.waiting.append(tenant_of(name), name)
            await asyncio.sleep(min(max(pause, PATIENCE[0]), PATIENCE[1]))

    async def attempt(self, job: job_pb2.Job) -> float | None:
        """Has one job answered. Returns the seconds to wait when it should be tried again."""
        job.state = job_pb2.JOB_STATE_RUNNING
        with telemetry.request(telemetry.accept_request_id(None)):
            try:
                request = await asyncio.to_thread(self.store.request, job.name)
                task = asyncio.ensure_future(self.answer(request, tenant_of(job.name)))
                self.running[job.name] = task
                await asyncio.wait({task})
                if job.state not in UNFINISHED:
                    task.cancelled() or task.exception()
                    return None
                pause, state = conclude(job, task)
                if pause is not None:
                    job.state = job_pb2.JOB_STATE_QUEUED
                    return pause
                await self.finish(job, state)
            except Exception:
                job.error.CopyFrom(faults.to_status(Internal(telemetry.request_id())))
                await self.finish(job, job_pb2.JOB_STATE_FAILED)
                raise
            finally:
                if (left := self.running.pop(job.name, None)) is not None:
                    left.cancel()
        return None

    async def finish(self, job: job_pb2.Job, state: job_pb2.JobState.ValueType) -> None:
        """Ends a job."""
        job.state = state
        job.end_time.CopyFrom(to_timestamp(self.clock()))
        count(state)
        await asyncio.to_thread(self.store.put, job)

    async def expire(self) -> None:
        """Forgets what has expired."""
        now = self.clock() * 1e9
        for name in [name for name, job in self.jobs.items() if job.expire_time.ToNanoseconds() <= now]:
            await self.forget(name)

    async def purge(self, tenant: str, before: float) -> None:
        """Forgets a tenant's jobs that were done before a time, in seconds since the epoch: their answers may be what
        was purged then."""
        for name, job in list(self.jobs.items()):
            if name.startswith(f"{tenant}/") and done_before(job, before):
                await self.forget(name)

    async def forget(self, name: str) -> None:
        """Forgets one job; one that is being answered is given up."""
        job = self.jobs.pop(name)
        job.state = job_pb2.JOB_STATE_CANCELLED if job.state in UNFINISHED else job.state
        if (task := self.running.get(name)) is not None:
            task.cancel()
        await asyncio.to_thread(self.store.drop, name)


def job_name(tenant: str, identifier: str) -> str:
    """The name of a new job. Raises InvalidInput."""
    if identifier and not IDENTIFIER.fullmatch(identifier):
        message = 'job_id: write 1 to 63 characters of a-z, 0-9 and "-".'
        raise InvalidInput("JOB_ID_INVALID", message, field="job_id")
    return f"{tenant}/jobs/{identifier or secrets.token_hex(10)}"


def new_job(name: str, now: float, ttl: float) -> job_pb2.Job:
    """A job that waits."""
    return job_pb2.Job(
        name=name,
        state=job_pb2.JOB_STATE_QUEUED,
        create_time=to_timestamp(now),
        expire_time=to_timestamp(now + ttl),
    )


def done_before(job: job_pb2.Job, time: float) -> bool:
    """Whether a job was over at a time, in seconds since the epoch."""
    return job.state not in UNFINISHED and to_seconds(job.end_time) <= time


def full(own: bool = False) -> Exhausted:
    """The fault of a queue without a place, or without one of the tenant's own."""
    whose = "The tenant's places in the queue of jobs are full" if own else "The queue of jobs is full"
    return Exhausted("JOBS_FULL", f"{whose}; try again later.", retry_after=30.0)


def unknown() -> Absent:
    """The fault of a name that leads to no job."""
    return Absent("JOB_UNKNOWN", "There is no such job, or it has expired; create it anew.", field="name")


def page_of(names: list[str], tenant: str, size: int, token: str) -> tuple[list[str], str]:
    """A page of names and the token of the next page, empty on the last. Raises InvalidInput."""
    size = page_size(size, DEFAULT_PAGE)
    if token:
        after = [place for place, name in enumerate(names) if name == f"{tenant}/jobs/{token}"]
        if not after:
            raise unknown_token()
        names = names[after[0] + 1 :]
    page = names[:size]
    return page, page[-1].rpartition("/")[2] if len(names) > len(page) else ""


def listed(jobs: Sequence[job_pb2.Job], following: str) -> job_pb2.ListJobsResponse:
    """A page of jobs, without their answers."""
    response = job_pb2.ListJobsResponse(next_page_token=following)
    for job in jobs:
        short = response.jobs.add()
        short.CopyFrom(job)
        short.ClearField("response")
    return response


def conclude(
    job: job_pb2.Job, task: asyncio.Task[answer_pb2.AnswerResponse]
) -> tuple[float | None, job_pb2.JobState.ValueType]:
    """Writes down what became of a job's answer. Returns the seconds to wait where it should be asked again, and the
    state in which it ends otherwise."""
    try:
        job.response.CopyFrom(task.result())
    except Fault as fault:
        if isinstance(fault, Exhausted | Unreachable | TooLate) and not fault.field:
            metrics.JOBS.labels("postponed").inc()
            return fault.retry_after or PATIENCE[0], job_pb2.JOB_STATE_QUEUED
        job.error.CopyFrom(faults.to_status(fault))
        return None, job_pb2.JOB_STATE_FAILED
    except Exception as error:
        log.error("job_failed", job=job.name, exc_info=error)
        job.error.CopyFrom(faults.to_status(Internal(telemetry.request_id())))
        return None, job_pb2.JOB_STATE_FAILED
    return None, job_pb2.JOB_STATE_SUCCEEDED


def count(state: job_pb2.JobState.ValueType) -> None:
    """Counts the end of a job."""
    metrics.JOBS.labels(job_pb2.JobState.Name(state).removeprefix("JOB_STATE_").lower()).inc()


def tenant_of(name: str) -> str:
    """The tenant that a job belongs to. Raises InvalidInput for what is no job's name."""
    return tenant_name(split_child(name, "jobs")[0])
