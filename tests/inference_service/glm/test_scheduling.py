"""What runs when: long prompts in pieces, room as it is used, judging beside answers."""

from __future__ import annotations

import asyncio
import time

import pytest

from inference_service.engine import EngineUnavailableError, Finish
from inference_service.glm import model_runner
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
