"""The model's computations on tensors. The only module that knows how transformers lays out GLM-4.6V."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
import torch
from transformers import AttentionInterface

from inference_service.glm.kv_cache import ATTENTION, KVCache, Pass, PassView, attend

Tensor = torch.Tensor

log = structlog.get_logger("network")

MOST_GRAPHS = 24
"""Recorded steps kept; each is a shape of the batch."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens for one row."""

    embeds: Tensor
    """Shape (new tokens, hidden)."""
    positions: Tensor
    """Rotary positions (time, height, width), shape (3, new tokens)."""
    past: int
    """Places of the row already filled."""


class PatchProduct(torch.nn.Module):
    """The vision tower's first layer as a matrix product.

    It is a Conv3d whose kernel covers its whole input, one patch; as a product it takes a fifth of the time on a CPU.
    """

    def __init__(self, convolution: torch.nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, patches: Tensor) -> Tensor:
        """(patches, channels, frames, height, width) to (patches, hidden)."""
        product: Tensor = torch.nn.functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return product


class Network:
    """Runs a loaded `Glm4vForConditionalGeneration`. Every method belongs to the worker's thread except `rope`."""

    def __init__(self, model: Any, tokens: int, graphs: bool) -> None:
        AttentionInterface.register(ATTENTION, attend)
        self.model = model
        self.core = model.model
        self.text = self.core.language_model
        self.text.config._attn_implementation = ATTENTION
        embed: Any = self.core.visual.patch_embed
        if isinstance(embed.proj, torch.nn.Conv3d):
            embed.proj = PatchProduct(embed.proj)
        config = model.config.text_config
        heads = config.num_key_value_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.embedding = model.get_input_embeddings()
        self.device = self.embedding.weight.device
        self.dtype = self.text.norm.weight.dtype
        places = [(heads, size, layer.input_layernorm.weight.device) for layer in self.text.layers]
        self.kv_cache = KVCache(places, tokens, self.dtype)
        self.kv_bytes = 2 * heads * size * len(places) * self.dtype.itemsize
        """Bytes of keys and values per token."""
        self.hidden = config.hidden_size
        one_device = len({str(place[2]) for place in places} | {str(self.device)}) == 1
        self.graphs_allowed = graphs and self.device.type == "cuda" and one_device
        self.graphs: dict[tuple[int, int, int, int], Graph] = {}
        self.graph_pool: Any = torch.cuda.graph_pool_handle() if self.graphs_allowed else None

    def rope(
        self, ids: Sequence[int], images: Sequence[tuple[int, int]], grids: Sequence[tuple[int, int, int]]
    ) -> np.ndarray:
        """Rotary positions of a prompt with images at these tokens (begin, end); shape (3, tokens), int64.

        Thread-safe: `get_rope_index` reads the configuration only.
        """
        kinds = torch.zeros(1, len(ids), dtype=torch.int32)
        for begin, end in images:
            kinds[0, begin:end] = 1
        found, _ = self.core.get_rope_index(
            input_ids=torch.tensor([ids]), mm_token_type_ids=kinds, image_grid_thw=torch.tensor(list(grids))
        )
        positions: np.ndarray = found[:, 0].numpy()
        return positions

    @torch.inference_mode()
    def see(self, images: Sequence[tuple[Tensor, tuple[int, int, int]]]) -> list[Tensor]:
        """Vision features of images given as (patches, grid); each (image tokens, hidden)."""
        pixels = torch.cat([patches for patches, _ in images]).to(self.device)
        grids = torch.tensor([grid for _, grid in images], device=self.device)
        seen: Any = self.core.get_image_features(pixels, grids, return_dict=True)
        seen = getattr(seen, "pooler_output", seen)  # a bare tuple before transformers 5
        merge = self.core.visual.spatial_merge_size**2
        if isinstance(seen, Tensor):
            seen = torch.split(seen, [t * h * w // merge for t, h, w in (grid for _, grid in images)])
        features = [part.to(self.device, self.dtype) for part in seen]
        self.wait()
        return features

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> Tensor:
        """Embeddings of tokens, shape (tokens, hidden)."""
        embedded: Tensor = self.embedding(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embedded

    @torch.inference_mode()
    def prefill(self, first: int, chunks: Sequence[Chunk]) -> Tensor:
        """Takes new tokens into the rows from `first` on; returns logits after each row's last, (rows, vocabulary)."""
        longest, count = max(len(chunk.embeds) for chunk in chunks), len(chunks)
        embeds = torch.zeros(count, longest, self.hidden, dtype=self.dtype, device=self.device)
        positions = torch.zeros(3, count, longest, dtype=torch.long)
        bin_place = self.kv_cache.places - 1
        places = torch.full((count, longest), bin_place)
        for row, chunk in enumerate(chunks):
            size = len(chunk.embeds)
            embeds[row, :size] = chunk.embeds
            positions[:, row, :size] = chunk.positions
            places[row, :size] = torch.arange(chunk.past, chunk.past + size)
        places = places.to(self.device)
        rows = torch.arange(first, first + count, device=self.device)[:, None]
        if any(chunk.past for chunk in chunks):
            view = max(chunk.past + len(chunk.embeds) for chunk in chunks)
            pasts = torch.tensor([chunk.past for chunk in chunks], device=self.device)
            reach = pasts[:, None] + torch.arange(longest, device=self.device)
            mask = (torch.arange(view, device=self.device) <= reach[:, :, None])[:, None]
        else:  # padding is on the right, so that causal attention never sees it
            view, mask = 0, None
        hidden = self.run(embeds, positions.to(self.device), mask, Pass(first, rows, places, view))
        last = torch.tensor([len(chunk.embeds) - 1 for chunk in chunks], device=hidden.device)
        logits: Tensor = self.model.lm_head(hidden[torch.arange(count, device=hidden.device), last])
        self.wait()
        return logits

    @torch.inference_mode()
    def step(self, first: int, tokens: Sequence[int], positions: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """One token further for each row from `first` on; returns logits, (rows, vocabulary)."""
        view = max(lengths) + 1
        if self.graphs_allowed and first == 0:
            return self.recorded_step(tokens, positions, lengths, view)
        numbers = torch.tensor([tokens, positions, lengths], device=self.device)
        return self.plain_step(first, numbers, view)

    def plain_step(self, first: int, numbers: Tensor, view: int) -> Tensor:
        """A step whose inputs are on the device: `numbers` holds tokens, positions and lengths, (3, rows)."""
        tokens, positions, lengths = numbers
        count = tokens.shape[0]
        rows = torch.arange(first, first + count, device=self.device)[:, None]
        mask = (torch.arange(view, device=self.device) <= lengths[:, None])[:, None, None]
        spread = positions[None, :, None].expand(3, -1, -1)
        at = Pass(first, rows, lengths[:, None], view)
        logits: Tensor = self.model.lm_head(self.run(self.embedding(tokens[:, None]), spread, mask, at)[:, -1])
        return logits

    def recorded_step(
        self, tokens: Sequence[int], positions: Sequence[int], lengths: Sequence[int], view: int
    ) -> Tensor:
        """A step replayed from a CUDA graph of the next larger shape; records it when it is not there yet."""
        count = len(tokens)
        rows = min(1 << (count - 1).bit_length(), self.kv_cache.rows)
        view = min(-(-view // 512) * 512, self.kv_cache.places)
        key = (rows, view, self.kv_cache.rows, self.kv_cache.places)
        spare = rows - count  # idle rows write into their waste bin
        numbers = torch.tensor(
            [[*tokens, *[0] * spare], [*positions, *[0] * spare], [*lengths, *[self.kv_cache.places - 1] * spare]]
        )
        if key not in self.graphs:
            try:
                self.graphs[key] = Graph(self, numbers.to(self.device), view)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                log.warning("cuda_graphs_off", error=str(error))
                self.graphs_allowed = False
                self.graphs.clear()
                return self.plain_step(0, numbers[:, :count].to(self.device), view)
            if len(self.graphs) > MOST_GRAPHS:
                del self.graphs[next(iter(self.graphs))]
        graph = self.graphs[key] = self.graphs.pop(key)
        return graph.replay(numbers)[:count]

    def run(self, embeds: Tensor, positions: Tensor, mask: Tensor | None, at: Pass) -> Tensor:
        """The text model: (rows, new, hidden) in and out. Positions (3, rows, new) are explicit, always."""
        out = self.text(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=PassView(self.kv_cache, at),
            use_cache=True,
        )
        hidden: Tensor = out.last_hidden_state
        return hidden

    def wait(self) -> None:
        """Waits until the device has done what it was told, so that stage times are true."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def release(self) -> None:
        """Gives unused memory back to the device after caches were emptied."""
        self.graphs.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class Graph:
    """A decoding step of one shape, recorded once and replayed without launching its kernels one by one."""

    def __init__(self, network: Network, numbers: Tensor, view: int) -> None:
        self.numbers = numbers.clone()
        side: Any = torch.cuda.Stream(network.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(network.device))
        with torch.cuda.stream(side):  # libraries set themselves up outside the recording
            for _ in range(2):
                network.plain_step(0, self.numbers, view)
        torch.cuda.current_stream(network.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=network.graph_pool):  # only one runs at a time: they share memory
            self.logits = network.plain_step(0, self.numbers, view)

    def replay(self, numbers: Tensor) -> Tensor:
        """Runs the step on new tokens, positions and lengths, (3, rows)."""
        self.numbers.copy_(numbers)
        self.graph.replay()
        return self.logits
