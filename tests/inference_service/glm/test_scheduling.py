"""What runs when: long prompts in pieces, room as it is used, judging beside answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from inference_service.engine import EngineUnavailableError, Finish
from inference_service.glm import model_runner
from inference_service.glm.kv_cache import KVCache
from inference_service.glm.network import Chunk, Network
from inference_service.judge_prompt import puts
from tests.inference_service.glm.conftest import Opening, asking, complete, picture
from tests.inference_service.glm.naive import Naive

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow


async def test_a_long_prompt_does_not_hold_up_running_answers(
    opening: Opening, naive: Naive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While answers run, no call takes more new tokens than the budget, the first prompt's included, and each is
    followed by a step for the others."""
    calls: list[int] = []
    step, prefill = Network.step, Network.prefill

    def noted_step(self: Network, first: int, tokens: list[int], *rest: list[int]) -> torch.Tensor:
        calls.append(0)
        return step(self, first, tokens, *rest)

    def noted_prefill(self: Network, first: int, chunks: list[Chunk]) -> torch.Tensor:
        calls.append(sum(len(chunk.embeds) for chunk in chunks))
        return prefill(self, first, chunks)

    monkeypatch.setattr(Network, "step", noted_step)
    monkeypatch.setattr(Network, "prefill", noted_prefill)
    short = asking(image=picture(1), max_tokens=400)
    long = asking("Is there a dog? " * 60, picture(3, 400, 400), max_tokens=8)
    async with opening(max_prefill_tokens=64) as engine:
        engine.scheduler.ends = frozenset()
        running = asyncio.create_task(complete(engine, short))
        while not engine.scheduler.runner.ready:
            await asyncio.sleep(0.01)
        calls.clear()
        answer = await complete(engine, long)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    prompts = [place for place, size in enumerate(calls) if size]
    assert len(prompts) > 5
    assert max(calls) <= 64
    assert all(calls[place + 1] == 0 for place in prompts[:-1])
    assert answer.usage.output_tokens == 8


async def test_rows_reserve_what_they_use(opening: Opening, naive: Naive) -> None:
    """Answers that may become long but don't share the cache, and are the plain path's."""
    asks = [asking(f"How much? {number}", picture(number, 120, 120), max_tokens=1_500) for number in range(6)]
    async with opening(max_batch_tokens=2_048, max_batch_rows=8) as engine:
        most = 0
        tasks = [asyncio.create_task(complete(engine, ask)) for ask in asks]
        while not all(task.done() for task in tasks):
            most = max(most, len(engine.scheduler.runner.rows))
            await asyncio.sleep(0.005)
        answers = [task.result() for task in tasks]
    assert most > 1
    ended = [place for place, each in enumerate(answers) if each.finish is Finish.STOP and not each.unfit]
    assert [answers[place].text for place in ended] == [naive.answer(asks[place])[0] for place in ended]


async def test_paused_answers_come_back(opening: Opening, naive: Naive) -> None:
    """Without room for all, the newest leave and go on later from their own tokens, to the same end."""
    asks = [asking(f"What is it? {number}", picture(number, 100, 100), max_tokens=400) for number in range(5)]
    paused: list[str] = []
    async with opening(max_batch_tokens=1_024, max_batch_rows=8) as engine:
        engine.scheduler.ends = frozenset()
        pause = engine.scheduler.runner.pause
        engine.scheduler.runner.pause = lambda row: (paused.append(row.ask.question), pause(row))[1]  # type: ignore[func-returns-value]
        together = await asyncio.gather(*(complete(engine, ask) for ask in asks))
        alone = [await complete(engine, ask) for ask in asks]
    assert paused
    assert [each.text for each in together] == [each.text for each in alone]


async def test_judging_a_full_batch_waits_and_costs_nothing(opening: Opening) -> None:
    """With all rows taken the judge waits for one; kept prefixes stay and the batch is not made smaller."""
    pairs = [put for number in range(3) for put in puts(f"How much is {number}?", "What is the total?")]
    async with opening(max_batch_rows=2, max_batch_tokens=4_096) as engine:
        runner = engine.scheduler.runner
        for seed in range(4):
            await complete(engine, asking(image=picture(seed), max_tokens=2))
        engine.scheduler.ends = frozenset()
        tasks = [asyncio.create_task(complete(engine, asking(image=picture(seed), max_tokens=60))) for seed in (1, 2)]
        while len(runner.rows) < 2:
            await asyncio.sleep(0.005)
        readings = await engine.read(pairs)
        await asyncio.gather(*tasks)
        kept = runner.prefixes.state().entries
        assert len(readings) == len(pairs)
        assert kept == 4
        assert runner.step_limit == 2


async def test_a_device_that_hangs_where_it_is_waited_for_is_seen(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the chosen tokens is where a hung device blocks; health and requests notice."""
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(*_: object) -> list[int]:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        raise RuntimeError("released")

    async with opening(stuck_after_s=0.3) as engine:
        await complete(engine, asking())
        monkeypatch.setattr(model_runner, "choose", hang)
        begin = time.monotonic()
        with pytest.raises(EngineUnavailableError) as caught:
            await complete(engine, asking())
        assert caught.value.reason == "ENGINE_STUCK"
        assert time.monotonic() - begin < 10
        assert not engine.healthy()
        release.set()


async def test_a_loop_ends_with_its_own_reason(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that goes round is stopped and is no whole answer."""

    def again(logits: torch.Tensor, *_: object) -> list[int]:
        return [engine.prompter.tokens("dog")[0]] * len(logits)

    async with opening() as engine:
        engine.scheduler.ends = frozenset()
        monkeypatch.setattr(model_runner, "choose", again)
        answer = await complete(engine, asking(max_tokens=3_000))
    assert answer.finish is Finish.REPETITION
    assert answer.usage.output_tokens < 1_000


async def test_tokens_that_come_together_are_one_event(opening: Opening) -> None:
    """Within the interval tokens are sent together; the events joined are the answer all the same."""
    events: dict[float, int] = {}
    for interval in (0.0, 60.0):
        async with opening(emit_interval_s=interval) as engine:
            engine.scheduler.ends = frozenset()
            items = [item async for item in engine.generate(asking(max_tokens=40))]
        assert "".join(each.text for each in items[:-1]) == items[-1].text
        events[interval] = len(items) - 1
    assert events[60.0] <= 2 < events[0.0]


async def test_no_memory_for_another_shape_costs_no_answer(
    opening: Opening, naive: Naive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the KV cache can't be cut anew beside running answers, the caches are emptied and it is tried again; where
    that does not help, answers wait for one another. All come, and are the plain path's."""
    reshape = KVCache.reshape
    refusals: list[int] = []

    def refusing(self: KVCache, places: int, lengths: list[int], most_rows: int) -> None:
        if lengths and len(refusals) < 6:  # what is in use has to be set aside, and there is no room for it
            refusals.append(len(lengths))
            raise torch.OutOfMemoryError("pretended")
        reshape(self, places, lengths, most_rows)

    monkeypatch.setattr(KVCache, "reshape", refusing)
    sizes = (60, 60, 300, 420)
    asks = [asking(f"How much? {size}", picture(size, size, size), max_tokens=40) for size in sizes]
    before = REGISTRY.get_sample_value("askonce_engine_out_of_memory_total") or 0.0
    async with opening(max_batch_tokens=2_048, max_batch_rows=8) as engine:
        first = [asyncio.create_task(complete(engine, ask)) for ask in asks[:2]]
        while not engine.scheduler.runner.ready:  # the larger ones come beside answers that are being written
            await asyncio.sleep(0)
        answers = await asyncio.gather(*first, *(complete(engine, ask) for ask in asks[2:]))
        assert engine.healthy()
    assert len(refusals) >= 2
    assert REGISTRY.get_sample_value("askonce_engine_out_of_memory_total") == before + len(refusals)
    ended = [place for place, each in enumerate(answers) if not each.unfit]
    assert ended
    assert [answers[place].text for place in ended] == [naive.answer(asks[place])[0] for place in ended]


async def test_what_the_tower_took_is_let_go(opening: Opening) -> None:
    """Pixels go once the tower has seen them, its features once they are in the KV cache: a row that decodes holds
    neither. Batch, KV use and evictions are shown while it does."""
    async with opening(prefix_cache_bytes=60_000, feature_cache_bytes=30_000) as engine:
        engine.scheduler.ends = frozenset()
        runner = engine.scheduler.runner
        evicted = sum(REGISTRY.get_sample_value(NAME, {"cache": each}) or 0.0 for each in ("prefixes", "features"))
        asks = [asking(image=picture(seed, 280, 280), max_tokens=60) for seed in range(4)]
        tasks = [asyncio.create_task(complete(engine, ask)) for ask in asks]
        while runner.ready < 2:
            await asyncio.sleep(0.005)
        held = [(row.pixels, row.features) for row in runner.rows if row.ready]
        shown = [REGISTRY.get_sample_value(f"askonce_engine_{each}") or 0.0 for each in ("batch_rows", "kv_used_ratio")]
        await asyncio.gather(*tasks)
    assert held
    assert all(each == (None, None) for each in held)
    assert shown[0] >= 1
    assert 0 < shown[1] <= 1
    assert sum(REGISTRY.get_sample_value(NAME, {"cache": each}) or 0.0 for each in ("prefixes", "features")) > evicted


NAME = "askonce_engine_cache_evictions_total"


def test_recorded_steps_share_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of all shapes take their memory from one pool, as only one runs at a time. The device is pretended."""
    pools: list[object] = []

    @contextmanager
    def graph(_: object, pool: object = None) -> Iterator[None]:
        pools.append(pool)
        yield

    @contextmanager
    def stream(_: object) -> Iterator[None]:
        yield

    idle = SimpleNamespace(wait_stream=lambda _: None)
    for name, value in {
        "Stream": lambda _: idle, "current_stream": lambda _: idle, "stream": stream, "graph": graph,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    network = SimpleNamespace(
        device="cuda", graph_pool=object(), graphs={}, graphs_allowed=True,
        kv_cache=SimpleNamespace(rows=8, places=2_048),
        plain_step=lambda _, numbers, __: torch.zeros(numbers.shape[1], 4),
    )  # fmt: skip
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_: self)
    for rows, length in ((1, 10), (3, 10), (3, 700), (2, 10)):
        logits = Network.recorded_step(network, [1] * rows, [0] * rows, [length] * rows, length + 1)  # type: ignore[arg-type]
        assert len(logits) == rows
    assert len(pools) == 4  # 1, 4 and 2 rows, one of them with a longer view
    assert set(pools) == {network.graph_pool}
    Network.recorded_step(network, [1] * 4, [0] * 4, [20] * 4, 21)  # type: ignore[arg-type]
    assert len(pools) == 4  # four rows were recorded with three
