"""How much do the gateway and dedup cost? Exact hits against a bare two-hop echo, in the same run.

    python -m benchmarks.latency [--json OUT] [--seconds 4] [--rounds 5] [--kilobytes 200]

Four server processes, as in production: gateway and dedup on one side; on the other a relay and an echo written with
grpc.aio and nothing else, which pass the same request on as bytes and return a reply of the same size. Both are asked
by the same client with the same stubs. Rounds alternate between the two, so that whatever else the machine does hits
both; the ratios are medians over rounds.

    throughput_ratio   calls per second, hits / echo, with 32 calls at once        wanted: at least 0.4
    p50_ratio          median latency, hits / echo, with one call at a time        wanted: at most 2.5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from PIL import Image

from askonce import serving
from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from compose.local import ROOT, System

OPTIONS = [("grpc.max_receive_message_length", 16 * 2**20), ("grpc.max_send_message_length", 16 * 2**20)]
METHOD = "/askonce.v1.AnswerService/Answer"
POPULATION = 48
"""Stored answers that the load walks through."""

Ask = Callable[[answer_pb2.AnswerRequest], Awaitable[answer_pb2.AnswerResponse]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One round of load."""

    calls: int
    seconds: float
    latencies: tuple[float, ...]
    """Seconds of every call."""

    @property
    def throughput(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds

    def quantile(self, share: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def make_requests(kilobytes: int) -> list[answer_pb2.AnswerRequest]:
    """Requests about different images of about this size, noise that no codec shrinks."""
    chance = random.Random(7)
    made = []
    for number in range(POPULATION):
        side = max(16, int((kilobytes * 1024 / 3) ** 0.5))
        image = Image.frombytes("RGB", (side, side), chance.randbytes(3 * side * side))
        with tempfile.SpooledTemporaryFile() as file:
            image.save(file, "PNG", compress_level=0)
            file.seek(0)
            content = file.read()
        made.append(
            answer_pb2.AnswerRequest(
                image=content_pb2.Image(content=content),
                question=content_pb2.Question(text=f"What is the total on page {number}?"),
            )
        )
    return made


async def load(ask: Ask, requests: Sequence[answer_pb2.AnswerRequest], concurrency: int, seconds: float) -> Measure:
    """Keeps `concurrency` calls under way for some seconds."""
    latencies: list[float] = []
    turn = 0
    started = time.perf_counter()
    until = started + seconds

    async def worker() -> None:
        nonlocal turn
        while (begun := time.perf_counter()) < until:
            request = requests[turn % len(requests)]
            turn += 1
            await ask(request)
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return Measure(len(latencies), time.perf_counter() - started, tuple(latencies))


async def serve_bare(port_file: Path, target: str, reply: Path) -> None:
    """A relay to `target`, or without one the echo that it leads to. Bytes in, bytes out, nothing else."""
    answer = await asyncio.to_thread(reply.read_bytes)
    server = grpc.aio.server(options=OPTIONS)
    onward: Any = None
    if target:
        channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        onward = channel.unary_unary(METHOD)

    async def handle(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return answer if onward is None else await onward(request, timeout=10)

    handlers: dict[str, Any] = {"Answer": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("askonce.v1.AnswerService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(serving.write_whole, port_file, f"127.0.0.1:{port}")
    await server.wait_for_termination()


async def warm(stub: Any, requests: Sequence[answer_pb2.AnswerRequest]) -> answer_pb2.AnswerResponse:
    """Stores every answer, then checks that each is a hit."""
    for request in requests:
        await stub.Answer(request, timeout=30)
    for _ in range(100):
        answers: list[answer_pb2.AnswerResponse] = [await stub.Answer(request, timeout=30) for request in requests]
        if all(each.provenance.source == content_pb2.SOURCE_CACHE for each in answers):
            return answers[0]
        await asyncio.sleep(0.1)
    raise SystemExit("the answers were not stored: there are no hits to measure")


async def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Starts both sides, runs all rounds and returns the figures."""
    requests = make_requests(arguments.kilobytes)
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(System(folder, modules={"inference": "benchmarks.ready_model"}))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(system.gateway, options=OPTIONS))
        gateway = answer_pb2_grpc.AnswerServiceStub(channel)
        reply = folder / "reply.bin"
        reply.write_bytes((await warm(gateway, requests)).SerializeToString())
        echo = await bare(stack, folder / "echo.port", "", reply)
        relay = await bare(stack, folder / "relay.port", echo, reply)
        other = await stack.enter_async_context(grpc.aio.insecure_channel(relay, options=OPTIONS))
        size = reply.stat().st_size
        return await rounds(gateway, answer_pb2_grpc.AnswerServiceStub(other), requests, arguments, size)


async def bare(stack: AsyncExitStack, port_file: Path, target: str, reply: Path) -> str:
    """Starts a process of the bare side, to be ended with the stack; returns its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.latency", "--bare", str(port_file), target, str(reply),
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}"}, cwd=ROOT,
    )  # fmt: skip
    stack.push_async_callback(process.wait)
    stack.callback(process.kill)
    return await asyncio.to_thread(wait_for, port_file, 20.0)


def wait_for(port_file: Path, timeout: float) -> str:
    """The address that a process writes down once it listens. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while not port_file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(port_file.name)
        time.sleep(0.05)
    return port_file.read_text(encoding="utf-8")


async def rounds(
    gateway: Any, echo: Any, requests: list[answer_pb2.AnswerRequest], arguments: argparse.Namespace, reply_bytes: int
) -> dict[str, Any]:
    """Alternates between both sides."""

    async def ask_gateway(request: answer_pb2.AnswerRequest) -> answer_pb2.AnswerResponse:
        response: answer_pb2.AnswerResponse = await gateway.Answer(request, timeout=30)
        if response.provenance.source != content_pb2.SOURCE_CACHE:
            raise SystemExit("a call was no hit: the figure would measure something else")
        return response

    async def ask_echo(request: answer_pb2.AnswerRequest) -> answer_pb2.AnswerResponse:
        response: answer_pb2.AnswerResponse = await echo.Answer(request, timeout=30)
        return response

    found: dict[tuple[str, int], list[Measure]] = {}
    for ask in (ask_gateway, ask_echo):
        await load(ask, requests, 32, 1.0)
    for _ in range(arguments.rounds):
        for concurrency in (32, 1):
            for name, ask in (("hit", ask_gateway), ("echo", ask_echo)):
                result = await load(ask, requests, concurrency, arguments.seconds)
                found.setdefault((name, concurrency), []).append(result)
    throughputs = [a.throughput / b.throughput for a, b in zip(found["hit", 32], found["echo", 32], strict=True)]
    medians = [a.quantile(0.5) / b.quantile(0.5) for a, b in zip(found["hit", 1], found["echo", 1], strict=True)]
    table = {
        f"{name}@{concurrency}": {
            "calls_per_second": round(statistics.median(each.throughput for each in results), 1),
            **{
                f"p{share}_ms": round(statistics.median(each.quantile(share / 100) for each in results), 3)
                for share in (50, 95, 99)
            },
        }
        for (name, concurrency), results in found.items()
    }
    return {
        "throughput_ratio": round(statistics.median(throughputs), 3),
        "throughput_ratio_range": [round(min(throughputs), 3), round(max(throughputs), 3)],
        "p50_ratio": round(statistics.median(medians), 3),
        "p50_ratio_range": [round(min(medians), 3), round(max(medians), 3)],
        "payload_bytes": len(requests[0].image.content),
        "reply_bytes": reply_bytes,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "figures": table,
    }


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    print(f"image {figures['payload_bytes']:,} bytes, reply {figures['reply_bytes']:,} bytes")
    print(f"{'':14}{'calls/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}")
    for name, row in figures["figures"].items():
        print(f"{name:14}" + "".join(f"{row[key]:>10}" for key in ("calls_per_second", "p50_ms", "p95_ms", "p99_ms")))
    for key, limit in (("throughput_ratio", "at least 0.4"), ("p50_ratio", "at most 2.5")):
        low, high = figures[f"{key}_range"]
        print(f"{key:18}{figures[key]:>7}   rounds {low} to {high}   wanted {limit}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one round of one side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kilobytes", type=int, default=200, help="size of an image")
    parser.add_argument("--bare", nargs=3, metavar=("PORT_FILE", "TARGET", "REPLY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        asyncio.run(serve_bare(Path(arguments.bare[0]), arguments.bare[1], Path(arguments.bare[2])))
        return
    with tempfile.TemporaryDirectory(prefix="askonce-latency-") as name:
        figures = asyncio.run(measure(Path(name), arguments))
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(0)


if __name__ == "__main__":
    main()
