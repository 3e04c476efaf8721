"""The judge: one token, both orders, a probability, and doubt where there should be."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from inference_service.engine import EngineError, ImageFile, JudgedOn
from inference_service.glm.network import Network
from inference_service.judge_prompt import Put, puts
from tests.inference_service.glm.conftest import Opening, asking, complete, picture
from tests.inference_service.glm.naive import Naive

torch = pytest.importorskip("torch")

PAIRS = [
    ("How much is it?", "What is the total?"),
    ("一共多少钱？", "总金额是多少？"),
    ("Is there a dog?", "图中有狗吗？"),
]


def asked() -> list[Put]:
    return [put for left, right in PAIRS for put in puts(left, right)]


async def test_readings_equal_a_plain_pass(opening: Opening, naive: Naive) -> None:
    """Probabilities are those of the verdict tokens after the whole prompt, without batch and without kept prefix."""
    async with opening() as engine:
        found = await engine.read(asked())
        again = await engine.read(asked())
        expected = []
        for put in asked():
            prompt = engine.judge.prompt(put)
            assert prompt.prefix > 50
            with torch.inference_mode():
                chances = naive.model(input_ids=torch.tensor([prompt.ids])).logits[0, -1].float().log_softmax(-1)
            verdicts = engine.judge.verdicts
            expected += [float(chances[list(tokens)].logsumexp(0)) for tokens in (verdicts.yes, verdicts.no)]
    for readings in (found, again):
        assert [chance for each in readings for chance in (each.yes, each.no)] == pytest.approx(expected, abs=1e-4)


async def test_a_model_that_knows_nothing_is_unsure(opening: Opening) -> None:
    """Random weights put little probability on the verdicts, which is no verdict."""
    async with opening(warm_up=True) as engine:
        assert {(each.verdict, each.same_probability) for each in await engine.compare(PAIRS)} == {("unsure", None)}


async def test_judging_beside_answers_changes_neither(opening: Opening, naive: Naive) -> None:
    """Readings use rows behind the running ones, so that both are right under concurrency."""
    asks = [asking(f"How much? {number}", max_tokens=30) for number in range(6)]
    async with opening(max_batch_rows=8, max_batch_tokens=16_384) as engine:
        alone = await engine.read(asked())
        results = await asyncio.gather(
            *(complete(engine, ask) for ask in asks), *(engine.read(asked()) for _ in range(3))
        )
    assert [each.text for each in results[:6]] == [naive.answer(ask)[0] for ask in asks]  # type: ignore[union-attr]
    for readings in results[6:]:
        assert [each.yes for each in readings] == pytest.approx([each.yes for each in alone], abs=1e-4)  # type: ignore[union-attr]


async def test_judging_ends_in_time_and_clearly(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pairs, a passed deadline, and a failing model."""
    async with opening() as engine:
        assert await engine.compare([]) == []
        with pytest.raises(EngineError) as caught:
            await engine.compare(PAIRS, time.monotonic() - 1)
        assert caught.value.reason == "DEADLINE_EXCEEDED"

        def broken(*_: object) -> None:
            raise RuntimeError("unlucky")

        monkeypatch.setattr(Network, "prefill", broken)
        with pytest.raises(EngineError) as caught:
            await engine.compare(PAIRS)
        assert caught.value.reason == "ENGINE_FAILED"
        assert engine.healthy()


async def test_readings_on_an_image_equal_a_plain_pass_and_use_what_is_kept(opening: Opening, naive: Naive) -> None:
    """With the image before each put, probabilities are the plain path's; the image is looked at once, also for
    questions about it before and after."""
    ask = asking("How much?", picture(7, 224, 168), max_tokens=4)
    on = JudgedOn(ImageFile(ask.image, ask.image_digest))
    asked = puts("How much is it?", "What is the total?", on_image=True)
    async with opening() as engine:
        runner = engine.scheduler.runner
        found = await engine.read_on(asked, on)
        looked = runner.features.state().misses
        again, answer = await asyncio.gather(engine.read_on(asked, on), complete(engine, ask))
        assert runner.features.state().misses == looked
        assert answer.usage.cached_tokens > 0
        expected = []
        for put in asked:
            chances = naive.chances(replace(ask, question=put.text(str)))
            verdicts = engine.judge.verdicts
            expected += [float(chances[list(tokens)].logsumexp(0)) for tokens in (verdicts.yes, verdicts.no)]
        assert not runner.rows
    for readings in (found, again):
        assert [chance for each in readings for chance in (each.yes, each.no)] == pytest.approx(expected, abs=1e-4)


async def test_judging_on_an_image_beside_answers_changes_neither(opening: Opening) -> None:
    """Verdicts on images share the batch with answers; one that nobody waits for leaves it."""
    asks = [asking(f"How much? {number}", picture(number, 140, 112), max_tokens=20) for number in range(4)]
    on = [JudgedOn(ImageFile(ask.image, ask.image_digest)) for ask in asks]
    pairs = [("How much is it?", "What is the total?")]
    async with opening(max_batch_rows=8) as engine:
        alone = [await engine.read_on(puts(*pairs[0], on_image=True), each) for each in on]
        texts = [(await complete(engine, ask)).text for ask in asks]
        answers, judged = await asyncio.gather(
            asyncio.gather(*(complete(engine, ask) for ask in asks)),
            asyncio.gather(*(engine.read_on(puts(*pairs[0], on_image=True), each) for each in on)),
        )
        with pytest.raises(EngineError) as caught:
            await engine.compare(pairs, time.monotonic() - 1, on[0])
        assert caught.value.reason == "DEADLINE_EXCEEDED"
        assert engine.in_flight == 0
        assert {each.verdict for each in await engine.compare(pairs, on=on[0])} == {"unsure"}  # it knows nothing
    assert [each.text for each in answers] == texts
    for found, expected in zip(judged, alone, strict=True):
        assert [each.yes for each in found] == pytest.approx([each.yes for each in expected], abs=1e-4)
