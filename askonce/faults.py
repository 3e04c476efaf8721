"""Errors that a client sees: named once, mapped once to a gRPC status with `google.rpc` details.

Every fault carries an UPPER_SNAKE reason that callers may rely on, metadata such as the limit that was exceeded, and a
message that says what to do next. Code raises a fault; `askonce.serving` turns it into a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "askonce"
DETAILS = "grpc-status-details-bin"


class Fault(Exception):  # noqa: N818 - a fault is the noun of this domain
    """An error with a status code, a stable reason and a message for people."""

    code = grpc.StatusCode.INTERNAL

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        """The field of the request at fault, such as "question.text"; empty for none."""
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        """Seconds after which a repeated call may succeed; None for no promise."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets it be raised in one process and caught in another."""
        return _rebuild, (type(self), dict(vars(self)), self.args)


def _rebuild(kind: type[Fault], fields: dict[str, Any], args: tuple[Any, ...]) -> Fault:
    fault = kind.__new__(kind, *args)
    fault.__dict__.update(fields)
    fault.args = args
    return fault


class InvalidInput(Fault):
    """The request can never work as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class Unauthenticated(Fault):
    """The caller is not known."""

    code = grpc.StatusCode.UNAUTHENTICATED


class Forbidden(Fault):
    """The caller is known and may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Absent(Fault):
    """What the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class Precondition(Fault):
    """The system is not in a state in which this works."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Conflict(Fault):
    """Somebody else changed it in between: read again and retry."""

    code = grpc.StatusCode.ABORTED


class Exhausted(Fault):
    """A limit or a queue is full."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unreachable(Fault):
    """A service or store that is needed does not answer at the moment."""

    code = grpc.StatusCode.UNAVAILABLE


class TooLate(Fault):
    """The deadline passed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unsupported(Fault):
    """This deployment does not offer it."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Internal(Fault):
    """A bug. The message is fixed; the detail is in the log only."""

    code = grpc.StatusCode.INTERNAL

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "INTERNAL",
            f"Something went wrong on our side. Please report request {request_id}.",
            metadata={"request_id": request_id},
        )


KINDS: dict[grpc.StatusCode, type[Fault]] = {
    kind.code: kind
    for kind in (
        InvalidInput,
        Unauthenticated,
        Forbidden,
        Absent,
        Precondition,
        Conflict,
        Exhausted,
        Unreachable,
        TooLate,
        Unsupported,
    )
}


def to_status(fault: Fault) -> status_pb2.Status:
    """The `google.rpc.Status` of a fault: ErrorInfo always, BadRequest and RetryInfo where they say something."""
    status = status_pb2.Status(code=fault.code.value[0], message=fault.message)
    info = error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN, metadata=fault.metadata)
    pack(status, info)
    if fault.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=fault.field, description=fault.message)
        pack(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if fault.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(max(0, round(fault.retry_after * 1e9)))
        pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def pack(status: status_pb2.Status, detail: object) -> None:
    """Appends one detail message."""
    packed = any_pb2.Any()
    packed.Pack(detail)  # type: ignore[arg-type]
    status.details.append(packed)


def trailing_metadata(fault: Fault) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the details to the client."""
    return ((DETAILS, to_status(fault).SerializeToString()),)


def from_error(error: grpc.RpcError) -> Fault:
    """The fault that a server sent, rebuilt from a failed call.

    A status without details gets the name of its code as the reason.
    """
    if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):  # the latter is what grpc's blocking stubs raise
        return Fault("UNKNOWN", str(error))
    code = error.code()
    fault = KINDS.get(code, Fault)(code.name, error.details() or code.name)
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == DETAILS:
            read_details(fault, status_pb2.Status.FromString(value))
    return fault


def read_details(fault: Fault, status: status_pb2.Status) -> None:
    """Fills a fault from the details of a status."""
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(info):
            fault.reason, fault.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            fault.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Unpack(bad) and bad.field_violations:
            fault.field = bad.field_violations[0].field


def reason_of(error: grpc.RpcError) -> str:
    """The reason of a failed call; the code's name where the server gave none."""
    return from_error(error).reason
