"""The client for asyncio: the same methods, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc

from askonce.client.connection import Connection, new_request_id
from askonce.client.values import (
    Answer,
    ImageInput,
    Job,
    Options,
    from_job,
    from_response,
    to_feedback,
    to_parent,
    to_request,
)
from askonce.errors import to_exception
from askonce.v1 import answer_pb2, answer_pb2_grpc, job_pb2, job_pb2_grpc

T = TypeVar("T")


class AsyncStream(AsyncIterator[str]):
    """The pieces of an answer as they come; `answer` is the whole once they have ended."""

    def __init__(self, pieces: AsyncIterator[str | Answer]) -> None:
        self._pieces = pieces
        self.answer: Answer | None = None

    async def __anext__(self) -> str:
        async for piece in self._pieces:
            if isinstance(piece, str):
                return piece
            self.answer = piece
        raise StopAsyncIteration


class AsyncClient:
    """Asks a gateway from asyncio. Make it where its event loop runs; close it, or use it in `async with`.

    Settings and methods are those of `Client`.
    """

    def __init__(self, target: str = "127.0.0.1:50051", **settings: Any) -> None:
        self.connection = Connection(target, **settings)
        credentials = self.connection.credentials()
        options = self.connection.options()
        self._channel = (
            grpc.aio.insecure_channel(target, options=options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=options)
        )
        self._answers: answer_pb2_grpc.AnswerServiceAsyncStub = answer_pb2_grpc.AnswerServiceStub(self._channel)
        self._jobs: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Safe to repeat."""
        await self._channel.close()

    async def ask(
        self, image: ImageInput | Sequence[ImageInput], question: str, *, timeout: float | None = None, **options: Any
    ) -> Answer:
        """See `Client.ask`. Files are read in a thread."""
        request = await asyncio.to_thread(to_request, image, question, Options(**options))
        return from_response(await self._call(self._answers.Answer, request, timeout))

    def stream(
        self, image: ImageInput | Sequence[ImageInput], question: str, *, timeout: float | None = None, **options: Any
    ) -> AsyncStream:
        """See `Client.stream`: `async for piece in client.stream(…)`."""
        return AsyncStream(self._pieces(image, question, timeout, Options(**options)))

    async def feedback(self, answer: Answer | str, *, right: bool, correct_text: str = "", comment: str = "") -> int:
        """See `Client.feedback`."""
        request = to_feedback(answer, right, correct_text, comment)
        removed: int = (await self._call(self._answers.SubmitFeedback, request, None)).removed_count
        return removed

    async def submit(
        self, image: ImageInput | Sequence[ImageInput], question: str, *, job_id: str = "", **options: Any
    ) -> Job:
        """See `Client.submit`."""
        asked = await asyncio.to_thread(to_request, image, question, Options(**options))
        job_id = job_id or new_request_id()
        request = job_pb2.CreateJobRequest(parent=asked.parent, request=asked, job_id=job_id)
        return from_job((await self._call(self._jobs.CreateJob, request, None)).job)

    async def job(self, name: str) -> Job:
        """See `Client.job`."""
        return from_job(await self._call(self._jobs.GetJob, job_pb2.GetJobRequest(name=name), None))

    async def jobs(self, tenant: str = "") -> AsyncIterator[Job]:
        """See `Client.jobs`."""
        token = ""
        while True:
            request = job_pb2.ListJobsRequest(parent=to_parent(tenant), page_token=token)
            page = await self._call(self._jobs.ListJobs, request, None)
            for job in page.jobs:
                yield from_job(job)
            token = page.next_page_token
            if not token:
                return

    async def cancel(self, name: str) -> Job:
        """See `Client.cancel`."""
        return from_job((await self._call(self._jobs.CancelJob, job_pb2.CancelJobRequest(name=name), None)).job)

    async def wait(self, job: Job | str, *, timeout: float = 600.0, poll: float = 0.5) -> Job:
        """See `Client.wait`."""
        name = job if isinstance(job, str) else job.name
        until = time.monotonic() + timeout
        while not (found := await self.job(name)).done:
            if time.monotonic() + poll > until:
                raise TimeoutError(f"{name} was not done within {timeout:g} s")
            await asyncio.sleep(poll)
        return found

    async def _call(self, method: Callable[..., Any], request: object, timeout: float | None) -> Any:
        request_id = new_request_id()
        until = time.monotonic() + (self.connection.timeout if timeout is None else timeout)
        attempt = 0
        while True:
            left = max(0.001, until - time.monotonic())
            try:
                return await method(request, timeout=left, metadata=self.connection.metadata(request_id))
            except grpc.aio.AioRpcError as raised:
                error = to_exception(raised, request_id)
                pause = self.connection.pause(error, attempt, until - time.monotonic())
                if pause is None:
                    raise error from None
            attempt += 1
            await asyncio.sleep(pause)

    async def _pieces(
        self,
        image: ImageInput | Sequence[ImageInput],
        question: str,
        timeout: float | None,
        options: Options,
    ) -> AsyncIterator[str | Answer]:
        asked = await asyncio.to_thread(to_request, image, question, options)
        request = answer_pb2.StreamAnswerRequest(request=asked)
        request_id = new_request_id()
        until = time.monotonic() + (self.connection.timeout if timeout is None else timeout)
        attempt = 0
        begun = False
        while True:
            left = max(0.001, until - time.monotonic())
            call = self._answers.StreamAnswer(request, timeout=left, metadata=self.connection.metadata(request_id))
            try:
                async for event in call:
                    begun = True
                    kind = event.WhichOneof("event")
                    if kind == "text":
                        yield event.text
                    elif kind == "summary":
                        yield from_response(event.summary)
                return
            except grpc.aio.AioRpcError as raised:
                error = to_exception(raised, request_id)
                pause = None if begun else self.connection.pause(error, attempt, until - time.monotonic())
                if pause is None:
                    raise error from None
            finally:
                call.cancel()
            attempt += 1
            await asyncio.sleep(pause)
