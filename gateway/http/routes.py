"""The HTTP edge: OpenAI's chat completions, two plainer routes, feedback, health, metrics and a small web page.

It shares admission and use case with the gRPC service and adds no meaning of its own. Bodies are read up to a limit,
and parsed in a thread when they carry an image.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import prometheus_client
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from askonce import telemetry, tracing
from askonce.faults import Absent, Exhausted, Fault, Internal, InvalidInput, TooLate
from askonce.v1 import answer_pb2
from gateway.admission import FEEDBACK, Admission
from gateway.answering import Answering
from gateway.feedback import Feedback
from gateway.hosted_model import HostedModel
from gateway.http import openai, plain
from gateway.http.access_log import AccessLog, route_of
from gateway.http.browsers import Browsers, check_json
from gateway.http.errors import error_body, guarded, log_bug, no_route
from gateway.http.openapi import DOCS, document
from gateway.http.page import PAGE, PAGE_HEADERS
from gateway.jobs import Queue
from gateway.settings import Edge

T = TypeVar("T")

PARSE_ON_LOOP = 64 * 1024
"""Bodies up to this size are parsed on the event loop; larger ones take milliseconds."""

BUSY = frozenset(("QUEUE_FULL", "QUEUE_TOO_SLOW"))
"""Reasons by which the engine says that it has no time."""
ALIAS = "askonce"
"""A model name that always means the hosted model."""


class Routes:
    """The handlers."""

    def __init__(
        self,
        settings: Edge,
        admission: Admission,
        answering: Answering,
        feedback: Feedback,
        hosted: HostedModel,
        jobs: Queue | None = None,
    ) -> None:
        self.settings = settings
        self.bytes_in_flight = 0
        self.admission = admission
        self.answering = answering
        self.feedback = feedback
        self.hosted = hosted
        self.jobs = jobs
        self.started = int(time.time())

    def application(self) -> ASGIApp:
        """The ASGI application."""
        routes = [
            Route("/", self.page),
            Route("/healthz", self.healthz),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            Route("/docs", self.docs),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", guarded(self.model)),
            Route("/v1/chat/completions", guarded(self.complete), methods=["POST"]),
            Route("/v1/vision/completion", guarded(self.vision), methods=["POST"]),
            Route("/infer", guarded(self.infer), methods=["POST"]),
            Route("/v1/jobs/{job}", guarded(self.job)),
            Route("/v1/feedback", guarded(self.submit), methods=["POST"]),
        ]
        paths = frozenset(route.path for route in routes)
        application = Starlette(routes=routes, exception_handlers={404: no_route, 405: no_route})
        application.router.redirect_slashes = False
        logged = AccessLog(Browsers(application, self.settings), paths)
        return tracing.http(logged, lambda scope: route_of(scope, paths))

    async def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE, headers=PAGE_HEADERS)

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "serving", "model": self.hosted.model.name if self.hosted.model else None})

    async def metrics(self, request: Request) -> Response:
        body = await asyncio.to_thread(prometheus_client.generate_latest)
        return Response(body, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    async def models(self, request: Request) -> Response:
        model = self.hosted.model
        data = [openai.model(model.name, self.started)] if model else []
        return JSONResponse({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}."""
        name = request.path_params["model"]
        self.check_model(name)
        if (hosted := self.hosted.model) is None:
            await self.hosted.get(1.0)
        return JSONResponse(openai.model(name if hosted is None else hosted.name, self.started))

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json: what can be asked, for programs."""
        return JSONResponse(document())

    async def docs(self, request: Request) -> Response:
        """GET /docs: the same, for people."""
        return HTMLResponse(DOCS, headers=PAGE_HEADERS)

    async def complete(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        asked = await self.read(request, openai.read_chat)
        self.check_model(asked.model)
        if asked.stream:
            return await self.stream(request, asked)
        try:
            response = await self.answer(request, asked.request)
        except Exhausted as fault:
            if fault.reason in BUSY and self.jobs is not None and "respond-async" in request.headers.get("prefer", ""):
                return await self.queue(request, asked.request, self.jobs)
            raise
        return reply(self.completion(response), response, asked.warnings)

    def completion(self, response: answer_pb2.AnswerResponse) -> dict[str, Any]:
        """A whole completion."""
        return openai.completion(response, int(time.time()), self.settings.bill_hits)

    async def queue(self, request: Request, asked: answer_pb2.AnswerRequest, jobs: Queue) -> Response:
        """Queues what the model has no time for, as the client prefers (RFC 7240); the reply says where to look."""
        async with self.admission.visit(request.headers, "", "JobService/CreateJob", poll=True) as visit:
            asked.parent = visit.tenant
            job = await jobs.create(visit.tenant, asked, "")
        place = f"/v1/jobs/{job.name.rpartition('/')[2]}"
        headers = {"Location": place, "Preference-Applied": "respond-async", "Retry-After": "5"}
        return JSONResponse(openai.queued(job, self.settings.bill_hits), status_code=202, headers=headers)

    async def job(self, request: Request) -> Response:
        """GET /v1/jobs/{job}: how far it is, with the completion once it is done."""
        if self.jobs is None:
            raise Absent("JOB_UNKNOWN", "This deployment keeps no jobs.")
        async with self.admission.visit(request.headers, "", "JobService/GetJob", poll=True) as visit:
            job = await self.jobs.get(f"{visit.tenant}/jobs/{request.path_params['job']}")
        return JSONResponse(openai.queued(job, self.settings.bill_hits))

    async def vision(self, request: Request) -> Response:
        """POST /v1/vision/completion {image, prompt, max_tokens, temperature}."""
        asked = await self.read(request, lambda body: plain.read_plain(body, "prompt", "max_tokens"))
        response = await self.answer(request, asked.request)
        return reply(self.completion(response), response, asked.warnings)

    async def infer(self, request: Request) -> Response:
        """POST /infer {image, text, max_new_tokens}."""
        asked = await self.read(request, lambda body: plain.read_plain(body, "text", "max_new_tokens"))
        response = await self.answer(request, asked.request)
        body = {"response": response.answer.text, "askonce": openai.provenance(response)}
        return reply(body, response, asked.warnings)

    async def submit(self, request: Request) -> Response:
        """POST /v1/feedback {decision, verdict, correct_text, comment}."""
        asked = await self.read(request, plain.read_feedback)
        parent = self.feedback.tenant_of(asked)
        async with self.admission.visit(request.headers, parent, FEEDBACK) as visit:
            response = await self.feedback.submit(asked, visit.tenant, None)
        return JSONResponse({"removed_count": response.removed_count})

    def check_model(self, name: str) -> None:
        """Refuses a model that is not hosted. Raises Absent."""
        hosted = self.hosted.model
        if name and name != ALIAS and hosted is not None and name != hosted.name:
            message = f'model: {name!r} is not hosted here; ask for "{hosted.name}" or "{ALIAS}".'
            raise Absent("MODEL_NOT_FOUND", message, field="model", metadata={"hosted": hosted.name})

    async def read(self, request: Request, parse: Callable[[bytes], T]) -> T:
        """The parsed body of a known caller. Raises Unauthenticated and InvalidInput."""
        self.admission.knows(request.headers)
        check_json(request.headers)
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                async for part in request.stream():
                    self.bytes_in_flight += len(part)
                    body += part
                    self.check_size(len(body))
            if len(body) <= PARSE_ON_LOOP:
                return parse(bytes(body))
            return await asyncio.to_thread(parse, bytes(body))
        except TimeoutError as error:
            raise TooLate("BODY_TOO_SLOW", f"The body took more than {self.settings.body_seconds:g} s.") from error
        finally:
            self.bytes_in_flight -= len(body)

    def check_size(self, size: int) -> None:
        """Bounds one body, and all that are being read. Raises InvalidInput and Exhausted."""
        limit = self.settings.max_body_bytes
        if size > limit:
            message = f"The body is larger than {limit:,} bytes."
            raise InvalidInput("BODY_TOO_LARGE", message, metadata={"limit": str(limit)})
        if self.bytes_in_flight > self.settings.max_bytes_in_flight:
            raise Exhausted("SERVER_BUSY", "Too many bytes are under way; try again shortly.", retry_after=0.5)

    async def answer(self, request: Request, asked: answer_pb2.AnswerRequest) -> answer_pb2.AnswerResponse:
        """Answers as a whole; gives up when the client goes away."""
        async with self.admission.visit(request.headers, asked.parent) as visit:
            work = asyncio.create_task(self.answering.answer(visit.bounded(asked), visit.tenant, None))
            gone = asyncio.create_task(disconnected(request))
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise ClientDisconnect
                return work.result()
            finally:
                gone.cancel()
                work.cancel()
                await asyncio.gather(gone, work, return_exceptions=True)

    async def stream(self, request: Request, asked: openai.Chat) -> Response:
        """Answers as server-sent events. What fails before the first piece still gets a proper status."""
        events = self.events(request, asked)
        try:
            first = await anext(events)
        except BaseException:
            await events.aclose()
            raise

        async def body() -> AsyncIterator[str]:
            async with aclosing(events):
                yield first
                async for event in events:
                    yield event

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Request-Id": telemetry.request_id()}
        return StreamingResponse(body(), media_type="text/event-stream", headers=headers)

    async def events(self, request: Request, asked: openai.Chat) -> AsyncGenerator[str, None]:
        """The events of one streamed completion."""
        name = self.hosted.model.name if self.hosted.model else ALIAS
        chunks = openai.Chunks(telemetry.request_id(), int(time.time()), name, asked, self.settings.bill_hits)
        begun = False
        try:
            async with self.admission.visit(request.headers, asked.request.parent) as visit:
                async for event in self.answering.stream(visit.bounded(asked.request), visit.tenant, None):
                    for chunk in chunks.of(event):
                        yield sse(chunk)
                        begun = True
            yield "data: [DONE]\n\n"
        except Fault as fault:
            if not begun:
                raise
            telemetry.note(reason=fault.reason)
            yield sse(error_body(fault))
        except Exception as error:
            if not begun:
                raise
            log_bug(error)
            yield sse(error_body(Internal(telemetry.request_id())))


def reply(body: dict[str, Any], response: answer_pb2.AnswerResponse, warnings: list[dict[str, str]]) -> Response:
    """A successful response; headers tell at a glance where the answer came from."""
    if warnings:
        body["warnings"] = warnings
    found = openai.provenance(response)
    headers = {
        "X-Request-Id": response.request_id,
        "X-Askonce-Source": found["source"],
        "X-Askonce-Reason": found["reason"],
        "Cache-Control": "no-store",
    }
    return JSONResponse(body, headers=headers)


def sse(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def disconnected(request: Request) -> None:
    """Returns when the client has gone away. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
