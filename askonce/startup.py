"""What every server's command does before it serves: help, version, checking and showing its settings, and errors in
one line that says what to do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from typing import Any, TypeVar

from askonce import settings, telemetry, tracing
from askonce.os_errors import advice
from askonce.private import UMASK
from askonce.settings import StartError

T = TypeVar("T")

DEBUG = "ASKONCE_DEBUG"
"""With this variable set, an error of the start comes with its traceback."""


def command(
    program: str,
    section: str,
    kind: type[T],
    about: str,
    run: Callable[[T], None],
    argv: Sequence[str] | None = None,
    *,
    check: Callable[[T], object] | None = None,
    further: Callable[[T], Iterable[tuple[str, str, str]]] | None = None,
) -> None:
    """Runs a server's command line.

    Args:
        program: the command's name, such as "askonce-gateway".
        section: the section of its settings, such as "gateway".
        kind: the dataclass of its settings, with a field `telemetry`.
        about: what it does, for `--help`.
        run: serves until told to stop.
        argv: the arguments; the process's own by default.
        check: looks beyond single settings, at the files that they name and at how they go together; raises what `run`
            would. Nothing is started or written.
        further: variable, value and source of settings in other sections that this server reads.

    Ends the process with status 2 and one line when the settings are wrong or the server can't start.
    """
    parser = argparse.ArgumentParser(
        program,
        description=about,
        epilog=f"Settings are read from ASKONCE_{section.upper()}_… and from the TOML file that ASKONCE_CONFIG names; "
        f"--show-config lists them. {DEBUG}=1 shows the traceback of an error.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    parser.add_argument("--check-config", action="store_true", help="check settings and the files they name, and end")
    parser.add_argument("--show-config", action="store_true", help="print every setting, its value and its source")
    chosen = parser.parse_args(argv)
    if chosen.version:
        print(f"{program} {metadata.version('askonce')}")
        return
    try:
        found = settings.load(kind, section)
        if chosen.show_config:
            for name, value, source in settings.describe(kind, section):
                print(f"{name} = {value}    # {source}")
            for name, value, source in further(found) if further is not None else ():
                print(f"{name} = {value}    # {source}")
            return
        if chosen.check_config:
            if check is not None:
                check(found)
            print(f"{program}: the settings are fine")
            return
        os.umask(UMASK)
        with_telemetry: Any = found
        telemetry.configure(section, with_telemetry.telemetry)
        end_tracing = tracing.configure(section, with_telemetry.telemetry)
        try:
            run(found)
        finally:
            end_tracing()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        print(f"{program}: {explain(error)}", file=sys.stderr)
        sys.exit(2)


def explain(error: BaseException) -> str:
    """One line on an error of the start, with what to do where that is known."""
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return explain(error.exceptions[0])
    if isinstance(error, settings.SettingsError | StartError):
        return one_line(str(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return one_line(f"{place}{advice(error)}")
    if type(error) is ValueError:
        return one_line(str(error))
    reason = getattr(error, "reason", "")
    return one_line(f"{reason}: {error}" if isinstance(reason, str) and reason else f"{type(error).__name__}: {error}")


def one_line(text: str) -> str:
    """Text without line breaks, at most 500 characters."""
    return " ".join(text.split())[:500]
