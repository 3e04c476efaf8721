"""One log stream: whatever a process says, its own code, its libraries and its children, is one JSON line, or on a
terminal a line for people.

Every line has `service`, `logger`, `level`, `event` (words joined by underscores) and `timestamp`; values are fields.
Our own loggers write through structlog; records of the standard library's loggers (uvicorn, gRPC, SQLAlchemy, warnings)
go through structlog's `ProcessorFormatter` and get the same form. A child process takes over its parent's settings with
`configure_child`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import prometheus_client
import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "console")
INHERITED = "ASKONCE_LOG"
"""The variable by which a process tells its children how to log: a JSON object of service, level and format."""


LOST = prometheus_client.Counter("askonce_log_lines_lost_total", "Log lines that could not be written.")


class LenientFile:
    """A stream whose failure costs a line and no request: a full disk or a closed pipe is counted."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> int:
        """Writes, or counts what could not be written."""
        try:
            return self.file.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            LOST.inc()
            return len(text)

    def flush(self) -> None:
        """Flushes, as far as that goes."""
        with contextlib.suppress(OSError, ValueError):
            self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class NamedLogger(structlog.WriteLogger):
    """Writes whole lines to a file, and knows its name."""

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name


class NamedLoggerFactory:
    """Makes loggers; `structlog.get_logger("store")` is one named store."""

    def __init__(self, file: TextIO, default: str) -> None:
        self.file = file
        self.default = default

    def __call__(self, *names: str) -> NamedLogger:
        return NamedLogger(self.file, names[0] if names else self.default)


def configure(service: str, level: str = "info", form: str = "auto", file: TextIO | None = None) -> None:
    """Sets the process's logging up. `file` is where lines go, standard error by default.

    Raises ValueError for an unknown level or format.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"log_level: {level!r} is not one of {', '.join(LEVELS)}")
    if form not in FORMATS:
        raise ValueError(f"log_format: {form!r} is not one of {', '.join(FORMATS)}")
    file = cast(TextIO, LenientFile(file or sys.stderr))
    console = form == "console" or (form == "auto" and file.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core writes past every logger
    os.environ[INHERITED] = json.dumps({"service": service, "level": level, "form": "console" if console else "json"})

    def add_service(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        return event

    shared: list[Processor] = [
        add_service,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer()
        if console
        else structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=NamedLoggerFactory(file, service),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(file)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))  # libraries are asked for trouble only
    logging.captureWarnings(True)


def configure_child() -> None:
    """Logs as the parent process does, whose settings the environment carries; without a parent, with the defaults."""
    told = json.loads(os.environ.get(INHERITED, "{}"))
    configure(told.get("service", "askonce"), told.get("level", "info"), told.get("form", "auto"))
