"""Replays a stream of requests through the real gateway and dedup service, and compares every hit with the truth.

    python -m benchmarks.replay STREAM.jsonl [--json OUT] [--judge 0.97] [--budget 0.01] [--limit N]

Lines hold image (a path beside the stream), question, answer, and optionally tenant, lang, intent. The gateway and
the dedup service run as processes of their own and are asked over gRPC; the inference service is an oracle that
returns the line's own answer (`benchmarks.oracle`). A hit is wrong when the served answer and the line's are not the
same by the answer comparison; strict equality is told beside it. "Saved" are requests that cost no generation:
verifications of hits count as generations. The estimate is what PreviewPolicy reports. Beside it, on the same stream,
what other caches would have done.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from askonce import faults, telemetry
from askonce.dialing import Dialing, dial
from askonce.v1 import (
    answer_pb2,
    answer_pb2_grpc,
    content_pb2,
    inference_pb2,
    inference_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
)
from benchmarks.baselines import BASELINES, play, prepare
from compose.local import System
from dedup_service.ledger.database import open_database
from dedup_service.ledger.reading import Reader, Span
from dedup_service.policy.preview import wrong_rate
from dedup_service.policy.risk import Interval, clopper_pearson, upper_bound
from dedup_service.question.answers import compare_answers

WINDOW = 1_000
MODES = {name.lower(): policy_pb2.ReuseMode.Value(f"REUSE_MODE_{name}") for name in ("SHADOW", "STATIC", "VERIFIED")}
DEFAULT_TENANT = "default"


@dataclass(frozen=True)
class Line:
    """One request with its right answer."""

    image: Path
    question: str
    answer: str
    tenant: str
    how: str
    """How the image was made, where the stream says so."""
    meaning: tuple[str, str] = ("", "")
    """Which image it shows and what it asks, where the stream says so."""
    lang: str = ""


@dataclass(frozen=True)
class Served:
    """What came back."""

    hit: bool
    generated: bool
    """Whether this request asked the model."""
    failed: bool
    """Whether an error came back instead of an answer."""
    reason: str
    stratum: str
    same: bool
    """Whether the answer is right by the answer comparison."""
    equal: bool
    """Whether it is the right answer to the letter."""
    seconds: float
    time: float
    """When it came back, seconds since the epoch."""


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stream", type=Path)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--judge", type=float, default=0.0, help="share of pairs that a simulated judge judges rightly")
    parser.add_argument("--inline", action="store_true", help="ask the judge before the answer, not after it")
    parser.add_argument("--budget", type=float, default=0.01, help="error budget")
    parser.add_argument("--exploration", type=float, default=0.01, help="share of hits that are verified")
    parser.add_argument("--mode", choices=sorted(MODES), default="verified")
    parser.add_argument("--image-threshold", type=float, help="the policy's, which STATIC mode goes by")
    parser.add_argument("--question-threshold", type=float, help="the policy's, which STATIC mode goes by")
    parser.add_argument("--limit", type=int, help="only the first so many requests")
    parser.add_argument("--concurrency", type=int, default=2, help="requests under way at once")
    parser.add_argument("--home", type=Path, help="folder to keep: stores, ledger, logs; must be new")
    parser.add_argument("--no-baselines", action="store_true")
    options = parser.parse_args()
    lines = read_lines(options.stream, options.limit)
    with tempfile.TemporaryDirectory(prefix="askonce-replay-") as temporary:
        home = options.home or Path(temporary)
        figures = asyncio.run(replay(lines, home, options))
    figures["baselines"] = {} if options.no_baselines else baselines(lines)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False))


def read_lines(stream: Path, limit: int | None) -> list[Line]:
    """The requests of a stream."""
    with stream.open(encoding="utf-8") as file:
        raw = [json.loads(line) for line in file if line.strip()][:limit]
    return [
        Line(
            stream.parent / each["image"],
            each["question"],
            each["answer"],
            each.get("tenant", DEFAULT_TENANT),
            each.get("how", ""),
            (each.get("source", ""), each.get("intent", "")),
            each.get("lang", ""),
        )
        for each in raw
    ]


def environment(options: argparse.Namespace) -> dict[str, str]:
    """What the services are told."""
    return {
        "ASKONCE_INFERENCE_STREAM": str(options.stream.resolve()),
        "ASKONCE_INFERENCE_JUDGE": str(options.judge),
        "ASKONCE_DEDUP_LEARN_INTERVAL": "2",
        # On a busy machine a look-up can take longer than a client would wait; here it counts what was decided.
        "ASKONCE_GATEWAY_TIMEOUTS_LOOKUP": "30",
        "ASKONCE_GATEWAY_TIMEOUTS_SEARCH": "60",
        "ASKONCE_GATEWAY_TIMEOUTS_REMEMBER": "30",
    }


async def replay(lines: Sequence[Line], home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Plays the stream through one replica of each service."""
    async with System(home, environment(options), modules={"inference": "benchmarks.oracle"}) as system:
        return await replay_through(system, f"sqlite:///{home / 'dedup' / 'ledger.sqlite'}", lines, options)


async def replay_through(
    system: System, ledger: str, lines: Sequence[Line], options: argparse.Namespace
) -> dict[str, Any]:
    """Plays the stream through running services, each request through a gateway drawn at random, and gathers the
    figures."""
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address in system.all("gateway")
        ]
        dedup = await stack.enter_async_context(dial(Dialing(system.all("dedup")[0]), shows=system.shows))
        inference = await stack.enter_async_context(dial(Dialing(system.all("inference")[0]), shows=system.shows))
        policies: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(dedup)
        oracle: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(inference)
        tenants = list(dict.fromkeys(line.tenant for line in lines))
        for tenant in tenants:
            await set_policy(policies, tenant, options)
        player = Player([answer_pb2_grpc.AnswerServiceStub(gateway) for gateway in gateways], options.concurrency)
        half = len(lines) // 2
        started = time.time()
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("replay", total=len(lines))
            first = await player.play(lines[:half], 0, lambda: progress.advance(task))
            middle = await counts(oracle)
            last = await player.play(lines[half:], half, lambda: progress.advance(task))
        await asyncio.sleep(2.0)  # verifications and labels under way
        end = await counts(oracle)
        estimates = [await estimate(policies, tenant) for tenant in tenants]
    reader = Reader(open_database(ledger))
    served = [*first, *last]
    figures = summary(lines, served, end, identities_of(lines, reader))
    generations = [count["answers"] + count["verifications"] for count in (middle, end)]
    lost = [sum(each.failed for each in part) for part in (served, served[half:])]
    figures["saved"] = 1 - (generations[1] + lost[0]) / len(lines)
    figures["saved_last_half"] = 1 - (generations[1] - generations[0] + lost[1]) / max(1, len(lines) - half)
    figures["seconds"] = served[-1].time - started if served else 0.0
    best = max(estimates, key=lambda found: found.decision_count)
    figures["estimated_wrong"] = {"low": best.wrong_rate.low, "mid": best.wrong_rate.mid, "high": best.wrong_rate.high}
    figures["estimate_covers"] = best.wrong_rate.low <= figures["wrong_rate"] <= best.wrong_rate.high
    figures["windows"] = windows(lines, served, reader, started)
    reader.engine.dispose()
    return figures


async def set_policy(stub: policy_pb2_grpc.PolicyServiceAsyncStub, tenant: str, options: argparse.Namespace) -> None:
    """Sets a tenant's policy as the command line says."""
    judge = policy_pb2.JUDGE_MODE_INLINE if options.inline else policy_pb2.JUDGE_MODE_BACKGROUND
    policy = policy_pb2.Policy(
        name=f"tenants/{tenant}/policy",
        mode=MODES[options.mode],
        error_budget=options.budget,
        exploration_rate=options.exploration,
        judge=judge if options.judge else policy_pb2.JUDGE_MODE_OFF,
    )
    if options.image_threshold is not None:
        policy.image_threshold = options.image_threshold
    if options.question_threshold is not None:
        policy.question_threshold = options.question_threshold
    await stub.UpdatePolicy(policy_pb2.UpdatePolicyRequest(policy=policy, note="replay"), timeout=10)


async def counts(stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> dict[str, int]:
    """How often the oracle was asked."""
    info = await stub.GetInferenceInfo(inference_pb2.GetInferenceInfoRequest(), timeout=10)
    return {cache.name: cache.entry_count for cache in info.caches}


async def estimate(stub: policy_pb2_grpc.PolicyServiceAsyncStub, tenant: str) -> policy_pb2.PreviewPolicyResponse:
    """What the system itself says about a tenant: the preview of a change that changes nothing that counts."""
    request = policy_pb2.PreviewPolicyRequest(
        policy=policy_pb2.Policy(name=f"tenants/{tenant}/policy", keep_thumbnails=False),
        window=Duration(seconds=86_400),
        example_count=0,
    )
    return await stub.PreviewPolicy(request, timeout=120)


class Player:
    """Sends requests in order, a few at once."""

    def __init__(self, stubs: Sequence[answer_pb2_grpc.AnswerServiceAsyncStub], concurrency: int) -> None:
        self.stubs = stubs
        self.chance = random.Random(7)
        self.places = asyncio.Semaphore(concurrency)

    async def play(self, lines: Sequence[Line], first: int, done: Any) -> list[Served]:
        """Plays some lines, the first of which is line number `first` of the stream."""
        tasks = []
        for number, line in enumerate(lines, first):
            await self.places.acquire()
            tasks.append(asyncio.create_task(self.ask(number, line, done)))
        return list(await asyncio.gather(*tasks))

    async def ask(self, number: int, line: Line, done: Any) -> Served:
        """Asks one question. The request id tells the oracle which line it is."""
        try:
            content = await asyncio.to_thread(line.image.read_bytes)
            request = answer_pb2.AnswerRequest(
                parent=f"tenants/{line.tenant}",
                image=content_pb2.Image(content=content),
                question=content_pb2.Question(text=line.question),
            )
            before = time.perf_counter()
            identifier = ((telemetry.REQUEST_ID, f"line-{number}"),)
            response = await self.chance.choice(self.stubs).Answer(request, timeout=120, metadata=identifier)
            seconds = time.perf_counter() - before
        except grpc.aio.AioRpcError as error:
            return Served(False, False, True, faults.reason_of(error), "", False, False, 0.0, time.time())
        finally:
            self.places.release()
            done()
        provenance = response.provenance
        hit = provenance.source == content_pb2.SOURCE_CACHE
        text = response.answer.text
        return Served(
            hit=hit,
            generated=not hit and not provenance.coalesced,
            failed=False,
            reason=provenance.reason,
            stratum=provenance.evidence.stratum,
            same=text == line.answer or same_answer(text, line.answer),
            equal=text == line.answer,
            seconds=seconds,
            time=time.time(),
        )


@lru_cache(100_000)
def same_answer(left: str, right: str) -> bool:
    """Whether two answers say the same; unsure counts as different."""
    return left == right or compare_answers(left, right).verdict == "same"


def summary(
    lines: Sequence[Line], served: Sequence[Served], asked: dict[str, int], identities: Mapping[Path, str]
) -> dict[str, Any]:
    """The figures of the whole stream."""
    hits = [each for each in served if each.hit]
    wrong = sum(not each.same for each in hits)
    joined = [each for each in served if not each.hit and not each.generated and not each.failed]
    pairs = list(zip(lines, served, strict=True))
    return {
        "n": len(served),
        "hit_rate": len(hits) / max(1, len(served)),
        "wrong": wrong,
        "wrong_rate": wrong / max(1, len(hits)),
        "wrong_rate_upper95": upper_bound(wrong, len(hits), 0.95),
        "wrong_rate_interval": list(vars(clopper_pearson(wrong, len(hits))).values()),
        "wrong_rate_strict": sum(not each.equal for each in hits) / max(1, len(hits)),
        "errors": sum(each.failed for each in served),
        "coalesced": len(joined),
        "coalesced_wrong": sum(not each.same for each in joined),
        **asked,
        "avoidable": avoidable(pairs, identities),
        "reasons": dict(Counter(each.reason for each in served).most_common()),
        "hits_by_stratum": by(hits, [each.stratum for each in hits]),
        "hits_by_how": by(hits, [line.how for line, each in pairs if each.hit]),
        "latency_ms": {
            "hit": quantiles([each.seconds for each in hits]),
            "miss": quantiles([each.seconds for each in served if not each.hit and not each.failed]),
        },
    }


CAUSES = {
    "QUESTION_UNSURE": "question unsure",
    "QUESTION_BELOW_THRESHOLD": "question unsure",
    "QUESTION_VETOED": "veto",
    "QUESTION_DIFFERENT": "known to differ",
    "QUESTION_UNKNOWN": "evicted",
    "RISK_OVER_BUDGET": "budget",
    "BUDGET_SPENT": "budget",
    "STRATUM_CLOSED": "budget",
    "IMAGE_LOOKALIKE": "copy refused",
    "IMAGE_UNSURE": "copy refused",
    "IMAGE_UNKNOWN": "copy under another identity",
    "CROSS_LANGUAGE": "other language",
}
"""What an avoidable miss is put down to, by its reason."""


OTHER_IDENTITY = CAUSES["IMAGE_UNKNOWN"]
OF_IMAGES = frozenset({"IMAGE_LOOKALIKE", "IMAGE_UNSURE", "IMAGE_UNKNOWN"})
"""Reasons of a miss for which the question was not looked at."""


def avoidable(
    pairs: Sequence[tuple[Line, Served]], identities: Mapping[Path, str] | None = None
) -> dict[str, dict[str, int]]:
    """Misses of the whole stream and of its last half that asked what had been asked of the same image before, by
    cause; those that had been asked in the other language only are told apart. Empty where the stream names no
    intents.

    `identities` names the stored image that each file was taken for. A file that was taken for a new image once has no
    answers but its own: what had been asked of the others only is put down to that, whatever the question's reason."""
    found: dict[str, Counter[str]] = {"all": Counter(), "last half": Counter()}
    seen: dict[tuple[str, tuple[str, str]], dict[str, set[str]]] = {}
    known = identities or {}
    for place, (line, served) in enumerate(pairs):
        langs = seen.setdefault((line.tenant, line.meaning), {})
        mine = known.get(line.image, "" if identities is None else str(line.image))
        if not served.hit and not served.failed and langs and line.meaning[1]:
            cause = CAUSES.get(served.reason, served.reason) if line.lang in langs else "other language"
            if served.reason not in OF_IMAGES and not any(mine in asked for asked in langs.values()):
                cause = OTHER_IDENTITY
            found["all"][cause] += 1
            found["last half"][cause] += place >= len(pairs) // 2
        langs.setdefault(line.lang, set()).add(mine)
    return {part: dict(causes.most_common()) for part, causes in found.items()}


def identities_of(lines: Sequence[Line], reader: Reader) -> dict[Path, str]:
    """The stored image that each file of the stream was taken for last."""
    taken: dict[str, str] = {}
    for digests, images, verdicts in reader.columns(("image", "nearest_image", "image_verdict"), Span()):
        taken.update(
            {
                digest: image
                for digest, image, verdict in zip(digests, images, verdicts, strict=True)
                if verdict == "SAME"
            }
        )
    digests_of = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in {line.image for line in lines}}
    return {path: taken[digest] for path, digest in digests_of.items() if digest in taken}


def by(hits: Sequence[Served], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Hits and wrong ones by name."""
    found: dict[str, dict[str, int]] = {}
    for each, name in zip(hits, names, strict=True):
        cell = found.setdefault(name, {"hits": 0, "wrong": 0})
        cell["hits"] += 1
        cell["wrong"] += not each.same
    return found


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=20)
    return {"p50": cuts[9] * 1000, "p95": cuts[18] * 1000}


def windows(lines: Sequence[Line], served: Sequence[Served], reader: Reader, started: float) -> list[dict[str, Any]]:
    """The figures of every thousand requests."""
    found = []
    since = started
    for first in range(0, len(served), WINDOW):
        part = served[first : first + WINDOW]
        until = max(each.time for each in part)
        recorded = reader.recorded(Span(since=since, until=until))
        interval: Interval = wrong_rate(recorded, recorded.hit, 0.95)
        since = until
        hits = [each for each in part if each.hit]
        wrong = sum(not each.same for each in hits)
        found.append(
            {
                "first": first,
                "n": len(part),
                "hit_rate": len(hits) / len(part),
                "saved": sum(not each.generated and not each.failed for each in part) / len(part),
                "wrong": wrong,
                "wrong_rate": wrong / max(1, len(hits)),
                "wrong_rate_strict": sum(not each.equal for each in hits) / max(1, len(hits)),
                "estimated_wrong": vars(interval),
                "hit_ms": quantiles([each.seconds for each in hits]),
                "miss_ms": quantiles([each.seconds for each in part if not each.hit]),
            }
        )
    return found


def baselines(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """What other caches would have done with the same stream."""
    requests = prepare(
        [line.image for line in lines], [line.question for line in lines], [line.tenant for line in lines]
    )
    return {
        name: play(make(), requests, lambda one, other: same_answer(lines[one].answer, lines[other].answer))
        for name, make in BASELINES.items()
    }


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as tables."""
    console = Console(width=150)
    table = Table(title=f"{figures['n']:,} requests, {figures['seconds']:.0f} s", title_justify="left")
    for name in ("window", "hit rate", "saved", "wrong", "wrong rate", "strictly", "estimated", "hit ms", "miss ms"):
        table.add_column(name, justify="right")
    for part in figures["windows"]:
        guess = part["estimated_wrong"]
        table.add_row(
            f"{part['first']:,}",
            f"{part['hit_rate']:.3f}",
            f"{part['saved']:.3f}",
            str(part["wrong"]),
            f"{part['wrong_rate']:.4f}",
            f"{part['wrong_rate_strict']:.4f}",
            f"{guess['low']:.3f}..{guess['high']:.3f}",
            f"{part['hit_ms'].get('p50', 0):.0f}",
            f"{part['miss_ms'].get('p50', 0):.0f}",
        )
    console.print(table)
    guess = figures["estimated_wrong"]
    hits = f"hit rate {figures['hit_rate']:.3f}, saved {figures['saved']:.3f}"
    console.print(f"{hits}, last half {figures['saved_last_half']:.3f}")
    upper, strictly = figures["wrong_rate_upper95"], figures["wrong_rate_strict"]
    console.print(f"wrong {figures['wrong']}: {figures['wrong_rate']:.4f} (upper {upper:.4f}, strictly {strictly:.4f})")
    ends = " .. ".join(f"{guess[end]:.4f}" for end in ("low", "mid", "high"))
    console.print(f"estimated by the system {ends}, covers the truth: {figures['estimate_covers']}")
    names = ("errors", "answers", "verifications", "judged_pairs", "coalesced", "coalesced_wrong")
    console.print(", ".join(f"{name.replace('_', ' ')} {figures[name]:,}" for name in names))
    for title in ("reasons", "hits_by_stratum", "hits_by_how"):
        console.print(f"{title.replace('_', ' ')}: {figures[title]}")
    table = Table("avoidable misses", "all", "last half", title="asked before of the same image", title_justify="left")
    for cause, count in figures["avoidable"]["all"].items():
        table.add_row(cause, str(count), str(figures["avoidable"]["last half"].get(cause, 0)))
    console.print(table)
    table = Table(title="beside it", title_justify="left")
    for name in ("cache", "saved", "last half", "wrong rate"):
        table.add_column(name, justify="left" if name == "cache" else "right")
    table.add_row("AskOnce", *(f"{figures[name]:.4f}" for name in ("saved", "saved_last_half", "wrong_rate")))
    for name, row in figures["baselines"].items():
        table.add_row(name, *(f"{row[key]:.4f}" for key in ("saved", "saved_last_half", "wrong_rate")))
    console.print(table)


if __name__ == "__main__":
    main()
