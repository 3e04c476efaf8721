"""Clocks in a running service: what its functions take of the processor, for `benchmarks.exact_path`.

A clock counts the processor time of its thread, so that nothing counts for which the thread did not run. It fits plain
functions, and coroutines that never wait on the way that is measured: an exact repeat from a hot tier in the process.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from askonce.interceptor import Requests
from askonce.serving import write_whole

FOLDER = "ASKONCE_BENCHMARK_CLOCKS"
"""The variable that names the folder of results."""
WRITE_SECONDS = 0.2


class Clocks:
    """The clocks of one service."""

    def __init__(self, service: str) -> None:
        self.file = Path(os.environ[FOLDER]) / f"{service}.json"
        self.spent: dict[str, float] = {}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Writes the seconds of every clock down, again and again."""
        while True:
            time.sleep(WRITE_SECONDS)
            write_whole(self.file, json.dumps(self.spent))

    def add(self, part: str, owner: Any, *names: str) -> None:
        """Puts a clock on functions of a module or a class; those that it does not have are left out."""
        self.spent.setdefault(part, 0.0)
        for name in names:
            if hasattr(owner, name):
                setattr(owner, name, self.clocked(part, getattr(owner, name)))

    def clocked(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a clock."""

        @functools.wraps(function)
        def plain(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self.spent[part] += time.thread_time() - began

        @functools.wraps(function)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return await function(*arguments, **named)
            finally:
                self.spent[part] += time.thread_time() - began

        return awaited if asyncio.iscoroutinefunction(function) else plain

    def log(self) -> None:
        """Puts clocks on the end of each request, and on its log line alone. Call it before the server is made."""
        begin: Callable[..., None] = Requests.__init__
        part = "  of which log line"
        self.add("end of a call", Requests, "conclude")
        self.spent[part] = 0.0

        def with_clock(requests: Requests, *arguments: Any, **named: Any) -> None:
            begin(requests, *arguments, **named)
            requests.log = _Timed(requests.log, self.clocked(part, requests.log.info))  # type: ignore[assignment]

        Requests.__init__ = with_clock  # type: ignore[method-assign, assignment]


class _Timed:
    """A logger whose `info` is another."""

    def __init__(self, logger: Any, info: Callable[..., Any]) -> None:
        self.logger = logger
        self.info = info

    def __getattr__(self, name: str) -> Any:
        return getattr(self.logger, name)
