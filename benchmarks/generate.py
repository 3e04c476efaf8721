"""How fast the GLM engine answers, beside the naive loop and the memory bandwidth that bounds decoding.

    python -m benchmarks.generate --model PATH [--device cuda|cpu]
    python -m benchmarks.generate --random-full --device cuda

`--random-full` makes random weights of GLM-4.6V-Flash's full size on the device, so that nothing is downloaded; speed
does not depend on their values. Rows: the naive loop (one request at a time through `generate`, every image encoded
anew), our engine at each concurrency on images of their own, and follow-up questions on one image. Answers never end
early, so that every row does the same work.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import io
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from inference_service.engine import Ask, Completed, Sampling
from inference_service.glm.engine import GlmEngine, GlmSettings
from inference_service.glm.loading import DTYPES, Loaded, load
from inference_service.glm.network import Network

library: Any = transformers

QUESTION = "What is the total amount on this document, and who issued it?"

FULL_TEXT = {
    "vocab_size": 151_552,
    "hidden_size": 4_096,
    "intermediate_size": 13_696,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "attention_bias": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 500_000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [8, 12, 12],
    },
}
"""The published shape of GLM-4.6V-Flash's text model."""

FULL_VISION = {
    "depth": 24,
    "hidden_size": 1_536,
    "num_heads": 12,
    "image_size": 336,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 4_096,
    "intermediate_size": 13_696,
}
"""The published shape of its vision tower."""


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    requests: int
    seconds: float
    tokens: int
    first_p50: float
    first_p95: float
    memory: int
    """The most bytes allocated on the device."""


def photo(seed: int, width: int, height: int) -> bytes:
    """A JPEG with some structure, another for every seed."""
    chance = np.random.default_rng(seed)
    small = chance.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def asking(image: bytes, tokens: int, question: str = QUESTION) -> Ask:
    """A greedy request."""
    return Ask("benchmark", image, sha256(image).digest(), question, sampling=Sampling(max_tokens=tokens))


def random_full(processor_from: str, device: str, dtype: str, layers: int | None) -> Loaded:
    """Random weights of the full size, made on the device; the processor is another checkpoint's.

    `layers` takes fewer layers, for a trial on a small machine.
    """
    processor = library.AutoProcessor.from_pretrained(processor_from)
    ids = processor.tokenizer.convert_tokens_to_ids
    ends = [ids(token) for token in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    text = FULL_TEXT | {"eos_token_id": ends, "pad_token_id": ends[0]}
    vision = dict(FULL_VISION)
    if layers is not None:
        text["num_hidden_layers"] = vision["depth"] = layers
    config = library.Glm4vConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"),
        image_end_token_id=ids("<|end_of_image|>"),
        tie_word_embeddings=False,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        with torch.device(device):
            model = library.Glm4vForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    finally:
        torch.set_default_dtype(before)
    model.generation_config = library.GenerationConfig(eos_token_id=ends, pad_token_id=ends[0])
    return Loaded(model.eval(), processor, "random")


def memory(device: str) -> int:
    """The most bytes allocated on the device since the last reset; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0


def forget(device: str) -> None:
    """Starts counting memory anew."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)]


def naive_loop(loaded: Loaded, asks: Sequence[Ask], device: str) -> Row:
    """One request at a time through `generate`, as the documentation shows."""
    from transformers.generation.streamers import BaseStreamer

    class First(BaseStreamer):
        def __init__(self) -> None:
            self.calls: list[float] = []

        def put(self, value: object) -> None:
            self.calls.append(time.perf_counter())

        def end(self) -> None:
            return None

    forget(device)
    firsts, tokens = [], 0
    begin = time.perf_counter()
    for ask in asks:
        start = time.perf_counter()
        picture = Image.open(io.BytesIO(ask.image)).convert("RGB")
        content = [{"type": "image", "image": picture}, {"type": "text", "text": ask.question}]
        inputs = loaded.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            enable_thinking=False,
        ).to(loaded.model.device)
        streamer = First()
        count = ask.sampling.max_tokens
        made = loaded.model.generate(
            **inputs, max_new_tokens=count, min_new_tokens=count, do_sample=False, streamer=streamer
        )
        tokens += made.shape[1] - inputs["input_ids"].shape[1]
        firsts.append(streamer.calls[1] - start)  # the first call hands over the prompt
    return Row("naive loop", len(asks), time.perf_counter() - begin, tokens, *quantiles(firsts), memory(device))


async def one(engine: GlmEngine, ask: Ask) -> tuple[float, int]:
    """Runs a request; returns the time to its first token and its tokens."""
    begin, first, tokens = time.perf_counter(), 0.0, 0
    async for item in engine.generate(ask):
        if isinstance(item, Completed):
            tokens = item.usage.output_tokens
            times = item.times
            first = first or sum(each or 0.0 for each in (times.queue, times.preprocess, times.vision, times.prefill))
        else:
            first = first or time.perf_counter() - begin
    return first, tokens


async def engine_row(engine: GlmEngine, name: str, asks: Sequence[Ask], concurrency: int, device: str) -> Row:
    """All requests through the engine, so many at once."""
    forget(device)
    places = asyncio.Semaphore(concurrency)

    async def run(ask: Ask) -> tuple[float, int]:
        async with places:
            return await one(engine, ask)

    begin = time.perf_counter()
    found = await asyncio.gather(*(run(ask) for ask in asks))
    seconds = time.perf_counter() - begin
    return Row(
        name,
        len(asks),
        seconds,
        sum(tokens for _, tokens in found),
        *quantiles([first for first, _ in found]),
        memory(device),
    )


async def standstill(engine: GlmEngine, running: Ask, coming: Ask) -> dict[str, float]:
    """How long an answer's next token waits while a new prompt is taken in: the longest gap, in its usual steps.

    The first twenty gaps, without a newcomer, say what is usual.
    """
    times: list[float] = []
    tail = asyncio.Event()

    async def watch() -> None:
        async for item in engine.generate(running):
            if not isinstance(item, Completed):
                times.append(time.perf_counter())
            if len(times) == 20:
                tail.set()

    scheduler = engine.scheduler
    scheduler.settings = replace(engine.settings, emit_interval_s=0.0)  # each token by itself
    try:
        watching = asyncio.create_task(watch())
        await tail.wait()
        await one(engine, coming)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        scheduler.settings = engine.settings
    gaps = [after - before for before, after in pairwise(times)]
    usual = statistics.median(gaps[:20])
    return {"longest_ms": 1e3 * max(gaps), "step_ms": 1e3 * usual, "longest_steps": max(gaps) / usual}


def bandwidth(device: str) -> float:
    """Bytes per second that the device reads: a reduction over 2 GiB (256 MiB on a CPU), the best of 5."""
    size = (2 << 30) if device.startswith("cuda") else (256 << 20)
    data = torch.ones(size // 2, dtype=torch.bfloat16, device=device).view(torch.int16)
    target = torch.empty_like(data)
    best = 0.0
    for _ in range(6):
        settle(device)
        begin = time.perf_counter()
        target.copy_(data)
        settle(device)
        best = max(best, 2 * size / (time.perf_counter() - begin))  # read once, written once
    return best


def settle(device: str) -> None:
    """Waits for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def step_bytes(network: Network, rows: int, length: int) -> int:
    """Bytes that one decoding step must read: every weight of the text model and the keys and values of every row.

    The embedding is a look-up and is left out; quantised weights count as they are stored.
    """
    modules = (network.text.layers, network.text.norm, network.model.lm_head)
    weights: int = sum(each.numel() * each.element_size() for module in modules for each in module.parameters())
    kept: int = rows * length * network.kv_bytes
    return weights + kept


def step_seconds(network: Network, rows: int, length: int, device: str, times: int = 20) -> float:
    """The median time of a decoding step for rows of this length, on an idle engine."""
    network.kv_cache.reshape(max(length + times + 2, 64), [], rows)
    taken = []
    for number in range(times):
        settle(device)
        begin = time.perf_counter()
        logits = network.step(0, [5] * rows, [length + number] * rows, [length + number] * rows)
        logits.argmax(-1).tolist()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[3:])


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    base = rows[0].requests / rows[0].seconds
    lines = [f"{'':32}{'req/s':>9}{'x naive':>9}{'tok/s':>9}{'TTFT p50':>11}{'TTFT p95':>11}{'memory':>11}"]
    for row in rows:
        rate = row.requests / row.seconds
        lines.append(
            f"{row.name:32}{rate:9.2f}{rate / base:9.2f}{row.tokens / row.seconds:9.1f}"
            f"{1e3 * row.first_p50:8.0f} ms{1e3 * row.first_p95:8.0f} ms{row.memory / (1 << 30):7.1f} GiB"
        )
    return "\n".join(lines)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs every row; returns the figures."""
    device, tokens = options.device, options.tokens
    width, height = options.width, options.height
    settings = GlmSettings(
        model=options.model or "random-full",
        dtype=options.dtype,
        device_map=device,
        max_batch_rows=max(16, *options.concurrency),
        max_batch_tokens=options.kv_tokens,
        prefix_cache_bytes=options.prefix_bytes,
        feature_cache_bytes=options.prefix_bytes // 4,
        preprocess_threads=options.threads,
        stuck_after_s=600.0,
        warm_up=True,
    )

    with tempfile.TemporaryDirectory() as scratch:
        processor_from = options.processor or options.model
        if options.random_full and not processor_from:
            from tests.inference_service.tiny_glm import write_tiny_glm

            processor_from = str(write_tiny_glm(Path(scratch)))

        def loader(_: GlmSettings) -> Loaded:
            if options.random_full:
                return random_full(processor_from, device, options.dtype, options.layers)
            return load(settings)

        rows: list[Row] = []
        fresh = iter(range(1_000_000))

        def asks(count: int) -> list[Ask]:
            return [asking(photo(next(fresh), width, height), tokens) for _ in range(count)]

        loaded = await asyncio.to_thread(loader, settings)
        naive_loop(loaded, asks(1), device)  # warm
        rows.append(naive_loop(loaded, asks(options.naive_requests), device))
        engine = GlmEngine(settings, lambda _: loaded)
        await engine.start()
        engine.scheduler.ends = frozenset()  # every answer runs to its last token
        try:
            for concurrency in options.concurrency:
                await engine_row(engine, "", asks(concurrency), concurrency, device)  # warm: records graphs
                count = max(options.requests, 2 * concurrency)
                rows.append(
                    await engine_row(engine, f"engine, concurrency {concurrency}", asks(count), concurrency, device)
                )
            image = photo(next(fresh), width, height)
            first: list[float] = []
            later: list[float] = []
            for _ in range(options.follow_ups):
                image = photo(next(fresh), width, height)
                first.append((await one(engine, asking(image, 2)))[0])
                later.append((await one(engine, asking(image, 2, "Who is it from?")))[0])
            many = [asking(image, tokens, f"{QUESTION} {number}") for number in range(max(options.requests, 16))]
            await engine_row(engine, "", many[: min(16, options.requests)], 16, device)
            rows.append(await engine_row(engine, "engine, follow-ups, 16", many, 16, device))
            small = replace(asking(photo(next(fresh), 112, 112), 4_000), sampling=Sampling(max_tokens=4_000))
            gap = await standstill(engine, small, asking(photo(next(fresh), width, height), 8))
            network = engine.network
            limit = []
            speed = await asyncio.to_thread(bandwidth, device)
            length = (engine.image_tokens(width, height) or 0) + 40 + tokens // 2
            for batch in options.concurrency:
                if batch * (length + 64) > options.kv_tokens:
                    continue
                took = await asyncio.to_thread(step_seconds, network, batch, length, device)
                bound = step_bytes(network, batch, length) / speed
                limit.append({"rows": batch, "step_ms": 1e3 * took, "bound_ms": 1e3 * bound, "share": bound / took})
            graphs = len(network.graphs)
        finally:
            await engine.stop()
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "model": options.model or f"random, {options.layers or 'all'} layers",
        "dtype": options.dtype,
        "image": [width, height],
        "tokens": tokens,
        "rows": [asdict(row) for row in rows],
        "follow_up": {
            "first_ms": 1e3 * statistics.median(first),
            "later_ms": 1e3 * statistics.median(later),
            "ratio": statistics.median(later) / statistics.median(first),
        },
        "standstill": gap,
        "bandwidth_gb_s": speed / 1e9,
        "decoding": limit,
        "graphs": graphs,
        "table": table(rows),
    }


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="", help="directory or hub id of a checkpoint")
    parser.add_argument("--random-full", action="store_true", help="full-size random weights, made on the device")
    parser.add_argument("--layers", type=int, help="with --random-full: this many layers only")
    parser.add_argument("--processor", default="", help="with --random-full: the checkpoint whose processor to use")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="", choices=["", *DTYPES], help="default: bfloat16 on cuda, float32 on cpu")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=960)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of every answer")
    parser.add_argument("--requests", type=int, default=32, help="requests of a row, at least twice its concurrency")
    parser.add_argument("--naive-requests", type=int, default=8)
    parser.add_argument("--follow-ups", type=int, default=8)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--kv-tokens", type=int, default=131_072)
    parser.add_argument("--prefix-bytes", type=int, default=4 << 30)
    parser.add_argument("--threads", type=int, default=max(2, min(8, (os.cpu_count() or 2) // 2)))
    parser.add_argument("--json", default="", help="write the figures to this file, too")
    options = parser.parse_args(words)
    if bool(options.model) == options.random_full:
        parser.error("name a --model or take --random-full")
    options.dtype = options.dtype or ("bfloat16" if options.device.startswith("cuda") else "float32")
    return options


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints and returns the figures."""
    options = parse(words)
    found = asyncio.run(measure(options))
    print(f"{found['device']}, {found['versions']}, {found['model']}, {found['dtype']}, {options.tokens} tokens")
    print(found["table"])
    follow = found["follow_up"]
    print(
        f"time to first token: first question {follow['first_ms']:.1f} ms, "
        f"follow-up {follow['later_ms']:.1f} ms, ratio {follow['ratio']:.2f}"
    )
    gap = found["standstill"]
    print(
        f"while a new image is taken in, a running answer waits at most {gap['longest_ms']:.0f} ms for its next token, "
        f"{gap['longest_steps']:.1f} steps of {gap['step_ms']:.1f} ms"
    )
    print(f"copy bandwidth {found['bandwidth_gb_s']:.0f} GB/s; CUDA graphs recorded: {found['graphs']}")
    for each in found["decoding"]:
        print(
            f"decoding {each['rows']:3} rows: {each['step_ms']:8.2f} ms a step, bandwidth limit "
            f"{each['bound_ms']:8.2f} ms = {100 * each['share']:.0f} %"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
