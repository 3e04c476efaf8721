"""What batching and reuse are for: more answers a second, and a sooner first token for follow-up questions."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from pathlib import Path

import pytest

from inference_service.engine import Ask, Completed
from inference_service.glm.engine import GlmEngine
from tests.inference_service.glm.conftest import Opening, asking, complete, picture, settings_for
from tests.inference_service.glm.naive import Naive
from tests.inference_service.tiny_glm import write_tiny_glm

pytestmark = pytest.mark.slow


async def first_token(engine: GlmEngine, ask: Ask) -> float:
    """Seconds to the end of an answer of one token."""
    begin = time.perf_counter()
    async for item in engine.generate(ask):
        assert item is not None
    return time.perf_counter() - begin


async def test_sixteen_at_once_are_three_times_the_plain_loop(opening: Opening, naive: Naive) -> None:
    """At concurrency 16 the engine answers at least 3 times as many requests a second (best of three rounds each).

    Every answer runs to its 64th token in both, on an image of its own.
    """
    ends = naive.model.generation_config.eos_token_id
    naive.model.generation_config.eos_token_id = None

    def batch(start: int, count: int) -> list[Ask]:
        return [asking("How much?", picture(start + number, 224, 168), max_tokens=64) for number in range(count)]

    try:
        async with opening() as engine:
            engine.scheduler.ends = frozenset()
            await asyncio.gather(*(complete(engine, ask) for ask in batch(100, 4)))
            plain, ours = [], []
            for turn in range(3):
                asks = batch(1_000 * (turn + 1), 16)
                begin = time.perf_counter()
                for ask in asks[:6]:
                    assert naive.answer(ask)[1] == 64
                plain.append((time.perf_counter() - begin) / 6)
                begin = time.perf_counter()
                answers = await asyncio.gather(*(complete(engine, ask) for ask in asks))
                ours.append((time.perf_counter() - begin) / 16)
                assert all(isinstance(each, Completed) and each.usage.output_tokens == 64 for each in answers)
    finally:
        naive.model.generation_config.eos_token_id = ends
    ratio = min(plain) / min(ours)
    logging.getLogger(__name__).info("plain %.2f/s, ours %.2f/s, x %.2f", 1 / min(plain), 1 / min(ours), ratio)
    assert ratio >= 3


async def test_a_follow_up_s_first_token_comes_sooner(tmp_path: Path) -> None:
    """With 1,024 image tokens a follow-up's first token takes at most 0.4 of the first question's time."""
    directory = await asyncio.to_thread(
        write_tiny_glm, tmp_path, hidden=256, layers=4, vision_layers=2, vision_hidden=128
    )
    engine = GlmEngine(settings_for(directory, prefix_cache_bytes=1 << 28, stuck_after_s=120.0))
    await engine.start()
    try:
        await first_token(engine, asking(image=picture(1, 896, 896), max_tokens=1))
        assert engine.image_tokens(896, 896) == 1_024
        first, later = [], []
        for seed in range(3):
            image = picture(10 + seed, 896, 896)
            first.append(await first_token(engine, asking("How much?", image, max_tokens=1)))
            later.append(await first_token(engine, asking("Who is it from?", image, max_tokens=1)))
    finally:
        await engine.stop()
    ratio = statistics.median(later) / statistics.median(first)
    log = logging.getLogger(__name__)
    log.info("first %.0f ms, follow-up %.0f ms", 1e3 * statistics.median(first), 1e3 * statistics.median(later))
    assert ratio <= 0.4
