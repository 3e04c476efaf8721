"""What survives: kill -9 of each process in the middle of load, and memory over many thousands of calls.

    python -m benchmarks.soak kill [--kills 3] [--json OUT]
    python -m benchmarks.soak memory [--entries 10000] [--lookups 20000] [--json OUT]

`kill` keeps asking through the gateway and, beside it, stores answers through dedup's own API, whose acknowledgements
it writes down. Dedup, inference and gateway are killed in turn and started again; so are dedup's children, which come
back by themselves: the embedded store, the question encoder, the image decoders. After each kill it measures how long
it takes until what depended on it works again. Afterwards every acknowledged answer
must be a hit, and every answer that anybody got must have been the right one: the stand-in model's answer is a function
of image and question. `memory` fills the store through the gateway and prints the resident memory of each process
before and after the fill and after each of two passes of look-ups: the second pass may not grow anything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from PIL import Image, ImageDraw

from askonce.dialing import Dialing, dial
from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2, dedup_pb2, dedup_pb2_grpc
from benchmarks.ready_model import right_answer
from compose.local import System
from gateway.validation import CANONICAL_DEFAULT

PARENT = "tenants/soak"
ASPECTS = (
    "What is the total amount?",
    "Who issued this document?",
    "On which date was it printed?",
    "How many items are listed?",
    "What colour is the frame?",
    "Is there a signature?",
    "Which currency is used?",
    "What is the postal code?",
    "发票号码是多少？",
    "地址在哪里？",
)
"""Questions that nobody could take for one another."""


SERVICES = ("dedup", "inference", "gateway")
CHILDREN = {"store": "dedup_service.store.edge.worker", "encoder": "question_encoder", "images": "images"}
"""Dedup's children, each with a word of its command line."""
BROKEN = ("DEDUP_UNAVAILABLE", "ENCODER_UNAVAILABLE")
"""Reasons of misses while dedup or its encoder is away."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image with a question."""

    content: bytes
    digest: bytes
    question: str

    @property
    def answer(self) -> str:
        """The only right answer."""
        return right_answer(self.digest, self.question)

    def request(self, mode: answer_pb2.CacheMode.ValueType = answer_pb2.CACHE_MODE_DEFAULT) -> answer_pb2.AnswerRequest:
        """The request for an answer."""
        return answer_pb2.AnswerRequest(
            parent=PARENT,
            image=content_pb2.Image(content=self.content),
            question=content_pb2.Question(text=self.question),
            cache_mode=mode,
        )


def picture(seed: int) -> bytes:
    """A small picture unlike all others: coloured blocks where chance puts them."""
    chance = random.Random(seed)
    image = Image.new("RGB", (192, 144), tuple(chance.randrange(160, 256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        left, top = chance.randrange(176), chance.randrange(128)
        corner = (left + chance.randrange(8, 64), top + chance.randrange(8, 48))
        pen.rectangle(((left, top), corner), fill=tuple(chance.randrange(256) for _ in range(3)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def items(count: int, start: int = 0) -> list[Item]:
    """Items over as many images as it takes, each asked about in every aspect."""
    made = []
    for number in range(start, start + -(-count // len(ASPECTS))):
        content = picture(number)
        digest = hashlib.sha256(content).digest()
        made += [Item(content, digest, aspect) for aspect in ASPECTS]
    return made[:count]


@dataclass
class Tally:
    """What the clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    phase: str = "calm"
    stuck: int = 0
    """Requests that had no outcome within their time."""

    def count(self, what: str) -> None:
        """Counts an outcome under the present phase."""
        self.outcomes[f"{self.phase}: {what}"] += 1


async def ask_forever(stub: Any, pool: Sequence[Item], fresh: Callable[[], Item], tally: Tally, seed: int) -> None:
    """A client: two known questions for every new one, for ever."""
    chance = random.Random(seed)
    while True:
        item = fresh() if chance.random() < 1 / 3 else chance.choice(pool)
        try:
            response = await stub.Answer(item.request(), timeout=20)
        except grpc.aio.AioRpcError as error:
            tally.count(error.code().name)
            tally.stuck += error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await asyncio.sleep(0.05)
            continue
        provenance = response.provenance
        source = "hit" if provenance.source == content_pb2.SOURCE_CACHE else "model"
        open_ = " without memory" if provenance.reason == "DEDUP_UNAVAILABLE" else ""
        tally.count(source + open_)
        tally.wrong += response.answer.text != item.answer


async def store_forever(stub: Any, fresh: Callable[[], Item], acknowledged: list[Item]) -> None:
    """Stores answers as a gateway would, and writes down what was acknowledged."""
    space = dedup_pb2.AnswerSpace(model="ready", params=default_params())
    while True:
        item = fresh()
        try:
            found = await stub.Lookup(
                dedup_pb2.LookupRequest(
                    parent=PARENT,
                    image_digest=item.digest,
                    image_content=item.content,
                    question=content_pb2.Question(text=item.question),
                    space=space,
                    cache_mode=answer_pb2.CACHE_MODE_DEFAULT,
                ),
                timeout=10,
            )
            answer = content_pb2.Answer(text=item.answer, finish_reason=content_pb2.FINISH_REASON_STOP, model="ready")
            request = dedup_pb2.RememberRequest(parent=PARENT, ticket=found.miss.ticket, answer=answer)
            if (await stub.Remember(request, timeout=10)).stored:
                acknowledged.append(item)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)


def default_params() -> content_pb2.GenerationParams:
    """The parameters that the gateway writes out for a request without any."""
    return CANONICAL_DEFAULT


async def kill(system: System, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kills each process in turn under load."""
    pool = items(40)
    numbers = itertools.count(1_000)
    spare: list[Item] = []

    def fresh() -> Item:
        if not spare:
            spare.extend(items(len(ASPECTS), next(numbers)))
        return spare.pop()

    tally, acknowledged = Tally(), list[Item]()
    channels = [grpc.aio.insecure_channel(system.gateway), dial(Dialing(system.addresses["dedup"]), shows=system.shows)]
    gateway = answer_pb2_grpc.AnswerServiceStub(channels[0])
    dedup = dedup_pb2_grpc.DedupServiceStub(channels[1])
    for item in pool:
        await gateway.Answer(item.request(), timeout=30)
    await asyncio.sleep(1.0)
    clients = [asyncio.create_task(ask_forever(gateway, pool, fresh, tally, seed)) for seed in range(6)]
    clients.append(asyncio.create_task(store_forever(dedup, fresh, acknowledged)))
    recoveries: dict[str, list[float]] = {name: [] for name in (*SERVICES, *CHILDREN)}
    for number in range(arguments.kills):
        for name in (*SERVICES, *CHILDREN):
            tally.phase = "calm"
            await asyncio.sleep(1.0 + random.Random(number).random())
            tally.phase = f"{name} down"
            begun = time.monotonic()
            if name in SERVICES:
                await system.kill(name)
                await system.launch(name)
            else:
                for process in children_of(system, CHILDREN[name]):
                    process.kill()
            await recovered(gateway, name, pool, fresh, tally)
            recoveries[name].append(time.monotonic() - begun)
            print(f"{number + 1} {name}: {recoveries[name][-1]:.1f} s", flush=True)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await asyncio.sleep(1.0)
    lost = 0
    for item in acknowledged:
        try:
            response = await gateway.Answer(item.request(answer_pb2.CACHE_MODE_ONLY_IF_CACHED), timeout=20)
            tally.wrong += response.answer.text != item.answer
        except grpc.aio.AioRpcError as error:
            lost += 1
            print("lost:", item.question, error.code().name, error.details())
    for channel in channels:
        await channel.close()
    return {
        "kills": sum(len(times) for times in recoveries.values()),
        "stuck": tally.stuck,
        "recovery_seconds": {
            name: {"median": round(statistics.median(times), 2), "worst": round(max(times), 2)}
            for name, times in recoveries.items()
        },
        "acknowledged": len(acknowledged),
        "lost": lost,
        "wrong": tally.wrong,
        "answered": sum(count for what, count in tally.outcomes.items() if "hit" in what or "model" in what),
        "outcomes": dict(sorted(tally.outcomes.items())),
    }


def children_of(system: System, mark: str) -> list[psutil.Process]:
    """Dedup's children whose command line holds a word."""
    found = []
    for process in psutil.Process(system.pid("dedup")).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if mark in process.cmdline():
                found.append(process)
    return found


async def recovered(stub: Any, name: str, pool: Sequence[Item], fresh: Callable[[], Item], tally: Tally) -> None:
    """Waits until what depended on a process works again: the model where inference was killed, a look at a new image
    or question where dedup's children were, a hit otherwise."""
    async with asyncio.timeout(120):
        while True:
            item = fresh() if name in ("inference", "images", "encoder") else random.choice(list(pool))
            if name == "encoder":  # another question about an image that is known
                known = random.choice(list(pool))
                item = Item(known.content, known.digest, f"What stands in line {random.randrange(10**9)}?")
            try:
                response = await stub.Answer(item.request(), timeout=20)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
                continue
            tally.wrong += response.answer.text != item.answer
            provenance = response.provenance
            if name == "inference" or provenance.source == content_pb2.SOURCE_CACHE:
                return
            if name in ("images", "encoder") and provenance.reason not in BROKEN:
                return
            await asyncio.sleep(0.02)


async def memory(system: System, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fills the store and looks it up again and again."""
    stock = items(arguments.entries)
    rows = {"started": resident(system)}
    async with grpc.aio.insecure_channel(system.gateway) as channel:
        stub = answer_pb2_grpc.AnswerServiceStub(channel)
        for item in items(20, 500_000):
            await stub.Answer(item.request(), timeout=30)
        rows["warm"] = resident(system)
        started = time.monotonic()
        sources = await sweep(stub, stock, len(stock), 4)
        filled = time.monotonic() - started
        await asyncio.sleep(3.0)
        rows[f"{arguments.entries:,} stored"] = resident(system)
        hits = []
        for number in (1, 2):
            found = await sweep(stub, stock, arguments.lookups, 8)
            hits.append(found["hit"] / arguments.lookups)
            await asyncio.sleep(3.0)
            rows[f"{number * arguments.lookups:,} look-ups"] = resident(system)
    return {
        "entries": arguments.entries,
        "lookups": arguments.lookups,
        "fill_seconds": round(filled, 1),
        "fill_sources": dict(sources),
        "hit_rates": hits,
        "resident_mib": rows,
    }


async def sweep(stub: Any, stock: Sequence[Item], count: int, concurrency: int) -> Counter[str]:
    """Asks `count` times through the stock; checks every answer."""
    found: Counter[str] = Counter()
    turns = iter(range(count))

    async def worker() -> None:
        for turn in turns:
            item = stock[turn % len(stock)]
            response = await stub.Answer(item.request(), timeout=60)
            found["hit" if response.provenance.source == content_pb2.SOURCE_CACHE else "model"] += 1
            found["wrong"] += response.answer.text != item.answer
            if turn % 1_000 == 999:
                print(f"  {turn + 1:,} of {count:,}", flush=True)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return found


def resident(system: System) -> dict[str, float]:
    """Resident memory of each process in MiB."""
    return {name: round(psutil.Process(system.pid(name)).memory_info().rss / 2**20, 1) for name in system.names}


async def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Starts the system and runs the part that was asked for."""
    environ = {f"ASKONCE_{each}_TELEMETRY_LOG_LEVEL": "warning" for each in ("GATEWAY", "DEDUP")}
    environ["ASKONCE_INFERENCE_DELAY"] = "0.05" if arguments.what == "kill" else "0"
    async with System(folder, environ, modules={"inference": "benchmarks.ready_model"}) as system:
        return await (kill if arguments.what == "kill" else memory)(system, arguments)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kill", "memory"))
    parser.add_argument("--kills", type=int, default=3, help="times that each process is killed")
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--lookups", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="askonce-soak-") as name:
        figures = asyncio.run(run(Path(name), arguments))
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if figures.get("lost") or figures.get("wrong"):
        raise SystemExit("answers were lost or wrong")


if __name__ == "__main__":
    main()
