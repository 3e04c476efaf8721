"""One log stream: whatever a process says, its own code, its libraries and its children, is one JSON line, or on a
terminal a line for people.

Every line has `service`, `logger`, `level`, `event` (words joined by underscores) and `timestamp`; values are fields.
Our own loggers write through structlog; records of the standard library's loggers (uvicorn, gRPC, SQLAlchemy, warnings)
go through structlog's `ProcessorFormatter` and get the same form. A child process takes over its parent's settings with
`configure_child`.

JSON lines go out in groups, from a thread of their own and at most `GROUP_SECONDS` late: a write for each would cost a
request more than all else about its line. A line of level error goes out at once with all that waits, and so does the
rest at the end of the process; one that is killed (SIGKILL) takes the last lines with it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import prometheus_client
import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "console")
INHERITED = "ASKONCE_LOG"
"""The variable by which a process tells its children how to log: a JSON object of service, level and format."""


GROUP_SECONDS = 0.05
"""How long a line may wait for others."""
IDLE_GROUPS = 20
"""Groups without a line after which the thread that writes them rests."""
GROUP_LINES = 2_000
"""Lines that may wait; then whoever has one more writes them all, and waits for that."""

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
            LOST.inc(max(1, text.count("\n")))
            return len(text)

    def flush(self) -> None:
        """Flushes, as far as that goes."""
        with contextlib.suppress(OSError, ValueError):
            self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class GroupedFile:
    """A stream that gets lines in groups. Thread-safe; its thread starts with the first line."""

    def __init__(self, file: LenientFile) -> None:
        self.file = file
        self.waiting: list[str] = []
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        self.came = threading.Event()
        self.parked = True
        self.thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Takes a line, to be written with others."""
        with self.lock:
            self.waiting.append(text)
            count = len(self.waiting)
            wake, self.parked = self.parked, False
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="log lines", daemon=True)
                self.thread.start()
                atexit.register(self.flush)
        if wake:  # waking a thread is dearer than a line: while lines come it wakes by itself
            self.came.set()
        elif count > GROUP_LINES:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Writes what waits."""
        with self.writing:
            with self.lock:
                lines, self.waiting = self.waiting, []
            if lines:
                self.file.write("".join(lines))
                self.file.flush()

    def run(self) -> None:
        """Writes groups, for ever; after a while without a line it waits for the next one."""
        idle = 0
        while True:
            self.came.wait()
            time.sleep(GROUP_SECONDS)
            with self.lock:
                idle = 0 if self.waiting else idle + 1
                if idle > IDLE_GROUPS:
                    idle, self.parked = 0, True
                    self.came.clear()
            self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class NamedLogger:
    """Writes whole lines to a file, and knows its name."""

    def __init__(self, file: TextIO, name: str) -> None:
        self.file = file
        self.name = name

    def msg(self, line: str) -> None:
        """Writes a line."""
        self.file.write(f"{line}\n")

    def urgent(self, line: str) -> None:
        """Writes a line and makes sure that it is out."""
        self.file.write(f"{line}\n")
        self.file.flush()

    debug = info = warning = warn = msg
    error = err = critical = fatal = exception = failure = urgent


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
    lenient = LenientFile(file or sys.stderr)
    console = form == "console" or (form == "auto" and lenient.isatty())
    grouped = file is None and not console
    file = cast(TextIO, GroupedFile(lenient) if grouped else lenient)
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
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(serializer=serialised)
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


ENCODER = json.JSONEncoder(ensure_ascii=False, default=repr)
"""Made once: `json.dumps` with options makes one for every line."""


def serialised(event: MutableMapping[str, Any], **_: Any) -> str:
    """A line's fields as JSON; what JSON does not know as its `repr`."""
    return ENCODER.encode(event)


def configure_child() -> None:
    """Logs as the parent process does, whose settings the environment carries; without a parent, with the defaults."""
    told = json.loads(os.environ.get(INHERITED, "{}"))
    configure(told.get("service", "askonce"), told.get("level", "info"), told.get("form", "auto"))
