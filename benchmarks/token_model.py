"""An inference service whose model costs nothing: tokens come at a steady pace, and all that follows is the real code.

For `benchmarks.events`. Scheduler, detokenizer, loop guard, mailboxes, service and server are those of the
`transformers:` engine; in place of the network, a thread chooses the next word for every running answer.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from askonce import telemetry
from askonce.access import Access
from askonce.serving import Serving
from askonce.settings import load
from inference_service.__main__ import serve
from inference_service.engine import Ask, EngineInfo
from inference_service.glm.detokenizer import Marks, Spelling
from inference_service.glm.engine import GlmEngine, GlmSettings
from inference_service.glm.grammar import Constraint
from inference_service.glm.judge import VerdictTokens
from inference_service.glm.kv_cache import KVCache
from inference_service.glm.prompt import ImageKey, Prompt, Vocabulary
from inference_service.glm.scheduler import Scheduler
from inference_service.settings import Settings as ServiceSettings

TEXT = "the total of this invoice with tax stands in its last row and it was paid in cash when the goods had come"
WORDS = TEXT.split()
ORDER = random.Random(3).choices(range(1, len(WORDS) + 1), k=4_096)
"""The tokens of every answer; an order that does not go round."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What this service can be told; section `inference`, as the real one."""

    step_s: float = 0.025
    """Seconds of one decoding step: 25 ms are what a full batch takes on a card."""
    emit_interval_s: float = GlmSettings().emit_interval_s
    """As in `GlmSettings`."""
    serving: Serving = field(default_factory=Serving)
    access: Access = field(default_factory=Access)


class Steps:
    """In the model's place: one word further for every running answer, step by step."""

    def __init__(self, scheduler: Scheduler, step: float) -> None:
        self.scheduler, self.step = scheduler, step
        self.thread = threading.Thread(target=self.live, name="steps", daemon=True)

    def live(self) -> None:
        """The thread's life: the scheduler's own but for the model."""
        scheduler, rows = self.scheduler, self.scheduler.runner.rows
        due = time.monotonic()
        while not scheduler.stopping:
            due = max(due + self.step, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            with scheduler.wake:
                rows.extend(scheduler.waiting)
                scheduler.waiting.clear()
            for row in rows:
                scheduler.take(row, ORDER[row.output])
            rows[:] = [row for row in rows if not row.done and not row.cancelled]
            scheduler.flush()


class TokenEngine(GlmEngine):
    """The `transformers:` engine without a model."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(GlmSettings(model="tokens", max_batch_rows=256, emit_interval_s=settings.emit_interval_s))
        self.step = settings.step_s

    async def start(self) -> None:
        """Starts the thread in the model's place."""
        kv_cache = KVCache([(1, 1, torch.device("cpu"))], self.settings.max_batch_tokens, torch.float32)
        network: Any = SimpleNamespace(kv_cache=kv_cache, release=lambda: None)
        spelling = Spelling(lambda token: None if token == 0 else "\u0120" + WORDS[token - 1], frozenset())
        self.vocabulary = Vocabulary(-1, -1, frozenset([0]), Marks(-1, -1, frozenset()), spelling, ())
        self.network = network
        self.scheduler = Scheduler(
            network, self.settings, self.vocabulary.ends, VerdictTokens((), ()), no_patches, asyncio.get_running_loop()
        )
        self.scheduler.thread = Steps(self.scheduler, self.step).thread
        self.scheduler.thread.start()
        self.started = True

    async def stop(self) -> None:
        """Ends the thread."""
        self.started = False
        self.scheduler.stop()

    async def prepare(self, ask: Ask) -> tuple[Prompt, Constraint | None, float]:
        """A prompt of one token."""
        key = ImageKey(ask.image_digest, 1)
        return Prompt([1], np.zeros((3, 1), np.int64), (), 1, key, (), None, False), None, 0.0

    def info(self) -> EngineInfo:
        """What the gateway needs to know."""
        return EngineInfo(engine="tokens", model="tokens")


def no_patches(_: bytes, __: int) -> Any:
    """No image is looked at here."""
    raise NotImplementedError


def main() -> None:
    """Runs the service."""
    telemetry.configure("inference", telemetry.Telemetry(log_level="warning"))
    chosen = load(Settings, "inference")
    asyncio.run(serve(ServiceSettings(serving=chosen.serving, access=chosen.access), TokenEngine(chosen)))


if __name__ == "__main__":
    main()
