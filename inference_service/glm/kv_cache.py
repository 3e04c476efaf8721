"""The keys and values of every answer being decoded: one allocation, cut into rows.

A row holds one sequence from position 0, without padding on the left. All rows have the same number of places; the
last place of each is a waste bin that batched writes use for what must not be kept. Rows in use are always the first
ones, so that a step works on one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Pass:
    """Where one pass through the model reads and writes."""

    first: int
    """The first row."""
    rows: Tensor
    """SequenceState numbers, shape (rows, 1)."""
    places: Tensor
    """The place of each new token, shape (rows, new tokens)."""
    view: int
    """Places that attention looks at; 0 means that nothing but the new tokens is looked at."""


class KVCache:
    """The KV memory of the running batch.

    `layers` gives (KV heads, head size, device) for each layer. A layer takes 2 x tokens x heads x head size elements.
    """

    def __init__(self, layers: list[tuple[int, int, torch.device]], tokens: int, dtype: torch.dtype) -> None:
        self.layers = layers
        self.tokens = tokens
        self.keys = [torch.zeros(tokens * heads * size, dtype=dtype, device=on) for heads, size, on in layers]
        self.values = [torch.zeros(tokens * heads * size, dtype=dtype, device=on) for heads, size, on in layers]
        self.rows, self.places = 1, tokens

    @property
    def bytes(self) -> int:
        """The size of the whole KV cache."""
        return sum(each.numel() * each.element_size() for each in (*self.keys, *self.values))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """The keys and values of a layer, each of shape (rows, heads, places, head size)."""
        heads, size, _ = self.layers[index]
        shape, count = (self.rows, heads, self.places, size), self.rows * heads * self.places * size
        return self.keys[index][:count].view(shape), self.values[index][:count].view(shape)

    def reshape(self, places: int, lengths: list[int], most_rows: int) -> None:
        """Cuts the KV cache anew into rows of `places`, keeping the first `lengths[i]` places of each row in use."""
        old = (self.rows, self.places)
        rows = min(max(1, self.tokens // places), most_rows)
        used = max(lengths, default=0)
        if lengths:
            # What is kept of one layer is set aside before anything is moved: without memory for it nothing changes.
            most = max(2 * len(lengths) * heads * used * size for heads, size, _ in self.layers)
            aside = {str(on): torch.empty(most, dtype=self.keys[0].dtype, device=on) for _, _, on in self.layers}
            for index, (heads, size, on) in enumerate(self.layers):
                self.rows, self.places = old
                shape = (2, len(lengths), heads, used, size)
                kept = aside[str(on)][: 2 * len(lengths) * heads * used * size].view(shape)
                for copy, part in zip(kept, self.layer(index), strict=True):
                    copy.copy_(part[: len(lengths), :, :used])
                self.rows, self.places = rows, places
                for copy, part in zip(kept, self.layer(index), strict=True):
                    part[: len(lengths), :, :used] = copy
        self.rows, self.places = rows, places

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first places of one row to another."""
        for index in range(len(self.layers)):
            for part in self.layer(index):
                part[target, :, :length] = part[source, :, :length]

    def swap(self, one: int, other: int, lengths: tuple[int, int]) -> None:
        """Exchanges two rows, of which so many places are filled."""
        for index in range(len(self.layers)):
            for part in self.layer(index):
                kept = part[one, :, : lengths[0]].clone()
                part[one, :, : lengths[1]] = part[other, :, : lengths[1]].clone()
                part[other, :, : lengths[0]] = kept

    def save(self, row: int, length: int) -> list[Tensor]:
        """A copy of a row's first places: per layer one tensor of shape (2, heads, length, head size)."""
        return [torch.stack([part[row, :, :length] for part in self.layer(index)]) for index in range(len(self.layers))]

    def restore(self, row: int, saved: list[Tensor]) -> None:
        """Puts a saved beginning into a row."""
        for index, both in enumerate(saved):
            for part, copy in zip(self.layer(index), both, strict=True):
                part[row, :, : copy.shape[1]] = copy


class PassView:
    """What the model takes for its KV cache during one pass."""

    is_compileable = False

    def __init__(self, kv_cache: KVCache, at: Pass) -> None:
        self.kv_cache, self.at = kv_cache, at

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Stores the new keys and values, (rows, heads, new tokens, size); returns those that attention may look at."""
        at, count = self.at, keys.shape[0]
        kept = self.kv_cache.layer(layer_idx)
        rows, places = at.rows.to(keys.device), at.places.to(keys.device)
        for part, new in zip(kept, (keys, values), strict=True):
            part[rows, :, places] = new.transpose(1, 2)
        if not at.view:
            return keys, values
        last = at.first + count
        return kept[0][at.first : last, :, : at.view], kept[1][at.first : last, :, : at.view]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions are always given, so nothing depends on this."""
        return 0


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention over the KV cache; registered with transformers under the name of `ATTENTION`.

    `query` is (rows, heads, new, size), `key` and `value` (rows, KV heads, places, size). The mask has shape (rows, 1,
    new, places) and is true where to look; none means causal among the new tokens. A single new token folds the heads
    that share keys into the query's length, so that keys are read once and never repeated.
    """
    rows, heads, new, size = query.shape
    shared = heads // key.shape[1]
    if attention_mask is None:
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=shared > 1
        )
    elif new == 1:
        folded = query.reshape(rows, key.shape[1], shared, size)
        scores = (torch.matmul(folded, key.transpose(2, 3)) * scaling).float()
        weights = scores.masked_fill(~attention_mask, float("-inf")).softmax(-1).to(value.dtype)
        out = torch.matmul(weights, value).reshape(rows, heads, 1, size)
    else:
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=shared > 1
        )
    return out.transpose(1, 2).contiguous(), None


ATTENTION = "askonce_kv_cache"
