"""A small real engine for tests: answers after a delay, or fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from inference_service.engine import (
    Ask,
    CacheState,
    Completed,
    EngineInfo,
    Finish,
    JudgedOn,
    Judgement,
    Piece,
    StageTimes,
    Usage,
)


class EchoEngine:
    """Answers "<question>!" in two pieces. Counts what runs, and what was cancelled."""

    def __init__(
        self,
        capacity: int = 1,
        delay: float = 0.0,
        error: Exception | None = None,
        judge: bool = True,
        params: frozenset[str] = frozenset(),
        images: int = 1,
    ) -> None:
        self.capacity = capacity
        self.delay = delay
        self.error = error
        self.judge = judge
        self.params = params
        self.images = images
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.asks: list[Ask] = []
        self.judged_on: list[JudgedOn | None] = []
        self.release = asyncio.Event()
        self.release.set()

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to free."""

    async def generate(self, ask: Ask) -> AsyncIterator[Piece | Completed]:
        """Two pieces and the end."""
        self.asks.append(ask)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.release.wait()
            await asyncio.sleep(self.delay)
            if self.error is not None:
                raise self.error
            yield Piece("hm", thinking=True)
            yield Piece(ask.question)
            yield Piece("!")
            times = StageTimes(queue=0.5, decode=0.25)
            yield Completed(f"{ask.question}!", Finish.STOP, Usage(3, 2, 1), times, thinking_text="hm")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def compare(
        self, pairs: Sequence[tuple[str, str]], deadline: float | None = None, on: JudgedOn | None = None
    ) -> list[Judgement]:
        """The same when the texts are equal."""
        self.judged_on.append(on)
        await asyncio.sleep(self.delay)
        return [Judgement("same", 0.9) if left == right else Judgement("different", 0.1) for left, right in pairs]

    def image_tokens(self, width: int, height: int) -> int | None:
        """A token for each 28 by 28 pixels."""
        return width // 28 * (height // 28)

    def info(self) -> EngineInfo:
        """What it is."""
        return EngineInfo(
            engine="echo",
            model="echo-1",
            revision="r2",
            dtype="text",
            max_tokens_limit=256,
            caches=(CacheState("pages", 1, 2, 3, 4, 5),),
            can_judge=self.judge,
            versions=("echo 1.0",),
            supported_params=self.params,
            max_images=self.images,
        )

    def healthy(self) -> bool:
        """Always."""
        return True
