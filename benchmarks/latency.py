"""How much do the gateway and dedup cost? Exact hits against a bare two-hop echo, in the same run.

    python -m benchmarks.latency [--json OUT] [--seconds 2] [--rounds 8] [--kilobytes 200]

Four server processes, as in production: gateway and dedup on one side; on the other a relay and an echo written with
grpc.aio and nothing else, which pass the same request on as bytes and return a reply of the same size. Both are asked
by the same client with the same stubs. Rounds alternate between the two, so that whatever else the machine does hits
both; the ratios are medians over rounds. On a busy machine look at the processor time per call instead.

    throughput_ratio   calls per second, hits / echo, with 32 calls at once        wanted: at least 0.4
    p50_ratio          median latency, hits / echo, with one call at a time        wanted: at most 2.5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
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
import psutil
from PIL import Image

from askonce import serving
from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from compose.local import ROOT, System

OPTIONS = [("grpc.max_receive_message_length", 16 * 2**20), ("grpc.max_send_message_length", 16 * 2**20)]
METHOD = "/askonce.v1.AnswerService/Answer"
POPULATION = 48
"""Stored answers that the load walks through."""

SERVERS = {"hit": ("gateway", "dedup"), "echo": ("relay", "echo")}
"""The server processes of each side."""

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
        address = await spawn(stack, folder / "run" / "gateway.port", "--serve", str(folder))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OPTIONS))
        gateway = answer_pb2_grpc.AnswerServiceStub(channel)
        reply = folder / "reply.bin"
        reply.write_bytes((await warm(gateway, requests)).SerializeToString())
        echo_port, relay_port = folder / "echo.port", folder / "relay.port"
        echo = await spawn(stack, echo_port, "--bare", str(echo_port), "", str(reply))
        relay = await spawn(stack, relay_port, "--bare", str(relay_port), echo, str(reply))
        other = await stack.enter_async_context(grpc.aio.insecure_channel(relay, options=OPTIONS))
        size = reply.stat().st_size
        return await rounds(gateway, answer_pb2_grpc.AnswerServiceStub(other), requests, arguments, size)


async def spawn(stack: AsyncExitStack, port_file: Path, *arguments: str) -> str:
    """Starts one side in a process of its own, to be ended with the stack; returns its address.

    The system's logs are collected there as well, as in production: by somebody else than the client.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.latency", *arguments,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        start_new_session=True,  # as the services are: Linux shares processors out between sessions
    )  # fmt: skip
    stack.push_async_callback(process.wait)
    stack.callback(process.terminate)
    return await asyncio.to_thread(wait_for, port_file, 60.0)


async def serve_system(folder: Path) -> None:
    """Runs the three services until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with System(folder, modules={"inference": "benchmarks.ready_model"}):
        await stopping.wait()


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
    servers, spent = server_processes(), dict[tuple[str, str], float]()
    for ask in (ask_gateway, ask_echo):
        await load(ask, requests, 32, 1.0)
    for _ in range(arguments.rounds):
        for concurrency in (32, 1):
            for name, ask in (("hit", ask_gateway), ("echo", ask_echo)):
                before = {server: cpu_seconds(process) for server, process in servers.items()}
                result = await load(ask, requests, concurrency, arguments.seconds)
                found.setdefault((name, concurrency), []).append(result)
                for server, process in servers.items():
                    spent[name, server] = spent.get((name, server), 0.0) + cpu_seconds(process) - before[server]
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
        "cpu_ms_per_call": {name: cpu_table(name, found, spent) for name in SERVERS},
    }


def server_processes() -> dict[str, psutil.Process]:
    """The server processes of both sides, by name."""
    named = {"gateway": "gateway", "dedup_service": "dedup", "relay.port": "relay", "echo.port": "echo"}
    found = {}
    for process in psutil.Process().children(recursive=True):
        words = [Path(word).name for word in process.cmdline()]
        # The relay's own port file comes before the rest of its arguments, as the module does for a service.
        name = next((named[word] for word in words if word in named), None)
        if name is not None:
            found[name] = process
    return found


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def cpu_table(name: str, found: dict[tuple[str, int], list[Measure]], spent: dict[tuple[str, str], float]) -> Any:
    """Processor time per call of each server of one side, in milliseconds: it hardly depends on what else runs."""
    calls = sum(each.calls for (side, _), results in found.items() if side == name for each in results)
    return {server: round(1e3 * spent[name, server] / calls, 3) for server in SERVERS[name]}


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
    print(f"image {figures['payload_bytes']:,} bytes, reply {figures['reply_bytes']:,} bytes")
    print(f"{'':14}{'calls/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}")
    for name, row in figures["figures"].items():
        print(f"{name:14}" + "".join(f"{row[key]:>10}" for key in ("calls_per_second", "p50_ms", "p95_ms", "p99_ms")))
    for name, row in figures["cpu_ms_per_call"].items():
        print(f"{name:14}processor time per call: " + ", ".join(f"{server} {ms} ms" for server, ms in row.items()))
    for key, limit in (("throughput_ratio", "at least 0.4"), ("p50_ratio", "at most 2.5")):
        low, high = figures[f"{key}_range"]
        print(f"{key:18}{figures[key]:>7}   rounds {low} to {high}   wanted {limit}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one round of one side")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--kilobytes", type=int, default=200, help="size of an image")
    parser.add_argument("--bare", nargs=3, metavar=("PORT_FILE", "TARGET", "REPLY"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve_system(arguments.serve))
        return
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
