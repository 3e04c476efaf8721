"""A fleet: two gateways, three dedup replicas and one model over Redis, PostgreSQL and Qdrant, and what it keeps.

    python -m benchmarks.fleet stream STREAM.jsonl [--qdrant PROGRAM] [--limit N] [--json OUT]
    python -m benchmarks.fleet kill [--qdrant PROGRAM] [--kills 10] [--json OUT]
    python -m benchmarks.fleet news [--qdrant PROGRAM] [--rounds 20] [--json OUT]

`stream` plays a stream of `benchmarks.make_stream` through one replica of each service and through the fleet, each
request through a gateway drawn at random, and compares the two. `kill` ends every process of the fleet without a
warning, in turn and under load; answers that were acknowledged must be hits afterwards, every answer must be a right
one, and the hits' risk must be within what the accounts allow. `news` measures how long it takes until all replicas
know of a policy, of a wrong answer, of a purge and of a verdict on two questions. Without a Qdrant program a double
stands in for it (`benchmarks.qdrant_double`), which is not killed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import itertools
import json
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from PIL import Image

from askonce import faults
from askonce.dialing import Dialing, dial
from askonce.v1 import (
    answer_pb2,
    answer_pb2_grpc,
    content_pb2,
    dedup_pb2,
    dedup_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    store_pb2,
    store_pb2_grpc,
)
from benchmarks import replay
from benchmarks.ready_model import right_answer
from benchmarks.servers import PostgresServer, QdrantDouble, QdrantServer, RedisServer
from benchmarks.soak import ASPECTS, Tally, picture
from compose.local import System
from dedup_service.ledger.database import open_database
from dedup_service.ledger.reading import Reader, Span
from dedup_service.policy.account import CREDIT, SPENT
from gateway.validation import CANONICAL_DEFAULT

GATEWAYS, DEDUPS = 2, 3
TENANT = "fleet"
PARENT = f"tenants/{TENANT}"
READY = {"inference": "benchmarks.ready_model"}
AWAY = frozenset((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED))
"""How calls end at a gateway that is being killed."""


class Fleet:
    """Everything of a fleet, started and ended together."""

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        qdrant: Path | str | None = None,
    ) -> None:
        """`qdrant` is a program, or the address of a server that runs already."""
        self.redis, self.postgres = RedisServer(), PostgresServer()
        self.qdrant: QdrantServer | QdrantDouble | None = None
        self.store = qdrant if isinstance(qdrant, str) else ""
        if not self.store:
            self.qdrant = QdrantServer(qdrant) if isinstance(qdrant, Path) else QdrantDouble()
        names = [f"gateway-{number + 1}" for number in range(GATEWAYS)]
        names += ["inference-1", *(f"dedup-{number + 1}" for number in range(DEDUPS))]
        shared = {
            "ASKONCE_DEDUP_STORE": self.store or (self.qdrant.url if self.qdrant else ""),
            "ASKONCE_DEDUP_LEDGER": self.postgres.url,
            "ASKONCE_DEDUP_REDIS": self.redis.url,
            "ASKONCE_DEDUP_TICKET_KEY": secrets.token_hex(16),
            "ASKONCE_DEDUP_WORKERS": "1",
            "ASKONCE_GATEWAY_REDIS": self.redis.url,
            "OMP_NUM_THREADS": "1",
        }
        self.system = System(home, {**shared, **(environ or {})}, names=names, modules=modules)
        self.stack = AsyncExitStack()
        self.answers: list[answer_pb2_grpc.AnswerServiceAsyncStub] = []
        self.dedups: list[dedup_pb2_grpc.DedupServiceAsyncStub] = []
        self.policies: list[policy_pb2_grpc.PolicyServiceAsyncStub] = []
        self.stores: list[store_pb2_grpc.StoreServiceAsyncStub] = []

    async def __aenter__(self) -> Self:
        try:
            servers = [self.redis, self.postgres, *([self.qdrant] if self.qdrant else [])]
            for server in servers:
                self.stack.push_async_callback(server.end)
            await asyncio.gather(*(server.__aenter__() for server in servers))
            self.stack.push_async_callback(self.system.stop)
            await self.system.start()
            for address in self.system.all("gateway"):
                channel = grpc.aio.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 500)])
                self.stack.push_async_callback(channel.close)
                self.answers.append(answer_pb2_grpc.AnswerServiceStub(channel))
            for address in self.system.all("dedup"):
                channel = dial(Dialing(address), shows=self.system.shows)
                self.stack.push_async_callback(channel.close)
                self.dedups.append(dedup_pb2_grpc.DedupServiceStub(channel))
                self.policies.append(policy_pb2_grpc.PolicyServiceStub(channel))
                self.stores.append(store_pb2_grpc.StoreServiceStub(channel))
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stack.aclose()

    @property
    def parts(self) -> list[str]:
        """Every process that may be killed."""
        return [*self.system.names, "redis", "postgres", *(["qdrant"] if isinstance(self.qdrant, QdrantServer) else [])]

    async def kill(self, part: str) -> None:
        """Ends a process without a warning and starts it again, where it was."""
        servers = {"redis": self.redis, "postgres": self.postgres, "qdrant": self.qdrant}
        if (server := servers.get(part)) is not None:
            await server.kill()
            await server.start()
        else:
            await self.system.kill(part)
            await self.system.launch(part)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and what may be answered to it."""

    content: bytes
    question: str
    right: frozenset[str]
    """The answers that the model gives to any copy of the image and any spelling of the question."""

    def request(self, mode: answer_pb2.CacheMode.ValueType = answer_pb2.CACHE_MODE_DEFAULT) -> answer_pb2.AnswerRequest:
        """The request for an answer."""
        return answer_pb2.AnswerRequest(
            parent=PARENT,
            image=content_pb2.Image(content=self.content),
            question=content_pb2.Question(text=self.question),
            cache_mode=mode,
        )

    def lookup(self, content: bool = False) -> dedup_pb2.LookupRequest:
        """The look-up that a gateway makes of it."""
        return dedup_pb2.LookupRequest(
            parent=PARENT,
            image_digest=hashlib.sha256(self.content).digest(),
            image_content=self.content if content else b"",
            question=content_pb2.Question(text=self.question),
            space=dedup_pb2.AnswerSpace(model="ready", params=CANONICAL_DEFAULT),
            cache_mode=answer_pb2.CACHE_MODE_DEFAULT,
        )


def copies(content: bytes) -> list[bytes]:
    """Files that show one picture: equal pixels in other bytes, other JPEGs, and a slightly smaller one."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    made = [content, saved(image, "PNG", compress_level=1), saved(image, "PNG", compress_level=9)]
    made += [saved(image, "JPEG", quality=quality) for quality in (90, 80)]
    return made


def saved(image: Image.Image, kind: str, **options: int) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def spellings(question: str) -> list[str]:
    """One question in characters that say the same."""
    return [question, question.rstrip("?？"), f"{question.rstrip('?？')} ?", question.upper()]


def asked(content: bytes, question: str, several: bool = True) -> list[Asked]:
    """All ways to ask one question about one picture; only the plain one unless `several`."""
    files = copies(content) if several else [content]
    texts = spellings(question) if several else [question]
    digests = [hashlib.sha256(file).digest() for file in files]
    right = frozenset(right_answer(digest, text) for digest in digests for text in texts)
    return [Asked(file, text, right) for file in files for text in texts]


def is_hit(response: answer_pb2.AnswerResponse) -> bool:
    """Whether an answer came from memory."""
    return response.provenance.source == content_pb2.SOURCE_CACHE


async def ask(fleet: Fleet, one: Asked, chance: random.Random, timeout: float = 60.0) -> answer_pb2.AnswerResponse:
    """Asks a gateway drawn at random, and the other one where that is away, as clients behind a balancer do."""
    stubs = chance.sample(fleet.answers, len(fleet.answers))
    until = time.monotonic() + timeout
    while True:
        for stub in stubs:
            try:
                return await stub.Answer(one.request(), timeout=max(0.1, until - time.monotonic()))
            except grpc.aio.AioRpcError as error:
                if error.code() not in AWAY or time.monotonic() >= until:
                    raise
        await asyncio.sleep(0.1)


# stream


async def play(options: argparse.Namespace) -> dict[str, Any]:
    """One replica and the fleet on one stream."""
    lines = replay.read_lines(options.stream, options.limit)
    environ = replay.environment(options)
    modules = {"inference": "benchmarks.oracle"}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="askonce-fleet-") as folder:
        figures["one"] = await replay.replay(lines, Path(folder) / "one", options)
        async with Fleet(Path(folder) / "fleet", environ, modules, options.qdrant) as fleet:
            figures["fleet"] = await replay.replay_through(fleet.system, fleet.postgres.url, lines, options)
    figures["saved_points_apart"] = 100 * (figures["fleet"]["saved"] - figures["one"]["saved"])
    return figures


# kill


async def client(fleet: Fleet, pool: Sequence[Asked], fresh: Callable[[], Asked], tally: Tally, seed: int) -> None:
    """Asks for ever: two known questions for every new one."""
    chance = random.Random(seed)
    while True:
        one = fresh() if chance.random() < 1 / 3 else chance.choice(pool)
        try:
            response = await ask(fleet, one, chance)
        except grpc.aio.AioRpcError as error:
            tally.count(error.code().name)
            tally.stuck += error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await asyncio.sleep(0.05)
            continue
        tally.count("hit" if is_hit(response) else "model")
        tally.wrong += response.answer.text not in one.right


async def store(fleet: Fleet, fresh: Callable[[], Asked], acknowledged: list[Asked], seed: int) -> None:
    """Stores answers through a replica of dedup drawn at random, as a gateway would; notes what was acknowledged."""
    chance = random.Random(seed)
    while True:
        one, stub = fresh(), chance.choice(fleet.dedups)
        try:
            found = await stub.Lookup(one.lookup(content=True), timeout=10)
            text = right_answer(hashlib.sha256(one.content).digest(), one.question)
            answer = content_pb2.Answer(text=text, finish_reason=content_pb2.FINISH_REASON_STOP, model="ready")
            request = dedup_pb2.RememberRequest(parent=PARENT, ticket=found.miss.ticket, answer=answer)
            if (await chance.choice(fleet.dedups).Remember(request, timeout=10)).stored:
                acknowledged.append(one)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)


@dataclass
class Kills:
    """What a study of kills found."""

    tally: Tally = field(default_factory=Tally)
    acknowledged: list[Asked] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    lost: int = 0


async def kill_each(
    fleet: Fleet, parts: Sequence[str], kills: int, clients: int = 4, calm: float = 0.5, seconds: float = float("inf")
) -> Kills:
    """Kills each part so often under load, in rounds, and sees that it works again; begins no round after so many
    seconds."""
    ends = time.monotonic() + seconds
    found = Kills()
    numbers = itertools.count(10_000)
    spare: list[Asked] = []

    def fresh() -> Asked:
        if not spare:
            content = picture(next(numbers))
            spare.extend(one for aspect in ASPECTS for one in asked(content, aspect, several=False))
        return spare.pop()

    chance = random.Random(5)
    pool = [one for number in range(4) for aspect in ASPECTS[:3] for one in asked(picture(number), aspect)]
    await asyncio.gather(*(ask(fleet, one, chance) for one in pool[:: len(pool) // 12]))
    workers = [asyncio.create_task(client(fleet, pool, fresh, found.tally, seed)) for seed in range(clients)]
    workers.append(asyncio.create_task(store(fleet, fresh, found.acknowledged, 99)))
    try:
        for number in range(kills):
            if time.monotonic() > ends:
                break
            for part in parts:
                found.tally.phase = "calm"
                stored = len(found.acknowledged)
                await asyncio.sleep(calm * (1 + chance.random()))
                await until(lambda: len(found.acknowledged) > stored)  # noqa: B023
                found.tally.phase = f"{part} down"
                begun = time.monotonic()
                await fleet.kill(part)
                await recovered(fleet, fresh, pool, chance, found)
                found.recoveries.setdefault(part, []).append(time.monotonic() - begun)
                print(f"{number + 1} {part}: {found.recoveries[part][-1]:.1f} s", flush=True)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    for one in found.acknowledged:
        found.lost += not await is_stored(fleet, one, chance)
    return found


async def until(condition: Callable[[], bool], limit: float = 60.0) -> None:
    """Waits for a condition. Raises TimeoutError."""
    async with asyncio.timeout(limit):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def recovered(
    fleet: Fleet, fresh: Callable[[], Asked], pool: Sequence[Asked], chance: random.Random, found: Kills
) -> None:
    """Waits until every gateway answers a new question with memory at hand, and every dedup a known one."""
    async with asyncio.timeout(120):
        for stub in fleet.answers:
            while True:
                one = fresh()
                with suppress(grpc.aio.AioRpcError):
                    response = await stub.Answer(one.request(), timeout=20)
                    found.tally.wrong += response.answer.text not in one.right
                    if response.provenance.reason != "DEDUP_UNAVAILABLE":
                        break
                await asyncio.sleep(0.05)
        for dedup in fleet.dedups:
            while True:
                with suppress(grpc.aio.AioRpcError):
                    await dedup.Lookup(chance.choice(pool).lookup(), timeout=10)
                    break
                await asyncio.sleep(0.05)


async def is_stored(fleet: Fleet, one: Asked, chance: random.Random) -> bool:
    """Whether memory still has an acknowledged answer."""
    for _ in range(50):
        try:
            response = await chance.choice(fleet.answers).Answer(
                one.request(answer_pb2.CACHE_MODE_ONLY_IF_CACHED), timeout=20
            )
        except grpc.aio.AioRpcError as error:
            if faults.reason_of(error) == "NOT_CACHED":
                return False
            await asyncio.sleep(0.1)
            continue
        return response.answer.text in one.right
    return False


def overdrawn(ledger: str, tenant: str = TENANT) -> dict[str, float]:
    """What the recorded hits of a tenant cost beyond what the account allows for them; never above zero."""
    engine = open_database(ledger)
    recorded = Reader(engine).recorded(Span(tenant=tenant))
    engine.dispose()
    costs = [float(risk) for risk, hit in zip(recorded.risk, recorded.hit, strict=True) if hit]
    earned = SPENT * 0.01 * len(costs) + CREDIT
    return {"hits": len(costs), "cost": sum(costs), "allowed": earned, "over": max(0.0, sum(costs) - earned)}


async def kill(options: argparse.Namespace) -> dict[str, Any]:
    """The study of kills."""
    with tempfile.TemporaryDirectory(prefix="askonce-fleet-") as folder:
        async with Fleet(Path(folder), {"ASKONCE_INFERENCE_DELAY": "0.05"}, READY, options.qdrant) as fleet:
            found = await kill_each(fleet, fleet.parts, options.kills, seconds=options.seconds)
            await asyncio.sleep(2.0)
            account = await asyncio.to_thread(overdrawn, fleet.postgres.url)
    outcomes = found.tally.outcomes
    return {
        "kills": {part: len(times) for part, times in found.recoveries.items()},
        "recovery_seconds": {
            part: {"median": round(statistics.median(times), 2), "worst": round(max(times), 2)}
            for part, times in found.recoveries.items()
        },
        "answered": sum(count for what, count in outcomes.items() if what.endswith((" hit", " model"))),
        "stuck": found.tally.stuck,
        "acknowledged": len(found.acknowledged),
        "lost": found.lost,
        "wrong": found.tally.wrong,
        "account": account,
        "outcomes": dict(sorted(outcomes.items())),
    }


# news


@dataclass(frozen=True, slots=True)
class News:
    """How one piece of news travelled, in seconds."""

    call: float
    """What the call took that told it."""
    last_old: float
    """From the call's beginning to that of the last look-up, at any replica, which did not know of it."""

    @property
    def after(self) -> float:
        """The same, from the call's end: 0 when no look-up that began later did not know."""
        return max(0.0, self.last_old - self.call)


Told = Callable[[int], Awaitable[bool]]
"""Whether the replica of this number has been told."""


async def spread(fleet: Fleet, tell: Callable[[], Awaitable[Any]], *told: Told, limit: float = 30.0) -> list[News]:
    """Tells one replica and asks all of them all the while, until each has said three times that it knows; one piece of
    news for every way to ask. Raises TimeoutError."""

    async def watch(number: int, asks: Told) -> float:
        last, knows = begun, 0
        while knows < 3:
            sent = time.monotonic()
            if await asks(number):
                knows += 1
            else:
                last, knows = sent, 0
            await asyncio.sleep(0.002)
        return last - begun

    begun = time.monotonic()
    async with asyncio.timeout(limit):
        watches = [asyncio.gather(*(watch(number, asks) for number in range(len(fleet.dedups)))) for asks in told]
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await tell()
        call = time.monotonic() - begun
        return [News(call, max(0.0, *(await each))) for each in watches]


async def settled(fleet: Fleet, one: Asked) -> content_pb2.Provenance:
    """Asks until the answer comes from memory, and from every replica of dedup; returns where it came from."""
    chance = random.Random(1)
    async with asyncio.timeout(60):
        while True:
            response = await ask(fleet, one, chance)
            if is_hit(response) and all([await hit(fleet, number, one) for number in range(len(fleet.dedups))]):
                return response.provenance
            await asyncio.sleep(0.02)


async def hit(fleet: Fleet, number: int, one: Asked) -> str:
    """The entry that one replica of dedup serves; empty for none."""
    return (await fleet.dedups[number].Lookup(one.lookup(content=True), timeout=20)).hit.entry


async def policy_news(fleet: Fleet, turn: int) -> News:
    """A policy that one replica was told of is applied by all."""
    policy = policy_pb2.Policy(name=f"{PARENT}/policy", answers_per_image=10 + turn)
    request = dedup_pb2.GetDedupInfoRequest(parent=PARENT)
    before = (await fleet.dedups[0].GetDedupInfo(request, timeout=10)).policy_revision

    async def told(number: int) -> bool:
        return (await fleet.dedups[number].GetDedupInfo(request, timeout=10)).policy_revision != before

    def tell() -> Awaitable[Any]:
        return fleet.policies[turn % DEDUPS].UpdatePolicy(policy_pb2.UpdatePolicyRequest(policy=policy), timeout=10)

    return (await spread(fleet, tell, told))[0]


async def wrong_news(fleet: Fleet, turn: int) -> list[News]:
    """An answer that a client found wrong is served by no replica, neither to an exact repeat nor to a copy."""
    repeat, *others = asked(picture(50_000 + turn), ASPECTS[turn % len(ASPECTS)])
    served = await settled(fleet, repeat)
    await settled(fleet, others[-1])
    request = answer_pb2.SubmitFeedbackRequest(decision=served.decision, verdict=answer_pb2.VERDICT_WRONG)

    async def repeat_gone(number: int) -> bool:
        return await hit(fleet, number, repeat) != served.entry

    async def copy_gone(number: int) -> bool:
        return await hit(fleet, number, others[-1]) != served.entry

    def tell() -> Awaitable[Any]:
        return fleet.answers[turn % GATEWAYS].SubmitFeedback(request, timeout=20)

    return await spread(fleet, tell, repeat_gone, copy_gone)


async def purge_news(fleet: Fleet, turn: int) -> News:
    """The answers about a purged image are served by no replica."""
    one = asked(picture(60_000 + turn), ASPECTS[turn % len(ASPECTS)])[0]
    served = await settled(fleet, one)
    request = store_pb2.PurgeRequest(parent=PARENT, image_digest=hashlib.sha256(one.content).digest())

    async def gone(number: int) -> bool:
        return await hit(fleet, number, one) != served.entry

    return (await spread(fleet, lambda: fleet.stores[turn % DEDUPS].Purge(request, timeout=20), gone))[0]


async def verdict_news(fleet: Fleet, turn: int) -> News:
    """After verdicts that two questions ask the same, all replicas serve the one's answer to the other."""
    known, new = f"Which stamp has number {turn}?", f"What is the stamp of number {turn} called?"
    stored = asked(picture(70_000 + turn), known, several=False)[0]
    wanted = asked(stored.content, new, several=False)[0]
    await settled(fleet, stored)
    pair = dedup_pb2.JudgedPair(left=new, right=known, same_probability=0.9999, model="judge")

    async def tell() -> None:
        for _ in range(3):
            await fleet.dedups[turn % DEDUPS].Learn(dedup_pb2.LearnRequest(parent=PARENT, judged=pair), timeout=10)

    async def served(number: int) -> bool:
        return bool(await hit(fleet, number, wanted))

    return (await spread(fleet, tell, served))[0]


async def news(options: argparse.Namespace) -> dict[str, Any]:
    """The study of how fast news travels."""
    found: dict[str, list[News]] = {}
    with tempfile.TemporaryDirectory(prefix="askonce-fleet-") as folder:
        async with Fleet(Path(folder), None, READY, options.qdrant) as fleet:
            for turn in range(options.rounds):
                found.setdefault("policy", []).append(await policy_news(fleet, turn))
                repeat, copy = await wrong_news(fleet, turn)
                found.setdefault("wrong, exact repeat", []).append(repeat)
                found.setdefault("wrong, copy", []).append(copy)
                found.setdefault("purge", []).append(await purge_news(fleet, turn))
                found.setdefault("verdict on two questions", []).append(await verdict_news(fleet, turn))
    return {what: table(all_of_it) for what, all_of_it in found.items()}


def table(all_of_it: Sequence[News]) -> dict[str, float]:
    """Medians and worst cases, in milliseconds."""
    columns = {
        "call": [each.call for each in all_of_it],
        "from_the_call": [each.last_old for each in all_of_it],
        "after_its_end": [each.after for each in all_of_it],
    }
    shown: dict[str, float] = {"rounds": len(all_of_it)}
    for name, seconds in columns.items():
        shown[f"{name}_median_ms"] = round(1e3 * statistics.median(seconds), 1)
        shown[f"{name}_worst_ms"] = round(1e3 * max(seconds), 1)
    return shown


STUDIES: Mapping[str, Callable[[argparse.Namespace], Coroutine[Any, Any, dict[str, Any]]]] = {
    "stream": play,
    "kill": kill,
    "news": news,
}


def main() -> None:
    """Runs a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("stream", type=Path, nargs="?")
    parser.add_argument("--qdrant", type=Path, help="a Qdrant program")
    parser.add_argument("--kills", type=int, default=10, help="times that each process is killed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no round of kills after so long")
    parser.add_argument("--rounds", type=int, default=20, help="pieces of news of each kind")
    parser.add_argument("--limit", type=int, help="only the first so many requests")
    parser.add_argument("--concurrency", type=int, default=4, help="requests under way at once")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if options.study == "stream" and options.stream is None:
        parser.error("stream: name the file")
    for name, value in {
        "judge": 0.0, "inline": False, "budget": 0.01, "exploration": 0.01, "mode": "verified",
        "image_threshold": None, "question_threshold": None,
    }.items():  # fmt: skip
        setattr(options, name, value)
    found = asyncio.run(STUDIES[options.study](options))
    shown = json.dumps(found, indent=2, ensure_ascii=False)
    if options.json:
        options.json.write_text(shown + "\n", encoding="utf-8")
    print(shown)


if __name__ == "__main__":
    main()
