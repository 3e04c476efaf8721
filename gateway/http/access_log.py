"""One log line for every HTTP request, with an id and metrics, as gRPC calls have."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from askonce import telemetry

METHODS = frozenset(("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"))


class AccessLog:
    """Gives every HTTP request an id, a canonical log line and metrics, as gRPC calls have."""

    def __init__(self, app: ASGIApp, paths: frozenset[str]) -> None:
        self.app = app
        self.paths = paths
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger(service="gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started, status = time.perf_counter(), 499
        proposed = dict(scope["headers"]).get(telemetry.REQUEST_ID.encode(), b"").decode("latin-1")
        method = route_of(scope, self.paths)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with telemetry.request(telemetry.accept_request_id(proposed)) as line:
            try:
                await self.app(scope, receive, watch)
            finally:
                duration = time.perf_counter() - started
                line.setdefault("reason", "")
                telemetry.REQUESTS.labels("gateway", method, str(status), line["reason"]).inc()
                telemetry.DURATIONS.labels("gateway", method).observe(duration)
                quiet = method.endswith((" /healthz", " /metrics"))
                (self.log.debug if quiet else self.log.info)(
                    "request",
                    request_id=telemetry.request_id(),
                    method=method,
                    code=str(status),
                    duration_ms=round(duration * 1000, 3),
                    **line,
                )


def route_of(scope: Mapping[str, Any], paths: frozenset[str]) -> str:
    """Method and route of a request, such as "GET /v1/models". Unknown ones share one name: a scanner must not fill the
    metrics."""
    verb = scope["method"] if scope["method"] in METHODS else "OTHER"
    return f"{verb} {label(scope['path'], paths)}"


def label(path: str, paths: frozenset[str]) -> str:
    """The route that a path belongs to; "other" for none."""
    if path in paths:
        return path
    for route in paths:
        fixed = route.partition("{")[0]
        if fixed != route and path.startswith(fixed) and len(path) > len(fixed):
            return route
    return "other"
