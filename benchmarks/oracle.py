"""An inference service that knows a stream's answers, for `benchmarks.replay`; settings ASKONCE_INFERENCE_STREAM,
_JUDGE.

A request whose id is "line-7" gets the answer of line 7. A request that comes without one, as the verification of a hit
does, gets the answer of any line with the same image and question, drawn evenly: what the model would say if asked
again. With a judge, pairs of questions are judged by their intent, rightly that often and unsure at times; without it
every verdict is unsure. GetInferenceInfo tells how often it was asked, as the entries of caches called "answers",
"verifications" and "judged_pairs".
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from askonce import serving, settings, telemetry
from askonce.access import Access
from askonce.faults import Absent
from askonce.serving import Registration, Server, Serving
from askonce.v1 import content_pb2, inference_pb2, inference_pb2_grpc

NAME = "askonce.v1.InferenceService"
PREFIX = "line-"
UNSURE = 0.05
"""Share of pairs of which the simulated judge is unsure."""
SURE = 0.98
"""What the simulated judge says when it says "same"; its complement when it says "different"."""


class Oracle(inference_pb2_grpc.InferenceServiceServicer):
    """Answers from the stream."""

    def __init__(self, stream: Path, judge: float, seed: int = 7) -> None:
        self.judge = judge
        self.chance = random.Random(seed)
        self.counts = {"answers": 0, "verifications": 0, "judged_pairs": 0}
        self.lines: list[str] = []
        self.answers: dict[tuple[bytes, str], list[str]] = {}
        self.intents: dict[str, set[str]] = {}
        self.replies: dict[str, dict[str, set[str]]] = {}
        digests: dict[str, bytes] = {}
        for raw in stream.read_text(encoding="utf-8").splitlines():
            line = json.loads(raw)
            if line["image"] not in digests:
                digests[line["image"]] = hashlib.sha256((stream.parent / line["image"]).read_bytes()).digest()
            self.lines.append(line["answer"])
            self.answers.setdefault((digests[line["image"]], line["question"]), []).append(line["answer"])
            replies = self.replies.setdefault(line["question"], {})
            replies.setdefault(line["image"], set()).add(line["answer"])
            if "intent" in line:
                self.intents.setdefault(line["question"], set()).add(line["intent"])

    async def Generate(  # noqa: N802 - the name is the protocol's
        self, request: inference_pb2.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        background = request.priority == inference_pb2.PRIORITY_BACKGROUND
        self.counts["verifications" if background else "answers"] += 1
        text = self.answer(request, telemetry.request_id())
        yield inference_pb2.GenerateResponse(text=text)
        answer = content_pb2.Answer(text=text, finish_reason=content_pb2.FINISH_REASON_STOP, model="oracle")
        answer.create_time.GetCurrentTime()
        yield inference_pb2.GenerateResponse(summary=inference_pb2.GenerateSummary(answer=answer))

    def answer(self, request: inference_pb2.GenerateRequest, identifier: str) -> str:
        """The answer of the line that asks, or of a line that asked the same."""
        with suppress(ValueError, IndexError):
            if identifier.startswith(PREFIX):
                return self.lines[int(identifier.removeprefix(PREFIX))]
        digest = request.image_digest or hashlib.sha256(request.image.content).digest()
        known = self.answers.get((digest, request.question.text))
        if known is None:
            raise Absent("LINE_UNKNOWN", "The stream has no such request.")
        return self.chance.choice(known)

    async def CompareQuestions(  # noqa: N802 - the name is the protocol's
        self, request: inference_pb2.CompareQuestionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inference_pb2.CompareQuestionsResponse:
        self.counts["judged_pairs"] += len(request.pairs)
        verdicts = [self.verdict(pair.left, pair.right) for pair in request.pairs]
        return inference_pb2.CompareQuestionsResponse(judgements=verdicts, model="oracle")

    def verdict(self, left: str, right: str) -> inference_pb2.QuestionJudgement:
        """The simulated judge: wrong on the same pairs whenever it is asked, as a model is."""
        truth = self.truth(left, right)
        chance = random.Random("\n".join(sorted((left, right))))
        if self.judge == 0 or truth is None or chance.random() < UNSURE:
            return inference_pb2.QuestionJudgement(verdict=inference_pb2.QUESTION_VERDICT_UNSURE)
        same = truth if chance.random() < self.judge else not truth
        kind = inference_pb2.QUESTION_VERDICT_SAME if same else inference_pb2.QUESTION_VERDICT_DIFFERENT
        return inference_pb2.QuestionJudgement(verdict=kind, same_probability=SURE if same else 1 - SURE)

    def truth(self, left: str, right: str) -> bool | None:
        """Whether two questions ask the same: by intent, or where the stream names none, by their answers about the
        images that both were asked about. None when neither tells."""
        if left in self.intents and right in self.intents:
            return bool(self.intents[left] & self.intents[right])
        one, other = self.replies.get(left, {}), self.replies.get(right, {})
        shared = one.keys() & other.keys()
        return all(one[image] == other[image] for image in shared) if shared else None

    async def GetInferenceInfo(  # noqa: N802 - the name is the protocol's
        self, request: inference_pb2.GetInferenceInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> inference_pb2.GetInferenceInfoResponse:
        counts = [inference_pb2.CacheState(name=name, entry_count=count) for name, count in self.counts.items()]
        return inference_pb2.GetInferenceInfoResponse(
            engine="oracle", model="oracle", can_judge=self.judge > 0, caches=counts
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What the oracle is told."""

    stream: Path = Path("stream.jsonl")
    """The stream whose answers it knows."""
    judge: float = 0.0
    """Share of pairs that the simulated judge judges rightly; 0 for no judge."""
    access: Access = field(default_factory=Access)
    """Taken as any service takes it; the oracle answers everybody."""
    serving: Serving = field(default_factory=Serving)


async def serve(chosen: Settings) -> None:
    """Serves until a signal."""
    oracle = Oracle(chosen.stream, chosen.judge)

    def add(server: grpc.aio.Server) -> None:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(oracle, server)

    await serving.run(Server("inference", chosen.serving, [Registration(NAME, add)]))


def main() -> None:
    """Runs the service."""
    telemetry.configure("inference", telemetry.Telemetry(log_level="warning"))
    asyncio.run(serve(settings.load(Settings, "inference")))


if __name__ == "__main__":
    main()
