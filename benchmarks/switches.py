"""Parts of a running service that can be taken out and put back while it serves: how `benchmarks.exact_path` learns
what each of them costs. A file holds the name of the part that is out; a thread looks at it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from askonce.access import ANYBODY, Guard
from askonce.interceptor import Requests

FILE = "ASKONCE_BENCHMARK_PART_OUT"
"""The variable that names the file."""
LOOK_SECONDS = 0.1

Change = tuple[Any, str, Any]
"""An object, the name of an attribute, and what stands there while the part is out."""


class Silence:
    """A logger that says nothing."""

    def info(self, *_: object, **__: object) -> None:
        """Says nothing."""

    error = warning = info


def nothing(*_: object, **__: object) -> None:
    """Does nothing."""


def log_line() -> Callable[[], list[Change]]:
    """Takes the canonical line of a request out. Call it before the server is made."""
    made: list[Requests] = []
    begin: Callable[..., None] = Requests.__init__

    def remembered(self: Requests, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        made.append(self)

    Requests.__init__ = remembered  # type: ignore[method-assign, assignment]
    return lambda: [(each, "log", Silence()) for each in made]


def metrics() -> list[Change]:
    """Takes the counting out; looking the labels up, where that is done per call, stays."""
    changes: list[Change] = [(Histogram, "observe", nothing)]
    changes += [(kind, "inc", nothing) for kind in (Counter, Gauge)]
    return [*changes, (Gauge, "dec", nothing), (Gauge, "set", nothing)]


def keys_and_roles() -> list[Change]:
    """Takes out the question who calls, at dedup."""
    return [
        (Guard, "identify", lambda *_: ANYBODY),
        (Guard, "allow", nothing),
        (Guard, "allow_tenant", nothing),
    ]


def follow(parts: Mapping[str, Callable[[], list[Change]]]) -> None:
    """Takes parts out and puts them back as the file says, in a thread, for ever."""
    threading.Thread(target=_follow, args=(Path(os.environ[FILE]), parts), daemon=True).start()


def _follow(file: Path, parts: Mapping[str, Callable[[], list[Change]]]) -> None:
    name, kept = "", list[Change]()
    while True:
        time.sleep(LOOK_SECONDS)
        wanted = file.read_text(encoding="utf-8") if file.exists() else ""
        if wanted == name:
            continue
        for owner, attribute, before in reversed(kept):
            setattr(owner, attribute, before)
        kept, name = [], wanted
        for owner, attribute, instead in parts[wanted]() if wanted in parts else ():
            held = vars(owner).get(attribute, getattr(owner, attribute))
            kept.append((owner, attribute, held))
            setattr(owner, attribute, instead)
