"""What the client raises: one exception a kind of failure, each with the stable reason and what to do next."""

from __future__ import annotations

import grpc

from askonce.faults import Fault, from_error


class AskOnceError(Exception):
    """A call that failed.

    Attributes:
        reason: the stable word of the catalogue, such as IMAGE_TOO_LARGE; see docs/reasons.md.
        message: what went wrong and what to do, for people.
        code: the gRPC status.
        field: the field of the request at fault, such as "question.text"; empty for none.
        metadata: further facts, such as the limit that was exceeded.
        request_id: the id under which the services logged the call.
        retry_after: seconds after which the call may succeed; None for no promise.
    """

    def __init__(self, fault: Fault, code: grpc.StatusCode, request_id: str = "") -> None:
        super().__init__(f"{fault.reason}: {fault.message}" + (f" (request {request_id})" if request_id else ""))
        self.reason = fault.reason
        self.message = fault.message
        self.code = code
        self.field = fault.field
        self.metadata = fault.metadata
        self.request_id = request_id
        self.retry_after = fault.retry_after


class InvalidRequestError(AskOnceError):
    """The request can never work as it is."""


class AuthenticationError(AskOnceError):
    """The key or token is missing, unknown or expired."""


class PermissionDeniedError(AskOnceError):
    """The caller is known and may not do this."""


class NotFoundError(AskOnceError):
    """What the request names does not exist; with `only_if_cached`, memory has no answer."""


class BusyError(AskOnceError):
    """A limit or a queue is full; `retry_after` says when to come back."""


class UnavailableError(AskOnceError):
    """A service that is needed does not answer at the moment."""


class DeadlineError(AskOnceError):
    """The time allowed was not enough."""


_KINDS: dict[grpc.StatusCode, type[AskOnceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.UNIMPLEMENTED: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: BusyError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def to_exception(error: grpc.RpcError, request_id: str = "") -> AskOnceError:
    """The exception for a failed call."""
    code = error.code() if isinstance(error, grpc.aio.AioRpcError | grpc.Call) else grpc.StatusCode.UNKNOWN
    return _KINDS.get(code, AskOnceError)(from_error(error), code, request_id)
