"""What does an exact repeat cost, and what of it does each part cost? Processor time, so that other load hardly counts.

    python -m benchmarks.exact_path [--calls 300] [--rounds 5] [--kilobytes 200] [--json OUT]

Gateway and dedup run as in production, with in-process hot tier and ledger; beside them, in the same run, a bare relay
and echo of the same message sizes (see `benchmarks.latency`). Eight callers ask at a time. In every round each part is
taken out once, right after a stretch with everything in; its cost is the median difference over rounds.

    cpu_ratio          processor time of relay and echo / gateway and dedup: the ratio of throughputs where servers are
                       bound by the processor and the client has one of its own
    part               µs per call that a process saves without that part
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
from benchmarks import switches
from benchmarks.latency import OPTIONS, make_requests, server_processes, spawn
from compose.local import System

IMAGES = 3
CALLERS = 8
MODULES = {
    "inference": "benchmarks.ready_model",
    "gateway": "benchmarks.switched_gateway",
    "dedup": "benchmarks.switched_dedup",
}
PARTS = {
    "gateway": ("log line", "metrics", "image digest", "checks of fields and text", "first look at the caller"),
    "dedup": ("log line", "metrics", "keys and roles", "decision record", "hot tier kept warm"),
}
"""What can be taken out of each process; see the modules `switched_gateway` and `switched_dedup`."""


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
    requests, switch = make_requests(arguments.kilobytes)[:IMAGES], folder / "part-out"
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(System(folder, {switches.FILE: str(switch)}, modules=MODULES))
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
        served = {name: system.children[name].process.pid for name in ("gateway", "dedup")}
        echoed = {name: each.pid for name, each in server_processes().items() if name in ("relay", "echo")}
        for stub, pids in ((hit, served), (bare, echoed)):
            await stretch(stub, requests, arguments.calls, pids)
        found: dict[str, list[dict[str, float]]] = {"hit": [], "echo": []}
        saved: dict[tuple[str, str], list[float]] = {}
        for _ in range(arguments.rounds):
            found["echo"].append(await stretch(bare, requests, arguments.calls, echoed))
            for part in dict.fromkeys([*PARTS["gateway"], *PARTS["dedup"]]):
                whole = await stretch(hit, requests, arguments.calls, served)
                found["hit"].append(whole)
                await turn(switch, part)
                without = await stretch(hit, requests, arguments.calls, served)
                await turn(switch, "")
                for name, parts in PARTS.items():
                    if part in parts:
                        saved.setdefault((name, part), []).append(whole[name] - without[name])
    return summary(found, saved, len(requests[0].image.content))


async def turn(switch: Path, part: str) -> None:
    """Takes a part out, or with "" puts it back, and waits until the services have seen it."""
    await asyncio.to_thread(switch.write_text, part, encoding="utf-8")
    await asyncio.sleep(4 * switches.LOOK_SECONDS)


def summary(
    found: dict[str, list[dict[str, float]]], saved: dict[tuple[str, str], list[float]], size: int
) -> dict[str, Any]:
    """The figures: medians, each with the range over rounds where it is small enough to matter."""
    used = {
        side: {name: round(statistics.median(each[name] for each in rows)) for name in rows[0]}
        for side, rows in found.items()
    }
    servers = {side: sum(value for name, value in row.items() if name != "client") for side, row in used.items()}
    parts: dict[str, dict[str, Any]] = {}
    for (name, part), values in saved.items():
        middle = statistics.median(values)
        parts.setdefault(name, {})[part] = {
            "microseconds": round(middle),
            "range": [round(min(values)), round(max(values))],
        }
    both = {side: servers[side] + used[side]["client"] for side in used}
    return {
        "payload_bytes": size,
        "microseconds_per_call": used,
        "cpu_ratio": round(servers["echo"] / servers["hit"], 3),
        "cpu_ratio_with_client": round(both["echo"] / both["hit"], 3),
        "parts": parts,
    }


def show(figures: dict[str, Any]) -> None:
    """Prints the figures."""
    print(f"image {figures['payload_bytes']:,} bytes; processor time in microseconds per call")
    for side, row in figures["microseconds_per_call"].items():
        print(f"  {side:6}" + ", ".join(f"{name} {value}" for name, value in row.items()))
    for name, parts in figures["parts"].items():
        for part, cost in parts.items():
            print(f"  {name:9}{part:28}{cost['microseconds']:>6}   rounds {cost['range'][0]} to {cost['range'][1]}")
    print(f"  cpu_ratio {figures['cpu_ratio']}, with the client's own {figures['cpu_ratio_with_client']}")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300, help="calls of one stretch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kilobytes", type=int, default=200, help="size of an image")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="askonce-exact-path-") as name:
        figures = asyncio.run(measure(Path(name), arguments))
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
