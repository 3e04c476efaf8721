"""Choosing the next token of every row, each row by its own settings."""

from __future__ import annotations

import secrets
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


def choose(logits: torch.Tensor, how: Sequence[Sampling], dice: Sequence[Dice]) -> list[int]:
    """The next token of each row; `logits` is (rows, vocabulary).

    Temperature 0 takes the likeliest. Otherwise the tokens are sorted by probability at that temperature, the smallest
    set that reaches `top_p` is kept, and the row's own random number picks one by inverting the cumulative
    distribution.
    """
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
    before = shares.cumsum(-1) - shares
    shares = shares.masked_fill((before >= share) & (before > 0), 0.0)
    total = shares.cumsum(-1)
    places = torch.searchsorted(total, throws * total[:, -1:], right=True)
    last = (shares > 0).sum(-1, keepdim=True) - 1
    picked = order.gather(-1, torch.minimum(places, last))[:, 0].tolist()
    for row, token in zip(drawn, picked, strict=True):
        best[row] = int(token)
    return best
