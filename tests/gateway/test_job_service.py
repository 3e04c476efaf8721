"""Questions that can wait, over gRPC: queued, asked when the model has time, looked after by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from askonce import faults
from askonce.faults import Exhausted, Fault
from askonce.v1 import content_pb2, inference_pb2, job_pb2, job_pb2_grpc
from gateway.settings import Edge, Settings
from gateway.settings import Jobs as JobSettings
from tests.gateway.doubles import Running, request_for, running, until
from tests.gateway.pictures import picture

pytestmark = pytest.mark.slow


DONE = job_pb2.JOB_STATE_SUCCEEDED


@pytest_asyncio.fixture
async def system(tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway that keeps jobs."""
    async with running(Settings(jobs=JobSettings(folder=tmp_path), edge=Edge(listen="127.0.0.1:0"))) as system:
        yield system


def stub_of(system: Running) -> job_pb2_grpc.JobServiceAsyncStub:
    """The job service of a gateway."""
    stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(system.channel)
    return stub


async def create(system: Running, text: str = "Total?", **fields: str) -> job_pb2.Job:
    """Queues one question."""
    request = job_pb2.CreateJobRequest(request=request_for(picture(), text), **fields)
    return (await stub_of(system).CreateJob(request, timeout=5)).job


async def done(system: Running, name: str, state: job_pb2.JobState.ValueType = DONE) -> job_pb2.Job:
    """Waits until a job has come to its end."""
    async with asyncio.timeout(10):
        while True:
            job = await stub_of(system).GetJob(job_pb2.GetJobRequest(name=name), timeout=5)
            if job.state == state:
                return job
            await asyncio.sleep(0.02)


async def test_job_is_answered_behind_the_callers_back(system: Running) -> None:
    """A queued question is asked at background priority and its answer kept with the job and in memory."""
    job = await create(system)
    assert (job.state, job.name.startswith("tenants/default/jobs/")) == (job_pb2.JOB_STATE_QUEUED, True)
    finished = await done(system, job.name)
    assert finished.response.answer.text == "answer 1 to: Total?"
    assert system.model.requests[0].priority == inference_pb2.PRIORITY_BACKGROUND
    await system.settled()
    assert (await system.ask(picture(), "Total?")).provenance.source == content_pb2.SOURCE_CACHE


async def test_repeated_creation_is_one_job(system: Running) -> None:
    """The caller's own id makes the call safe to repeat."""
    first, second = await create(system, job_id="order-1"), await create(system, job_id="order-1")
    assert first.name == second.name == "tenants/default/jobs/order-1"
    await done(system, first.name)
    assert len(system.model.requests) == 1


async def test_busy_model_postpones(system: Running) -> None:
    """A model that is busy leaves the job in the queue; it is asked again later."""
    system.model.fault = Exhausted("QUEUE_FULL", "busy", retry_after=0.1)
    job = await create(system)
    await until(lambda: len(system.model.requests) == 1)
    system.model.fault = None
    assert (await done(system, job.name)).response.answer.text == "answer 2 to: Total?"


async def test_what_can_never_be_answered_fails_with_its_reason(system: Running) -> None:
    """A file that can't be decoded fails the job, with the details that a call would have got."""
    request = job_pb2.CreateJobRequest(request=request_for(picture()[:100], "Total?"))
    job = (await stub_of(system).CreateJob(request, timeout=5)).job
    failed = await done(system, job.name, job_pb2.JOB_STATE_FAILED)
    fault = Fault("", "")
    faults.read_details(fault, failed.error)
    assert (fault.reason, fault.field) == ("IMAGE_TRUNCATED", "image.content")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (job_pb2.CreateJobRequest(request=request_for(b"", "x")), "IMAGE_EMPTY"),
        (job_pb2.CreateJobRequest(request=request_for(picture(), "")), "QUESTION_EMPTY"),
        (job_pb2.CreateJobRequest(), "IMAGE_REQUIRED"),
        (job_pb2.CreateJobRequest(request=request_for(picture(), "x"), job_id="../x"), "JOB_ID_INVALID"),
        (job_pb2.CreateJobRequest(request=request_for(picture(), "x"), parent="tenants/../x"), "TENANT_INVALID"),
        (job_pb2.CreateJobRequest(request=request_for(picture(), "x", parent="tenants/a"), parent="tenants/b"),
         "TENANT_INVALID"),
    ],
)  # fmt: skip
async def test_bad_jobs_are_refused_at_once(system: Running, request_: job_pb2.CreateJobRequest, reason: str) -> None:
    """What is wrong with a question is told when it is queued, not later."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub_of(system).CreateJob(request_, timeout=5)
    fault = faults.from_error(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


@pytest.mark.parametrize(("name", "reason"), [("tenants/a/jobs/none", "JOB_UNKNOWN"), ("jobs/x", "NAME_INVALID")])
async def test_unknown_jobs(system: Running, name: str, reason: str) -> None:
    """A job that is not there is NOT_FOUND, what is no name INVALID_ARGUMENT."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub_of(system).GetJob(job_pb2.GetJobRequest(name=name), timeout=5)
    assert faults.reason_of(caught.value) == reason


async def test_cancelled_job_is_given_up(system: Running) -> None:
    """Cancelling ends a job that is being answered, and frees the model."""
    system.model.gate.clear()
    job = await create(system)
    await until(lambda: system.model.running == 1)
    cancelled = await stub_of(system).CancelJob(job_pb2.CancelJobRequest(name=job.name), timeout=5)
    assert cancelled.job.state == job_pb2.JOB_STATE_CANCELLED
    await until(lambda: system.model.cancelled == 1)
    system.model.gate.set()
    assert (await done(system, (await create(system, "Next?")).name)).response.answer.text.endswith("Next?")


async def test_pages_of_jobs(system: Running) -> None:
    """Jobs are listed newest first, page by page, each tenant's for itself."""
    names = [(await create(system, f"Question {n}?")).name for n in range(5)]
    await create(system, parent="tenants/other")
    stub = stub_of(system)
    first = await stub.ListJobs(job_pb2.ListJobsRequest(page_size=3), timeout=5)
    second = await stub.ListJobs(job_pb2.ListJobsRequest(page_size=3, page_token=first.next_page_token), timeout=5)
    assert [job.name for job in [*first.jobs, *second.jobs]] == names[::-1]
    assert second.next_page_token == ""


async def test_no_folder_no_jobs() -> None:
    """A deployment without a folder says so."""
    async with running() as system:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(system)
        fault = faults.from_error(caught.value)
        assert (fault.code, fault.reason) == (grpc.StatusCode.UNIMPLEMENTED, "JOBS_DISABLED")
