"""Choosing the next token of every row, each row by its own settings."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from inference_service.engine import Sampling


class Dice:
    """The random numbers of one answer: the same seed gives the same answer, whatever else is in the batch."""

    def __init__(self, seed: int | None) -> None:
        self.source = np.random.Generator(
            np.random.Philox(secrets.randbits(63) if seed is None else seed & (2**64 - 1))
        )

    def throw(self) -> float:
        """A number from 0 up to 1."""
        return float(self.source.random())


def penalised(logits: torch.Tensor, how: Sequence[Sampling], before: Sequence[Tokens]) -> torch.Tensor:
    """The scores after the penalties of each row, (rows, vocabulary); rows without any stay as they are.

    The repetition penalty divides positive scores of tokens in prompt or answer and multiplies negative ones (Keskar et
    al., 2019); presence and frequency penalties are taken from tokens of the answer.
    """
    rows = [row for row, each in enumerate(how) if penalties(each)]
    if not rows:
        return logits
    logits = logits.float().clone()
    for row in rows:
        each, (prompt, answer) = how[row], before[row]
        if each.repetition_penalty != 1:
            held = torch.tensor(sorted({*prompt, *answer}), device=logits.device)
            scores = logits[row, held]
            logits[row, held] = torch.where(
                scores > 0, scores / each.repetition_penalty, scores * each.repetition_penalty
            )
        if answer and (each.presence_penalty or each.frequency_penalty):
            counts = Counter(answer)
            held = torch.tensor(list(counts), device=logits.device)
            times = torch.tensor(list(counts.values()), dtype=logits.dtype, device=logits.device)
            logits[row, held] -= each.presence_penalty + each.frequency_penalty * times
    return logits


def penalties(how: Sampling) -> bool:
    """Whether a row's scores depend on its tokens so far."""
    return how.repetition_penalty != 1 or how.presence_penalty != 0 or how.frequency_penalty != 0


Tokens = tuple[Sequence[int], Sequence[int]]
"""The tokens of a prompt and of its answer so far."""


def choose(
    logits: torch.Tensor, how: Sequence[Sampling], dice: Sequence[Dice], tokens: Sequence[Tokens] = ()
) -> list[int]:
    """The next token of each row; `logits` is (rows, vocabulary).

    Temperature 0 takes the likeliest. Otherwise the tokens are sorted by probability at that temperature; of these the
    `top_k` likeliest, those with at least `min_p` of the likeliest one's probability, and of them the smallest set that
    reaches `top_p` are kept, and the row's own random number picks one by inverting the cumulative distribution.
    """
    if tokens:
        logits = penalised(logits, how, tokens)
    best: list[int] = logits.argmax(-1).tolist()
    drawn = [row for row, each in enumerate(how) if each.temperature > 0]
    if not drawn:
        return best
    on = logits.device
    heat = torch.tensor([[max(how[row].temperature, 1e-4)] for row in drawn], device=on)
    share = torch.tensor([[how[row].top_p] for row in drawn], dtype=torch.float64, device=on)
    throws = torch.tensor([[dice[row].throw()] for row in drawn], dtype=torch.float64, device=on)
    sorted_logits, order = torch.sort(logits[drawn].float() / heat, descending=True, stable=True)
    shares = sorted_logits.softmax(-1).double()
    for line, row in enumerate(drawn):
        if how[row].top_k:
            shares[line, how[row].top_k :] = 0.0
        if how[row].min_p:
            shares[line, shares[line] < how[row].min_p * shares[line, 0]] = 0.0
    shares = shares / shares.sum(-1, keepdim=True)
    before = shares.cumsum(-1) - shares
    shares = shares.masked_fill((before >= share) & (before > 0), 0.0)
    total = shares.cumsum(-1)
    places = torch.searchsorted(total, throws * total[:, -1:], right=True)
    last = (shares > 0).sum(-1, keepdim=True) - 1
    picked = order.gather(-1, torch.minimum(places, last))[:, 0].tolist()
    for row, token in zip(drawn, picked, strict=True):
        best[row] = int(token)
    return best
