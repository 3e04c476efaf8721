"""One stream of lines in one form, whoever says something."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO, cast

import pytest
import structlog

from askonce import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The stream of a process that logs in JSON; logging is as before afterwards."""
    root = logging.getLogger()
    before = structlog.get_config(), root.handlers[:], root.level
    file = io.StringIO()
    logs.configure("dedup", "info", "json", file)
    yield file
    structlog.configure(**before[0])
    root.handlers[:], root.level = before[1:]
    logging.captureWarnings(False)


def lines(file: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_our_own_and_foreign_records_look_alike(stream: io.StringIO) -> None:
    """A line of ours, of a library, and of a warning are JSON objects with the same keys."""
    structlog.get_logger("store").info("swept", entries=3)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP %s", "request")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    own, foreign, warned = lines(stream)
    assert (own["event"], own["logger"], own["entries"]) == ("swept", "store", 3)
    assert (foreign["event"], foreign["logger"], foreign["level"]) == (
        "Invalid HTTP request",
        "uvicorn.error",
        "warning",
    )
    assert warned["logger"] == "py.warnings"
    for line in (own, foreign, warned):
        assert line["service"] == "dedup"
        assert {"event", "level", "logger", "timestamp"} <= line.keys()


def test_an_exception_is_one_line(stream: io.StringIO) -> None:
    """A traceback stays inside its line, from our loggers and from libraries."""
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("store").exception("sweep_failed")
        logging.getLogger("grpc._cython").exception("Unexpected")
    found = lines(stream)
    assert len(found) == 2
    assert all("broken" in json.dumps(line["exception"]) for line in found)


def test_libraries_are_asked_for_trouble_only(stream: io.StringIO) -> None:
    """What a library says below a warning is left out."""
    logging.getLogger("httpx").info("HTTP Request: GET")
    assert lines(stream) == []


def test_a_child_logs_as_its_parent(stream: io.StringIO) -> None:
    """A process started from ours writes the same form under the same service, without any setting."""
    code = "from askonce import logs; logs.configure_child(); import structlog; structlog.get_logger('x').info('up')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert (json.loads(said)["service"], json.loads(said)["event"]) == ("dedup", "up")


@pytest.mark.parametrize(("level", "form"), [("loud", "json"), ("info", "xml")])
def test_unknown_settings_are_refused(level: str, form: str) -> None:
    """A wrong level or form is an error that names the choices."""
    with pytest.raises(ValueError, match="is not one of"):
        logs.configure("dedup", level, form, io.StringIO())


def test_a_stream_that_fails_costs_lines_and_nothing_else(stream: io.StringIO) -> None:
    """With a full disk behind the log nothing raises, and what was lost is counted."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    before = logs.LOST._value.get()
    logs.configure("dedup", "info", "json", Full())
    structlog.get_logger("store").info("swept")
    logging.getLogger("library").warning("trouble")
    assert logs.LOST._value.get() == before + 2
    logs.configure("dedup", "info", "json", stream)
    structlog.get_logger("store").info("again")
    assert lines(stream)[-1]["event"] == "again"


class Written(io.StringIO):
    """A stream that counts its writes."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_lines_that_wait_go_out_together_and_in_order() -> None:
    """Many lines are one write; none is lost, and their order stays."""
    file = Written()
    grouped = logs.GroupedFile(logs.LenientFile(file))
    with grouped.writing:  # nobody may write meanwhile
        for number in range(100):
            grouped.write(f"{number}\n")
    grouped.flush()
    assert file.getvalue().split() == [str(number) for number in range(100)]
    assert file.writes <= 2


def test_an_error_goes_out_at_once() -> None:
    """A line of level error takes all that wait before it along."""
    file = Written()
    logger = logs.NamedLogger(cast(TextIO, logs.GroupedFile(logs.LenientFile(file))), "store")
    logger.info("first")
    logger.error("second")
    assert file.getvalue() == "first\nsecond\n"


def test_the_last_lines_of_a_process_are_written() -> None:
    """A process that ends at once after a line has written it."""
    code = (
        "from askonce import logs; import structlog; logs.configure('x', 'info', 'json'); "
        "[structlog.get_logger('x').info('line', number=n) for n in range(50)]"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert [json.loads(line)["number"] for line in said.splitlines()] == list(range(50))
