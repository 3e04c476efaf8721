"""Logs, request ids and metrics: one canonical line a request, the same words in every service."""

from __future__ import annotations

import contextvars
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import prometheus_client
import structlog

from askonce import logs
from askonce.os_errors import listening
from askonce.settings import StartError

REQUEST_ID = "askonce-request-id"
"""The metadata key that carries the request id from service to service."""

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

current_request: contextvars.ContextVar[str] = contextvars.ContextVar("askonce_request_id", default="")
current_line: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("askonce_line", default=None)

CHILDREN = 4_096
"""Combinations of labels that are kept at hand for one metric; more than there are, as all are of closed lists."""


def children(metric: Any) -> Callable[..., Any]:
    """What finds the child of a metric by its labels: a tenth of the time of the metric's own `labels`."""
    return lru_cache(CHILDREN)(metric.labels)


REQUESTS = prometheus_client.Counter(
    "askonce_requests_total", "Finished calls.", ["service", "method", "code", "reason"]
)
DURATIONS = prometheus_client.Histogram(
    "askonce_request_duration_seconds",
    "Time from the arrival of a call to its end.",
    ["service", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 1.8, 3.0, 5.0, 10.0, 30.0, 60.0),
)
INFLIGHT = prometheus_client.Gauge("askonce_requests_in_flight", "Calls under way.", ["service"])


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is logged and measured, and where it can be read."""

    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: str = "auto"
    """json, console, or auto: console on a terminal, JSON elsewhere."""
    traces_endpoint: str = ""
    """Where traces go by OTLP over HTTP, such as "http://otel-collector:4318"; empty for none."""
    traces_share: float = 0.1
    """The share of requests that are traced, 0 to 1, where the caller has not decided."""
    metrics_listen: str = ""
    """The "host:port" of the Prometheus endpoint; empty for none. Port 0 takes a free one."""


def configure(service: str, telemetry: Telemetry) -> structlog.stdlib.BoundLogger:
    """Sets the process's logging up and returns its logger. Raises ValueError for an unknown level or format."""
    logs.configure(service, telemetry.log_level, telemetry.log_format)
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger


def request_id() -> str:
    """The id of the request under way; empty outside of one."""
    return current_request.get()


def accept_request_id(proposed: str | bytes | None) -> str:
    """A caller's request id when it is safe to log, else a new one of 16 hexadecimal digits."""
    if isinstance(proposed, str) and SAFE_ID.fullmatch(proposed):
        return proposed
    return secrets.token_hex(8)


class Credential:
    """What this process shows the other services of its deployment; set once, at the start."""

    metadata: ClassVar[tuple[tuple[str, str], ...]] = ()


def outgoing() -> tuple[tuple[str, str], ...]:
    """Metadata for a call to another service: the request id goes along, and what shows that we belong together."""
    current = current_request.get()
    return (*Credential.metadata, (REQUEST_ID, current)) if current else Credential.metadata


def note(**fields: Any) -> None:
    """Adds fields to the canonical line of the request under way; does nothing outside of one."""
    line = current_line.get()
    if line is not None:
        line.update(fields)


@contextmanager
def request(identifier: str) -> Iterator[dict[str, Any]]:
    """Makes `identifier` the request under way and yields the fields of its canonical line."""
    line: dict[str, Any] = {}
    id_token, line_token = current_request.set(identifier), current_line.set(line)
    try:
        yield line
    finally:
        current_line.reset(line_token)
        current_request.reset(id_token)


def start_metrics(listen: str) -> tuple[str, Any] | None:
    """Serves Prometheus metrics in a thread. Returns the bound address and a handle with `shutdown`, or None for ""."""
    if not listen:
        return None
    host, _, port = listen.rpartition(":")
    try:
        server, _thread = prometheus_client.start_http_server(int(port), addr=host or "127.0.0.1")
    except OSError as error:
        raise StartError(f"metrics_listen: {listening(listen, error)}") from error
    except (ValueError, OverflowError) as error:
        raise StartError(f"metrics_listen: write HOST:PORT, such as 127.0.0.1:9100, not {listen!r}") from error
    bound: tuple[str, int] = server.server_address  # type: ignore[assignment]
    address = f"{bound[0]}:{bound[1]}"
    structlog.get_logger("telemetry").info("metrics_served", address=address)
    return address, server
