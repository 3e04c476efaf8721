"""`askonce.v1.JobService` on top of the queue."""

from __future__ import annotations

import grpc

from askonce import telemetry
from askonce.faults import InvalidInput, Unsupported
from askonce.interceptor import current_metadata
from askonce.v1 import job_pb2, job_pb2_grpc
from gateway.admission import Admission
from gateway.answering import Answering
from gateway.jobs import Queue, tenant_of
from gateway.service import Context

NAME = "askonce.v1.JobService"
CREATE, GET, LIST, CANCEL = (f"JobService/{name}" for name in ("CreateJob", "GetJob", "ListJobs", "CancelJob"))


class JobService(job_pb2_grpc.JobServiceServicer):
    """The gRPC face of the queue; without a queue every method is UNIMPLEMENTED."""

    def __init__(self, admission: Admission, answering: Answering, jobs: Queue | None) -> None:
        self.admission = admission
        self.answering = answering
        self.queue = jobs

    def add(self, server: grpc.aio.Server) -> None:
        """Adds this service to a server."""
        job_pb2_grpc.add_JobServiceServicer_to_server(self, server)

    @property
    def jobs(self) -> Queue:
        """The queue. Raises Unsupported where there is none."""
        if self.queue is None:
            raise Unsupported(
                "JOBS_DISABLED", "This deployment keeps no jobs: its operator has set no folder for them."
            )
        return self.queue

    async def CreateJob(self, request: job_pb2.CreateJobRequest, context: Context) -> job_pb2.CreateJobResponse:
        asked = request.request
        if asked.parent and request.parent and asked.parent != request.parent:
            message = "request.parent: leave it empty; the job's parent holds for both."
            raise InvalidInput("TENANT_INVALID", message, field="request.parent")
        async with self.admission.visit(current_metadata.get(), request.parent or asked.parent, CREATE) as visit:
            jobs = self.jobs
            await self.answering.check(asked)
            asked.parent = visit.tenant
            job = await jobs.create(visit.tenant, asked, request.job_id)
            telemetry.note(job=job.name)
            return job_pb2.CreateJobResponse(job=job)

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Context) -> job_pb2.Job:
        async with self.admission.visit(current_metadata.get(), tenant_of(request.name), GET, poll=True):
            return await self.jobs.get(request.name)

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Context) -> job_pb2.ListJobsResponse:
        async with self.admission.visit(current_metadata.get(), request.parent, LIST, poll=True) as visit:
            return await self.jobs.list(visit.tenant, request.page_size, request.page_token)

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Context) -> job_pb2.CancelJobResponse:
        async with self.admission.visit(current_metadata.get(), tenant_of(request.name), CANCEL, poll=True):
            return job_pb2.CancelJobResponse(job=await self.jobs.cancel(request.name))
