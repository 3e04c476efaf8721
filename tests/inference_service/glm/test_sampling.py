"""Each row's next token is chosen by its own settings and its own random numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from inference_service.engine import Sampling

torch = pytest.importorskip("torch")

from inference_service.glm.sampling import Dice, choose, penalised  # noqa: E402 - only with torch


def draw(logits: list[float], how: Sampling, times: int) -> Counter[int]:
    """How often each token is chosen, in one batch."""
    rows = torch.tensor([logits]).repeat(times, 1)
    return Counter(choose(rows, [how] * times, [Dice(seed) for seed in range(times)]))


def test_temperature_zero_takes_the_likeliest() -> None:
    """Greedy rows do not throw dice."""
    dice = Dice(1)
    assert choose(torch.tensor([[0.0, 2.0, 1.0]]), [Sampling()], [dice]) == [1]
    assert dice.throw() == Dice(1).throw()


def test_tokens_are_drawn_by_their_probability() -> None:
    """Frequencies follow the softmax at the temperature (3 standard deviations)."""
    logits = [0.0, 1.0, 2.0]
    for temperature in (0.5, 1.0, 2.0):
        found = draw(logits, Sampling(temperature=temperature), 4_000)
        expected = torch.tensor(logits).div(temperature).softmax(-1).tolist()
        for token, share in enumerate(expected):
            assert abs(found[token] / 4_000 - share) < 3 * (share * (1 - share) / 4_000) ** 0.5 + 1e-9


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    """Tokens beyond the set are never drawn, and the likeliest always may be."""
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert set(draw(logits, Sampling(temperature=1.0, top_p=0.75), 500)) == {0, 1}
    assert set(draw(logits, Sampling(temperature=1.0, top_p=0.85), 500)) == {0, 1, 2}
    assert set(draw(logits, Sampling(temperature=1.0, top_p=1e-9), 100)) == {0}


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """A row draws the same alone and beside others of other settings."""
    torch.manual_seed(0)
    logits = torch.randn(6, 50)
    how = [Sampling(temperature=row / 3, top_p=0.9) for row in range(6)]
    together = choose(logits, how, [Dice(row) for row in range(6)])
    alone = [choose(logits[row : row + 1], [how[row]], [Dice(row)])[0] for row in range(6)]
    assert together == alone


def test_penalties_change_only_their_rows() -> None:
    """Tokens of prompt or answer lose by the repetition penalty, those of the answer by the others; other rows stay."""
    logits = torch.tensor([[2.0, 1.9, -1.0, 0.0]] * 3)
    how = [Sampling(), Sampling(repetition_penalty=2.0), Sampling(presence_penalty=1.0, frequency_penalty=0.5)]
    found = penalised(logits, how, [([0], [2]), ([0], [2]), ([0], [1, 1])])
    assert found[0].tolist() == pytest.approx([2.0, 1.9, -1.0, 0.0])
    assert found[1].tolist() == pytest.approx([1.0, 1.9, -2.0, 0.0])
    assert found[2].tolist() == pytest.approx([2.0, -0.1, -1.0, 0.0])


def test_top_k_and_min_p_leave_the_likeliest() -> None:
    """Tokens beyond the k likeliest, or far less likely than the likeliest, are never drawn."""
    logits = torch.tensor([[3.0, 2.9, 2.8, -5.0]] * 400)
    dice = [Dice(seed) for seed in range(400)]
    assert set(choose(logits, [Sampling(temperature=1.0, top_k=2)] * 400, dice)) == {0, 1}
    assert set(choose(logits, [Sampling(temperature=1.0, min_p=0.5)] * 400, dice)) == {0, 1, 2}
