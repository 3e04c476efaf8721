"""The judge: one token, both orders, a probability, and doubt where there should be."""

from __future__ import annotations

import asyncio
import time

import pytest

from inference_service.engine import EngineError
from inference_service.glm.network import Network
from inference_service.judge_prompt import logistic
from tests.inference_service.glm.conftest import Opening, asking, complete
from tests.inference_service.glm.naive import Naive

torch = pytest.importorskip("torch")

PAIRS = [
    ("How much is it?", "What is the total?"),
    ("一共多少钱？", "总金额是多少？"),
    ("Is there a dog?", "图中有狗吗？"),
]


async def test_verdicts_equal_a_plain_pass(opening: Opening, naive: Naive) -> None:
    """The probability is that of the verdict tokens after the whole prompt, without batch and without kept prefix."""
    async with opening() as engine:
        judged = await engine.compare(PAIRS)
        again = await engine.compare(PAIRS)
        judge = engine.judge
        expected = []
        for left, right in PAIRS:
            odds = []
            for prompt in judge.prompts(left, right):
                assert prompt.prefix > 50
                with torch.inference_mode():
                    logits = naive.model(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
                verdicts = judge.verdicts[prompt.script]
                same, different = (logits[list(each)].logsumexp(0) for each in (verdicts.same, verdicts.different))
                odds.append(float(same - different))
            expected.append(logistic(sum(odds) / 2))
    assert [each.same_probability for each in judged] == pytest.approx(expected, abs=1e-4)
    assert [each.same_probability for each in again] == pytest.approx(expected, abs=1e-4)


async def test_the_order_of_a_pair_does_not_matter(opening: Opening) -> None:
    """Swapping the questions gives the same probability."""
    async with opening() as engine:
        forth, back = await engine.compare([PAIRS[0], PAIRS[0][::-1]])
    assert forth.same_probability == pytest.approx(back.same_probability)


async def test_judging_beside_answers_changes_neither(opening: Opening, naive: Naive) -> None:
    """VerdictTokens use rows behind the running ones, so that both are right under concurrency."""
    asks = [asking(f"How much? {number}", max_tokens=30) for number in range(6)]
    async with opening(max_batch_rows=8, max_batch_tokens=4_096) as engine:
        alone = await engine.compare(PAIRS * 4)
        results = await asyncio.gather(
            *(complete(engine, ask) for ask in asks), *(engine.compare(PAIRS * 4) for _ in range(3))
        )
    assert [each.text for each in results[:6]] == [naive.answer(ask)[0] for ask in asks]  # type: ignore[union-attr]
    for judged in results[6:]:
        found = [each.same_probability for each in judged]  # type: ignore[union-attr]
        assert found == pytest.approx([each.same_probability for each in alone], abs=1e-4)


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
