"""The client for ordinary code: every call waits for its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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


class Stream(Iterator[str]):
    """The pieces of an answer as they come; `answer` is the whole once they have ended."""

    def __init__(self, pieces: Iterator[str | Answer]) -> None:
        self._pieces = pieces
        self.answer: Answer | None = None

    def __next__(self) -> str:
        for piece in self._pieces:
            if isinstance(piece, str):
                return piece
            self.answer = piece
        raise StopIteration


class Client:
    """Asks a gateway. Thread-safe; close it, or use it in a `with` statement.

    `target` is the gateway's "host:port"; further settings are those of `Connection`, such as `api_key`, `token`, `ca`,
    `timeout` and `retries`. All methods raise `askonce.AskOnceError` of one kind or another.
    """

    def __init__(self, target: str = "127.0.0.1:50051", **settings: Any) -> None:
        self.connection = Connection(target, **settings)
        credentials = self.connection.credentials()
        options = self.connection.options()
        self._channel = (
            grpc.insecure_channel(target, options=options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=options)
        )
        self._answers: answer_pb2_grpc.AnswerServiceStub = answer_pb2_grpc.AnswerServiceStub(self._channel)
        self._jobs: job_pb2_grpc.JobServiceStub = job_pb2_grpc.JobServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Safe to repeat."""
        self._channel.close()

    def ask(
        self, image: ImageInput | Sequence[ImageInput], question: str, *, timeout: float | None = None, **options: Any
    ) -> Answer:
        """Answers a question about an image, or about a list of images.

        `timeout` in seconds replaces the client's; further settings are those of `Options`, such as `tenant`,
        `cache_mode` and `max_tokens`.
        """
        request = to_request(image, question, Options(**options))
        return from_response(self._call(self._answers.Answer, request, timeout))

    def stream(
        self, image: ImageInput | Sequence[ImageInput], question: str, *, timeout: float | None = None, **options: Any
    ) -> Stream:
        """As `ask`, piece by piece. Tried again only as long as nothing has come."""
        request = answer_pb2.StreamAnswerRequest(request=to_request(image, question, Options(**options)))
        return Stream(self._pieces(request, timeout))

    def feedback(self, answer: Answer | str, *, right: bool, correct_text: str = "", comment: str = "") -> int:
        """Says whether an answer was right, by the answer or its decision's name; a wrong one leaves memory at once.

        Returns the number of entries removed.
        """
        request = to_feedback(answer, right, correct_text, comment)
        return self._call(self._answers.SubmitFeedback, request, None).removed_count

    def submit(
        self, image: ImageInput | Sequence[ImageInput], question: str, *, job_id: str = "", **options: Any
    ) -> Job:
        """Queues a question that can wait. With a `job_id` of your own the call is safe to repeat."""
        asked = to_request(image, question, Options(**options))
        job_id = job_id or new_request_id()
        request = job_pb2.CreateJobRequest(parent=asked.parent, request=asked, job_id=job_id)
        return from_job(self._call(self._jobs.CreateJob, request, None).job)

    def job(self, name: str) -> Job:
        """A job as it is now."""
        return from_job(self._call(self._jobs.GetJob, job_pb2.GetJobRequest(name=name), None))

    def jobs(self, tenant: str = "") -> Iterator[Job]:
        """A tenant's jobs, newest first, without their answers."""
        token = ""
        while True:
            request = job_pb2.ListJobsRequest(parent=to_parent(tenant), page_token=token)
            page = self._call(self._jobs.ListJobs, request, None)
            yield from map(from_job, page.jobs)
            token = page.next_page_token
            if not token:
                return

    def cancel(self, name: str) -> Job:
        """Cancels a job that is not done."""
        return from_job(self._call(self._jobs.CancelJob, job_pb2.CancelJobRequest(name=name), None).job)

    def wait(self, job: Job | str, *, timeout: float = 600.0, poll: float = 0.5) -> Job:
        """Waits until a job is done and returns it. Raises TimeoutError after `timeout` seconds."""
        name = job if isinstance(job, str) else job.name
        until = time.monotonic() + timeout
        while not (found := self.job(name)).done:
            if time.monotonic() + poll > until:
                raise TimeoutError(f"{name} was not done within {timeout:g} s")
            time.sleep(poll)
        return found

    def _call(self, method: Callable[..., T], request: object, timeout: float | None) -> T:
        request_id = new_request_id()
        until = time.monotonic() + (self.connection.timeout if timeout is None else timeout)
        attempt = 0
        while True:
            left = max(0.001, until - time.monotonic())
            try:
                return method(request, timeout=left, metadata=self.connection.metadata(request_id))
            except grpc.RpcError as raised:
                error = to_exception(raised, request_id)
                pause = self.connection.pause(error, attempt, until - time.monotonic())
                if pause is None:
                    raise error from None
            attempt += 1
            time.sleep(pause)

    def _pieces(self, request: answer_pb2.StreamAnswerRequest, timeout: float | None) -> Iterator[str | Answer]:
        request_id = new_request_id()
        until = time.monotonic() + (self.connection.timeout if timeout is None else timeout)
        attempt = 0
        begun = False
        while True:
            left = max(0.001, until - time.monotonic())
            call = self._answers.StreamAnswer(request, timeout=left, metadata=self.connection.metadata(request_id))
            try:
                for event in call:
                    begun = True
                    kind = event.WhichOneof("event")
                    if kind == "text":
                        yield event.text
                    elif kind == "summary":
                        yield from_response(event.summary)
                return
            except grpc.RpcError as raised:
                error = to_exception(raised, request_id)
                pause = None if begun else self.connection.pause(error, attempt, until - time.monotonic())
                if pause is None:
                    raise error from None
            finally:
                call.cancel()
            attempt += 1
            time.sleep(pause)
