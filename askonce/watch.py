"""Watches what a service runs in the background: a thread that died shows in the health, the metrics and the log."""

from __future__ import annotations

from collections.abc import Callable

import prometheus_client
import structlog

ALIVE = prometheus_client.Gauge("askonce_background_alive", "Whether a part in the background runs: 1 or 0.", ["part"])
log = structlog.get_logger("watch")


class Watch:
    """For `serving.run`: called every second, it says whether all parts run."""

    def __init__(self) -> None:
        self.parts: dict[str, Callable[[], bool]] = {}
        self.dead: set[str] = set()

    def add(self, part: str, alive: Callable[[], bool]) -> None:
        """Watches a part by a function that says whether it runs."""
        self.parts[part] = alive

    def __call__(self) -> bool:
        """Whether all parts run; what changed since the last call is logged."""
        for part, alive in self.parts.items():
            runs = alive()
            ALIVE.labels(part).set(runs)
            if not runs and part not in self.dead:
                log.error("background_died", part=part)
                self.dead.add(part)
            elif runs and part in self.dead:
                log.warning("background_runs_again", part=part)
                self.dead.discard(part)
        return not self.dead
