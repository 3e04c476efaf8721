"""What does an exact repeat cost, and what of it does each part cost? Processor time, so that other load counts little.

    python -m benchmarks.exact_path [--calls 400] [--rounds 6] [--kilobytes 200] [--plain] [--json OUT]

Gateway and dedup run as in production, with hot tier and ledger in the process; beside them, in the same run, a bare
relay and echo of the same message sizes (see `benchmarks.latency`). Eight callers ask at a time; figures are medians
over rounds.

    cpu_ratio          processor time of relay and echo / gateway and dedup: the ratio of throughputs where servers are
                       bound by the processor and the client has one of its own
    parts              microseconds a call that clocks in the services counted in our own code (`benchmarks.clocks`);
                       the rest is gRPC, asyncio and the kernel. Clocks cost something themselves: --plain leaves them
                       out
    background         microseconds that a process uses in a second in which nobody asks
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc

from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from benchmarks import clocks
from benchmarks.latency import OPTIONS, make_requests, server_processes, spawn
from compose.local import System

IMAGES = 3
CALLERS = 8
REST_SECONDS = 5.0
SETTLE_SECONDS = 1.0
PLAIN = {"inference": "benchmarks.ready_model"}
MODULES = {
    **PLAIN,
    "gateway": "benchmarks.clocked_gateway",
    "dedup": "benchmarks.clocked_dedup",
}
SERVICES = ("gateway", "dedup")


def cpu(pid: int) -> float:
    """Processor time that a process has used, in seconds (Linux: the clock of another process, clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


async def stretch(stub: Any, requests: Sequence[answer_pb2.AnswerRequest], calls: int, pids: dict[str, int]) -> Any:
    """Asks `calls` times; returns microseconds of processor time per call by process, the client's own too."""

    async def caller(number: int) -> None:
        for turn in range(calls // CALLERS):
            await stub.Answer(requests[(number + turn) % len(requests)], timeout=60)

    before, own = {name: cpu(pid) for name, pid in pids.items()}, time.process_time()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    count = calls // CALLERS * CALLERS
    used = {name: 1e6 * (cpu(pid) - before[name]) / count for name, pid in pids.items()}
    return {**used, "client": 1e6 * (time.process_time() - own) / count}


async def stored(stub: Any, requests: Sequence[answer_pb2.AnswerRequest]) -> answer_pb2.AnswerResponse:
    """Has every answer stored and waits until all are exact hits; returns one."""
    for _ in range(100):
        got = [await stub.Answer(request, timeout=60) for request in requests]
        if all(each.provenance.source == content_pb2.SOURCE_CACHE for each in got):
            first: answer_pb2.AnswerResponse = got[0]
            return first
        await asyncio.sleep(0.2)
    raise SystemExit("the answers were not stored: there are no hits to measure")


async def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Starts both sides, runs all rounds and returns the figures."""
    requests = make_requests(arguments.kilobytes)[:IMAGES]
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(
            System(folder, {clocks.FOLDER: str(folder)}, modules=PLAIN if arguments.plain else MODULES)
        )
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(system.addresses["gateway"], options=OPTIONS)
        )
        hit = answer_pb2_grpc.AnswerServiceStub(channel)
        reply = folder / "reply.bin"
        await asyncio.to_thread(reply.write_bytes, (await stored(hit, requests)).SerializeToString())
        echo_port, relay_port = folder / "echo.port", folder / "relay.port"
        echo = await spawn(stack, echo_port, "--bare", str(echo_port), "", str(reply))
        relay = await spawn(stack, relay_port, "--bare", str(relay_port), echo, str(reply))
        other = await stack.enter_async_context(grpc.aio.insecure_channel(relay, options=OPTIONS))
        bare = answer_pb2_grpc.AnswerServiceStub(other)
        served = {name: system.children[name].process.pid for name in SERVICES}
        echoed = {name: each.pid for name, each in server_processes().items() if name in ("relay", "echo")}
        resting = await rest(served)
        for stub, pids in ((hit, served), (bare, echoed)):
            await stretch(stub, requests, arguments.calls, pids)
        found: dict[str, list[dict[str, float]]] = {"hit": [], "echo": []}
        parts: list[dict[str, dict[str, float]]] = []
        for _ in range(arguments.rounds):
            found["echo"].append(await stretch(bare, requests, arguments.calls, echoed))
            before = await counted(folder)
            found["hit"].append(await stretch(hit, requests, arguments.calls, served))
            after = await counted(folder)
            count = arguments.calls // CALLERS * CALLERS
            parts.append(
                {
                    name: {part: 1e6 * (spent - before[name][part]) / count for part, spent in after[name].items()}
                    for name in SERVICES
                }
            )
    return {**summary(found, parts, len(requests[0].image.content)), "background_microseconds_per_second": resting}


async def counted(folder: Path) -> dict[str, dict[str, float]]:
    """What the clocks show, in seconds, once the ledger has written and the services have said so; nothing without."""
    await asyncio.sleep(SETTLE_SECONDS)
    if not (folder / f"{SERVICES[0]}.json").exists():
        return {name: {} for name in SERVICES}
    return {name: json.loads(await asyncio.to_thread((folder / f"{name}.json").read_text)) for name in SERVICES}


async def rest(pids: dict[str, int]) -> dict[str, int]:
    """Microseconds of processor time a second, by process, while nobody asks."""
    before, began = {name: cpu(pid) for name, pid in pids.items()}, time.monotonic()
    await asyncio.sleep(REST_SECONDS)
    spent = time.monotonic() - began
    return {name: round(1e6 * (cpu(pid) - before[name]) / spent) for name, pid in pids.items()}


def summary(
    found: dict[str, list[dict[str, float]]], parts: list[dict[str, dict[str, float]]], size: int
) -> dict[str, Any]:
    """The figures: medians over rounds."""
    used = {
        side: {name: round(statistics.median(each[name] for each in rows)) for name in rows[0]}
        for side, rows in found.items()
    }
    servers = {side: sum(value for name, value in row.items() if name != "client") for side, row in used.items()}
    table = {
        name: {part: round(statistics.median(each[name][part] for each in parts), 1) for part in parts[0][name]}
        for name in SERVICES
    }
    both = {side: servers[side] + used[side]["client"] for side in used}
    return {
        "payload_bytes": size,
        "microseconds_per_call": used,
        "cpu_ratio": round(servers["echo"] / servers["hit"], 3),
        "cpu_ratio_with_client": round(both["echo"] / both["hit"], 3),
        "parts": table,
    }


def show(figures: dict[str, Any]) -> None:
    """Prints the figures."""
    print(f"image {figures['payload_bytes']:,} bytes; processor time in microseconds per call")
    for side, row in figures["microseconds_per_call"].items():
        print(f"  {side:6}" + ", ".join(f"{name} {value}" for name, value in row.items()))
    for name, parts in figures["parts"].items():
        for part, cost in parts.items():
            print(f"  {name:9}{part:40}{cost:>8}")
    resting = figures["background_microseconds_per_second"]
    print("  background, per second: " + ", ".join(f"{name} {value}" for name, value in resting.items()))
    print(f"  cpu_ratio {figures['cpu_ratio']}, with the client's own {figures['cpu_ratio_with_client']}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400, help="calls of one stretch")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--kilobytes", type=int, default=200, help="size of an image")
    parser.add_argument("--plain", action="store_true", help="the services without clocks")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="askonce-exact-path-") as name:
        figures = asyncio.run(measure(Path(name), arguments))
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
