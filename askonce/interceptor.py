"""What happens around every call: who may make it, its request id, its limits, its status, its line and its metrics."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import grpc
import structlog

from askonce import faults, telemetry
from askonce.access import ADMINISTRATIVE, ANYBODY, Guard, Identity, tenant_of

current_identity: contextvars.ContextVar[Identity] = contextvars.ContextVar("askonce_identity", default=ANYBODY)
current_metadata: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("askonce_metadata")
"""The text among the metadata of the call under way, by lower-case key; read once a call."""
Gate = Callable[[str, Mapping[str, str]], None]
"""Refuses a caller of "Service/Method" by the call's metadata, before its message is read; raises a Fault."""
OURS = ("/askonce.", "/google.longrunning.")
"""What the paths of our own methods begin with."""
WATCHES_EACH, WATCHES = 64, 1_024
"""Streams of health and reflection at once, which need no key: of one address, and of all. They may last for ever, and
must leave room for calls."""
MESSAGE_SECONDS = 60.0
"""Seconds for which a call that has sent no message counts against its caller."""
CREDENTIALS = ("x-api-key", "authorization", "askonce-service-key")
finished = telemetry.children(telemetry.REQUESTS)
lasted = telemetry.children(telemetry.DURATIONS)


class Unreadable:
    """A message that could not be read, and why: what the deserialiser returns, so that the call ends in a fault."""

    def __init__(self, fault: faults.Fault) -> None:
        self.fault = fault


class Read(NamedTuple):
    """A message with its size on the wire: asking the message for it would serialise it again."""

    message: Any
    size: int


class Requests(grpc.aio.ServerInterceptor):
    """Gives every call a request id, a canonical log line, metrics, and a clear status for whatever it raises.

    A caller is looked at before its message is read. Messages are bounded one by one (`max_message_bytes`) and together
    (`max_bytes_in_flight`).
    """

    def __init__(
        self,
        service: str,
        log: structlog.stdlib.BoundLogger,
        *,
        guard: Guard | None = None,
        gate: Gate | None = None,
        certificates: bool = False,
        max_message_bytes: int,
        max_bytes_in_flight: int,
        max_calls: int = 2_048,
    ) -> None:
        """Half of `max_calls` calls may wait for the message of one caller."""
        self.service = service
        self.log = log
        self.guard = guard
        self.gate = gate
        self.certificates = certificates
        self.max_message_bytes = max_message_bytes
        self.max_bytes_in_flight = max_bytes_in_flight
        self.bytes_in_flight = 0
        self.inflight = telemetry.INFLIGHT.labels(service)
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self.most_waiting = max(1, max_calls // 2)
        self.waiting: dict[str, deque[float]] = {}
        """When the calls came whose message has not come yet, by what the caller showed."""
        self.watches: Counter[str] = Counter()
        """Streams of health and reflection by address."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wraps handlers once per method: ours, and streams of health and reflection; others and unknown names pass as
        they are."""
        method = details.method
        handler = self.handlers.get(method)
        if handler is None:
            found = await continuation(details)
            if found is None:
                return None
            if not method.startswith(OURS):
                if found.response_streaming:
                    found = self.handlers[method] = self.bounded(found)
                return found
            service, _, name = method.rpartition("/")
            handler = self.handlers[method] = self.wrap(f"{service.rpartition('.')[2]}/{name}", found)
        if not method.startswith(OURS):
            return handler
        metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        current_metadata.set(metadata)  # this task runs the handler too
        try:
            self.admit(method, metadata)
            self.expect(shown_by(metadata))
        except faults.Fault as fault:
            return self.refusal(method.rpartition("/")[2], fault)
        return handler

    def expect(self, caller: str) -> None:
        """Notes a call whose message is still to come: gRPC waits for it without bounds, and each wait takes one of the
        places for calls. Calls that are cancelled meanwhile count until they are too old. Raises Exhausted."""
        now = time.monotonic()
        waiting = self.waiting.setdefault(caller, deque())
        while waiting and waiting[0] < now - MESSAGE_SECONDS:
            waiting.popleft()
        if len(waiting) >= self.most_waiting:
            raise faults.Exhausted("SERVER_BUSY", "Too many calls of yours have sent no message.", retry_after=5.0)
        waiting.append(now)

    def arrived(self, caller: str) -> None:
        """Notes that a call's message has come."""
        if waiting := self.waiting.get(caller):
            waiting.popleft()
            if not waiting:
                del self.waiting[caller]

    def bounded(self, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """A handler of somebody else's stream that ends RESOURCE_EXHAUSTED when there are too many of them."""
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
        yields = inspect.isasyncgenfunction(behaviour)

        async def call(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            address = context.peer().rpartition(":")[0]
            if self.watches[address] >= WATCHES_EACH or self.watches.total() >= WATCHES:
                await self.fail(faults.Exhausted("SERVER_BUSY", "Too many streams are open.", retry_after=5.0), context)
            self.watches[address] += 1
            try:
                if yields:
                    async for each in behaviour(message, context):
                        yield each
                else:  # it writes to the context itself
                    await behaviour(message, context)
            finally:
                self.watches[address] -= 1
                if not self.watches[address]:
                    del self.watches[address]

        build = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return build(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def admit(self, method: str, metadata: Mapping[str, str]) -> None:
        """Looks at a caller before its message is read. Raises Unauthenticated or Forbidden."""
        service, _, name = method.rpartition("/")
        if self.gate is not None:
            self.gate(f"{service.rpartition('.')[2]}/{name}", metadata)
        if self.guard is not None:
            try:
                identity = self.guard.identify(metadata)
            except faults.Unauthenticated as fault:
                if self.certificates and fault.reason == "CREDENTIALS_MISSING":
                    return  # a certificate, which TLS has checked, may say who it is once the call is there
                raise
            self.guard.allow(identity, f"{service.rpartition('.')[2]}/{name}")
            current_identity.set(identity)

    def refusal(self, method: str, fault: faults.Fault) -> Any:
        """A handler that ends the call without reading what the caller sends."""

        async def call(messages: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            with telemetry.request(caller_request_id()) as line:
                self.conclude(method, started, line, fault, context)
                await self.fail(fault, context)

        return grpc.stream_unary_rpc_method_handler(call)

    def wrap(self, name: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """A handler that behaves like `handler` inside a request; `name` is "Service/Method"."""
        if handler.request_streaming and handler.response_streaming:
            raise TypeError("no method of askonce.v1 streams both ways")
        if handler.response_streaming:
            build, behaviour = grpc.unary_stream_rpc_method_handler, self.streaming(name, handler.unary_stream)
        elif handler.request_streaming:
            build, behaviour = (
                grpc.stream_unary_rpc_method_handler,
                self.unary(name, self.uploading(handler.stream_unary)),
            )
        else:
            build, behaviour = grpc.unary_unary_rpc_method_handler, self.unary(name, handler.unary_unary)
        return build(
            behaviour,
            request_deserializer=self.reader(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def reader(self, read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """A deserialiser that never raises: what can't be read becomes `Unreadable`, all else `Read`."""

        def checked(message: bytes) -> Any:
            size = len(message)
            if size > self.max_message_bytes:
                return Unreadable(
                    faults.InvalidInput(
                        "MESSAGE_TOO_LARGE", f"The message has {size:,} bytes, more than {self.max_message_bytes:,}.",
                        metadata={"max_bytes": str(self.max_message_bytes)},
                    )
                )  # fmt: skip
            if self.bytes_in_flight + size > self.max_bytes_in_flight:
                return Unreadable(
                    faults.Exhausted("SERVER_BUSY", "Too many bytes are under way; try again shortly.", retry_after=0.5)
                )
            try:
                return Read(read(message), size)
            except Exception:
                return Unreadable(
                    faults.InvalidInput(
                        "MESSAGE_INVALID", "This is not the method's message; compile the protos again."
                    )
                )

        return checked

    def enter(self, name: str, arrived: Any, context: grpc.aio.ServicerContext[Any, Any], line: dict[str, Any]) -> Read:
        """Checks a call whose message, `Read` or `Unreadable`, is there, or whose stream of messages; returns what the
        handler gets, and the bytes that it holds. Raises a Fault."""
        self.arrived(shown_by(current_metadata.get({})))
        if isinstance(arrived, Unreadable):
            raise arrived.fault
        read = arrived if isinstance(arrived, Read) else Read(arrived, 0)
        if self.guard is not None:
            if self.certificates:  # only now a certificate is seen
                identity = self.guard.identify(current_metadata.get({}), common_name(context))
                self.guard.allow(identity, name)
                current_identity.set(identity)
            else:
                identity = current_identity.get()
            if isinstance(arrived, Read):
                self.guard.allow_tenant(identity, read.message)
            line["caller"] = identity.name
        self.bytes_in_flight += read.size
        return read

    def unary(self, name: str, behaviour: Any) -> Any:
        method = name.rpartition("/")[2]

        async def call(arrived: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            with telemetry.request(caller_request_id()) as line:
                outcome: BaseException | None = None
                size = 0
                self.inflight.inc()
                try:
                    message, size = self.enter(name, arrived, context, line)
                    return await behaviour(message, context)
                except BaseException as error:
                    outcome = error
                    await self.fail(error, context)
                    raise
                finally:
                    self.bytes_in_flight -= size
                    self.inflight.dec()
                    self.conclude(method, started, line, outcome, context, name)

        return call

    def streaming(self, name: str, behaviour: Any) -> Any:
        method = name.rpartition("/")[2]

        async def call(arrived: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            started = time.perf_counter()
            with telemetry.request(caller_request_id()) as line:
                outcome: BaseException | None = None
                size = 0
                self.inflight.inc()
                try:
                    message, size = self.enter(name, arrived, context, line)
                    async for event in behaviour(message, context):
                        yield event
                except BaseException as error:
                    outcome = error
                    if not isinstance(error, GeneratorExit):
                        await self.fail(error, context)
                    raise
                finally:
                    self.bytes_in_flight -= size
                    self.inflight.dec()
                    self.conclude(method, started, line, outcome, context, name)

        return call

    def uploading(self, behaviour: Any) -> Any:
        """A behaviour whose stream of messages is checked one by one."""

        async def call(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async def checked() -> AsyncIterator[Any]:
                async for arrived in messages:
                    if isinstance(arrived, Unreadable):
                        raise arrived.fault
                    message = arrived.message
                    if self.guard is not None and tenant_of(message):
                        self.guard.allow_tenant(current_identity.get(), message)
                    yield message

            return await behaviour(checked(), context)

        return call

    async def fail(self, error: BaseException, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Ends the call with the status of a fault; an exception that nobody named becomes INTERNAL, its text kept."""
        if isinstance(error, asyncio.CancelledError | grpc.aio.AbortError):
            return
        fault = error if isinstance(error, faults.Fault) else faults.Internal(telemetry.request_id())
        trailing: tuple[tuple[str, str | bytes], ...] = (
            *faults.trailing_metadata(fault),
            (telemetry.REQUEST_ID, telemetry.request_id()),
        )
        await context.abort(fault.code, fault.message, trailing)

    def conclude(
        self,
        method: str,
        started: float,
        line: dict[str, Any],
        outcome: BaseException | None,
        context: grpc.aio.ServicerContext[Any, Any],
        name: str = "",
    ) -> None:
        """Writes the canonical line and the metrics of one call."""
        duration = time.perf_counter() - started
        code, reason = "OK", str(line.get("reason", ""))
        if isinstance(outcome, faults.Fault):
            code, reason = outcome.code.name, outcome.reason
        elif isinstance(outcome, asyncio.CancelledError | GeneratorExit):
            code = "CANCELLED"
        elif isinstance(outcome, grpc.aio.AbortError):
            code = str(context.code())
        elif outcome is not None:
            code, reason = "INTERNAL", "INTERNAL"
            self.log.error("bug", request_id=telemetry.request_id(), method=method, exc_info=outcome)
        line["reason"] = reason
        finished(self.service, method, code, reason).inc()
        lasted(self.service, method).observe(duration)
        self.log.info(
            "administrative_act" if name in ADMINISTRATIVE else "request",
            request_id=telemetry.request_id(),
            method=method,
            code=code,
            duration_ms=round(duration * 1000, 3),
            **line,
        )


def shown_by(metadata: Mapping[str, str]) -> str:
    """What tells one caller from another; empty for those who show nothing."""
    return next((metadata[name] for name in CREDENTIALS if name in metadata), "")


def caller_request_id() -> str:
    """The request id that the caller of the call under way sent, or a new one."""
    return telemetry.accept_request_id(current_metadata.get({}).get(telemetry.REQUEST_ID))


def common_name(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The common name of the caller's certificate; empty without mTLS."""
    names = list((context.auth_context() or {}).get("x509_common_name") or ())
    return names[0].decode("utf-8", "replace") if names else ""
