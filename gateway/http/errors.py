"""Faults as HTTP responses, in OpenAI's form: the one place where a status is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from askonce import telemetry
from askonce.faults import Absent, Fault, Internal, Unsupported

STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def guarded(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """The handler with faults turned into statuses and everything else into a fixed text."""

    async def guard(request: Request) -> Response:
        try:
            response: Response = await handler(request)
            return response
        except ClientDisconnect:
            return Response(status_code=499)
        except Fault as fault:
            telemetry.note(reason=fault.reason)
            return error_response(fault)
        except Exception as error:
            log_bug(error)
            telemetry.note(reason="INTERNAL")
            return error_response(Internal(telemetry.request_id()))

    return guard


def log_bug(error: Exception) -> None:
    """Writes an exception that nobody named to the log, and only there."""
    log: structlog.stdlib.BoundLogger = structlog.get_logger(service="gateway")
    log.error("bug", request_id=telemetry.request_id(), exc_info=error)


def error_body(fault: Fault) -> dict[str, Any]:
    """A fault in OpenAI's form."""
    kind = "invalid_request_error" if status_of(fault) < 429 else "rate_limit_error"
    if status_of(fault) >= 500:
        kind = "server_error"
    error = {"message": text(fault.message), "type": kind, "param": text(fault.field) or None, "code": fault.reason}
    return {"error": {**error, "metadata": fault.metadata, "request_id": telemetry.request_id()}}


def text(said: str) -> str:
    """A text that can be written: an error may quote what was sent, and that may be no text."""
    return said.encode("utf-8", "replace").decode()


def error_response(fault: Fault) -> Response:
    """A fault as a response."""
    headers = {"X-Request-Id": telemetry.request_id()}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(fault.retry_after)))
    if fault.code is grpc.StatusCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(fault), status_code=status_of(fault), headers=headers)


STATUS_OF_REASON = {
    "BODY_TOO_LARGE": 413,
    "IMAGE_TOO_LARGE": 413,
    "CONTENT_TYPE_UNSUPPORTED": 415,
    "CONTENT_ENCODING_UNSUPPORTED": 415,
    "METHOD_UNKNOWN": 405,
}
"""Statuses that gRPC has no word for."""


def status_of(fault: Fault) -> int:
    """The HTTP status of a fault."""
    return STATUS_OF_REASON.get(fault.reason) or STATUS.get(fault.code, 500)


async def no_route(request: Request, error: Exception) -> Response:
    """The response where there is no such path, or none for this method."""
    assert isinstance(error, HTTPException)
    fault: Fault
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.url.path} does not take {request.method}; it takes {allowed}."
        fault = Unsupported("METHOD_UNKNOWN", message[:300], metadata={"allow": allowed})
    else:
        fault = Absent("ROUTE_UNKNOWN", f"There is no {request.url.path[:200]} here; see /openapi.json.")
    telemetry.note(reason=fault.reason)
    response = error_response(fault)
    response.headers.update(error.headers or {})
    return response
