"""What does a streamed token cost in inference and in the gateway? Processor time, without the model's own.

    python -m benchmarks.events [--streams 64] [--tokens 240] [--step 0.025] [--rounds 3] [--http] [--json OUT]

Both services run as in production, in processes of their own; the model's network alone is replaced, by a thread that
chooses a word for every running answer at each step (`benchmarks.token_model`). Each round streams long and short
answers, all at once; the difference of processor time over the difference of tokens is the cost of one token, free of
what a request costs. Rounds alternate between sending each token as an event of its own (`emit_interval_s` 0) and the
default, where tokens of one answer that come within 40 ms are one event. With `--http` the answers are streamed from
the gateway's OpenAI-compatible edge instead of over gRPC.

Medians over rounds. Processor time hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import itertools
import json
import socket
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
from PIL import Image

from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from compose.local import System

SHORT = 16
"""Tokens of the short answers."""
SERVICES = ("inference", "gateway")

Stream = Callable[[int, int], Awaitable[int]]
"""Streams answer number so-and-so of so many tokens; returns how many events it came in."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One round."""

    microseconds: dict[str, float]
    """Processor time per token, by service."""
    tokens_per_event: float


async def measure(folder: Path, interval: float, chosen: argparse.Namespace, numbers: Iterator[int]) -> list[Cost]:
    """The rounds with one interval, on services of their own."""
    edge = f"127.0.0.1:{free_port()}" if chosen.http else ""
    environ = {
        "ASKONCE_INFERENCE_STEP_S": str(chosen.step),
        "ASKONCE_INFERENCE_EMIT_INTERVAL_S": str(interval),
        "ASKONCE_GATEWAY_EDGE_LISTEN": edge,
    }
    modules = {"inference": "benchmarks.token_model"}
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(
            System(folder, environ=environ, names=("inference", "gateway"), modules=modules)
        )
        processes = {name: psutil.Process(system.children[name].process.pid) for name in SERVICES}
        stream = over_http(stack, edge) if chosen.http else over_grpc(stack, system.addresses["gateway"])
        await stream(next(numbers), SHORT)  # the image is checked once
        await load(stream, chosen.streams, SHORT, numbers)
        costs = []
        for _ in range(chosen.rounds):
            spent: dict[int, dict[str, float]] = {}
            events: dict[int, int] = {}
            for tokens in (SHORT, chosen.tokens):
                before = {name: seconds(process) for name, process in processes.items()}
                events[tokens] = await load(stream, chosen.streams, tokens, numbers)
                spent[tokens] = {name: seconds(process) - before[name] for name, process in processes.items()}
            count = chosen.streams * (chosen.tokens - SHORT)
            micros = {name: 1e6 * (spent[chosen.tokens][name] - spent[SHORT][name]) / count for name in SERVICES}
            costs.append(Cost(micros, count / max(1, events[chosen.tokens] - events[SHORT])))
        return costs


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def seconds(process: psutil.Process) -> float:
    """Processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def load(stream: Stream, streams: int, tokens: int, numbers: Iterator[int]) -> int:
    """Streams answers of `tokens` tokens, all at once; returns the events of them all."""
    return sum(await asyncio.gather(*(stream(next(numbers), tokens) for _ in range(streams))))


def page() -> bytes:
    """An image; nobody looks at it."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(file, "PNG")
    return file.getvalue()


def over_grpc(stack: AsyncExitStack, address: str) -> Stream:
    """Streams from the gateway's gRPC service."""
    channel = grpc.aio.insecure_channel(address)
    stack.push_async_callback(channel.close)
    stub: answer_pb2_grpc.AnswerServiceAsyncStub = answer_pb2_grpc.AnswerServiceStub(channel)
    image = page()

    async def stream(number: int, tokens: int) -> int:
        request = answer_pb2.AnswerRequest(
            image=content_pb2.Image(content=image),
            question=content_pb2.Question(text=f"What does line {number} say?"),
            params=content_pb2.GenerationParams(max_tokens=tokens),
        )
        events = 0
        async for event in stub.StreamAnswer(answer_pb2.StreamAnswerRequest(request=request), timeout=300):
            if event.HasField("summary"):
                complete(event.summary.answer.usage.output_token_count, tokens)
            else:
                events += 1
        return events

    return stream


def over_http(stack: AsyncExitStack, address: str) -> Stream:
    """Streams from the gateway's OpenAI-compatible edge."""
    client = httpx.AsyncClient(base_url=f"http://{address}", timeout=300, trust_env=False)
    stack.push_async_callback(client.aclose)
    url = "data:image/png;base64," + base64.b64encode(page()).decode()

    async def stream(number: int, tokens: int) -> int:
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": f"What does line {number} say?"},
        ]
        body = {
            "model": "askonce",
            "messages": [{"role": "user", "content": parts}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        events, said = 0, 0
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                events += '"delta": {"content"' in line or '"delta": {"role"' in line
                if '"total_tokens"' in line:
                    said = json.loads(line.removeprefix("data: "))["usage"]["completion_tokens"]
        complete(said, tokens)
        return events

    return stream


def complete(said: int, wanted: int) -> None:
    """Raises SystemExit for an answer of another length: the figures would mean something else."""
    if said != wanted:
        raise SystemExit(f"an answer had {said} tokens instead of {wanted}")


def middle(costs: list[Cost], name: str) -> float:
    """The median cost of a token in one service."""
    return statistics.median(cost.microseconds[name] for cost in costs)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64, help="answers streamed at once")
    parser.add_argument("--tokens", type=int, default=240, help="tokens of the long answers")
    parser.add_argument("--step", type=float, default=0.025, help="seconds of one decoding step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--http", action="store_true", help="stream from the HTTP edge instead of over gRPC")
    parser.add_argument("--json", type=Path, help="write the figures there")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
    numbers = itertools.count(1)
    print(f"{'events':22} {'tokens/event':>12} " + " ".join(f"{name + ' µs/token':>20}" for name in SERVICES))
    for label, interval in (("one a token", 0.0), ("within 40 ms together", 0.04)):
        with tempfile.TemporaryDirectory(prefix="askonce-events-") as name:
            costs = asyncio.run(measure(Path(name), interval, chosen, numbers))
        figures[label] = {
            **{f"{name}_us_per_token": round(middle(costs, name), 1) for name in SERVICES},
            "tokens_per_event": round(statistics.median(cost.tokens_per_event for cost in costs), 2),
            "rounds": [cost.microseconds for cost in costs],
        }
        row = figures[label]
        shares = " ".join(f"{row[name + '_us_per_token']:>20}" for name in SERVICES)
        print(f"{label:22} {row['tokens_per_event']:>12} {shares}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
