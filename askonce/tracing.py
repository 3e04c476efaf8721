"""Traces of a request through the services and their stores, by OpenTelemetry's own instrumentation.

Off unless an endpoint is named. W3C's `traceparent` is taken from callers and handed on, spans go out over OTLP (HTTP).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, TypeVar, cast

from askonce.settings import SettingsError
from askonce.telemetry import Telemetry

T = TypeVar("T")


class Tracer:
    """The process's tracer; set once, at the start, where tracing is on."""

    current: ClassVar[Any] = None


def span(name: str) -> AbstractContextManager[object]:
    """A span of the trace under way around a block; nothing where tracing is off or no trace is under way."""
    if Tracer.current is None:
        return nullcontext()
    from opentelemetry import trace

    if not trace.get_current_span().get_span_context().is_valid:
        return nullcontext()
    found: AbstractContextManager[object] = Tracer.current.start_as_current_span(name)
    return found


def configure(service: str, telemetry: Telemetry) -> Callable[[], None]:
    """Turns tracing on where the settings name an endpoint. Call it before servers, channels and engines are made.

    Returns what sends the last spans and ends tracing. Raises SettingsError for a share out of range and where the
    packages of the extra askonce[tracing] are missing.
    """
    if not telemetry.traces_endpoint:
        return _nothing
    if not 0.0 <= telemetry.traces_share <= 1.0:
        raise SettingsError("traces_share: from 0 to 1")
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcAioInstrumentorServer
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased
    except ImportError as missing:
        raise SettingsError(f"traces_endpoint needs pip install 'askonce[tracing]' ({missing})") from missing
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"askonce-{service}"}),
        sampler=ParentBased(_requests(telemetry.traces_share)),
    )
    endpoint = telemetry.traces_endpoint.rstrip("/")
    exporter = OTLPSpanExporter(endpoint=endpoint if endpoint.endswith("/v1/traces") else f"{endpoint}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    Tracer.current = provider.get_tracer("askonce")
    GrpcAioInstrumentorServer().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    GrpcAioInstrumentorClient().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    for instrumentor in _stores():
        # Their upper bounds on a vendor's version trail behind it; whether spans come is tested.
        instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
    return provider.shutdown


def http(app: T, name: Callable[[Mapping[str, Any]], str]) -> T:
    """An ASGI application whose requests are traced where tracing is on; call it after `configure`. `name` gives a
    request's span its name from its scope: of few, never a path as a client wrote it."""
    if Tracer.current is None:
        return app
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    traced: Any = OpenTelemetryMiddleware(
        app, default_span_details=lambda scope: (name(scope), {}), exclude_spans=["receive", "send"]
    )
    return cast("T", traced)


def _requests(share: float) -> Any:
    """Begins a trace for that share of the requests that arrive; what runs in the background begins none."""
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
    from opentelemetry.trace import SpanKind

    class Requests(Sampler):
        def __init__(self) -> None:
            self.arriving = TraceIdRatioBased(share)

        def should_sample(
            self, parent_context: Any, trace_id: int, name: str, kind: Any = None, *others: Any, **more: Any
        ) -> SamplingResult:
            if kind is not SpanKind.SERVER:
                return SamplingResult(Decision.DROP)
            return self.arriving.should_sample(parent_context, trace_id, name, kind, *others, **more)

        def get_description(self) -> str:
            return f"requests, {self.arriving.get_description()}"

    return Requests()


def _stores() -> list[Any]:
    """Instrumentation for whichever of httpx, SQLAlchemy and Redis this service has loaded."""
    import importlib
    import sys

    found = []
    for package, module, name in (
        ("httpx", "opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor"),
        ("sqlalchemy", "opentelemetry.instrumentation.sqlalchemy", "SQLAlchemyInstrumentor"),
        ("redis", "opentelemetry.instrumentation.redis", "RedisInstrumentor"),
    ):
        if package in sys.modules:
            found.append(getattr(importlib.import_module(module), name)())
    return found


def _nothing() -> None:
    """Ends tracing that never began."""
