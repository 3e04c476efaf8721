"""Has the hosted model judge pairs of questions: in the background after a near-miss, or while a look-up waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cachetools import LRUCache

from askonce.faults import Fault
from askonce.v1 import dedup_pb2, inference_pb2
from gateway import metrics
from gateway.clients import DedupClient, InferenceClient
from gateway.hosted_model import HostedModel

BATCH = 16
"""Pairs judged in one call."""
KNOWN = 50_000
"""Pairs whose verdict is kept, and pairs per process known to have been reported."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge said about a pair."""

    same_probability: float | None
    model: str


class Judge:
    """Judges each pair at most once, whoever asks, and reports verdicts to dedup.

    A verdict does not depend on the image or the tenant, so a second tenant's pair is reported without asking again.
    """

    def __init__(
        self,
        inference: InferenceClient,
        dedup: DedupClient,
        hosted: HostedModel,
        limit: int,
        timeout: float,
        enabled: bool = True,
    ) -> None:
        self.inference = inference
        self.dedup = dedup
        self.hosted = hosted
        self.timeout = timeout
        self.enabled = enabled
        self.queue: asyncio.Queue[tuple[str, tuple[str, str]]] = asyncio.Queue(limit)
        self.judgements: LRUCache[tuple[str, ...], Judgement] = LRUCache(KNOWN)
        self.reported: LRUCache[tuple[str, ...], bool] = LRUCache(KNOWN)

    @property
    def available(self) -> bool:
        """Whether the hosted model can judge at the moment, as far as is known."""
        return self.enabled and self.hosted.model is not None and self.hosted.model.can_judge

    def offer(self, tenant: str, pair: dedup_pb2.QuestionPairRef) -> bool:
        """Queues a pair; says False for one that is known, already queued, or one too many."""
        if not self.available or not pair.left or not pair.right:
            return False
        key = (tenant, *ordered(pair))
        if key in self.reported:
            return False
        try:
            self.queue.put_nowait((tenant, (pair.left, pair.right)))
        except asyncio.QueueFull:
            metrics.JUDGED.labels("background", "dropped").inc()
            return False
        self.reported[key] = True
        metrics.JUDGE_QUEUE.set(self.queue.qsize())
        return True

    async def decide(
        self,
        pair: dedup_pb2.QuestionPairRef,
        timeout: float,
        on: inference_pb2.CompareQuestionsRequest | None = None,
    ) -> dedup_pb2.JudgedPair | None:
        """Judges one pair at once; None when there is no verdict in time.

        `on`, a request without pairs, names the image to judge it on. Such a verdict is kept for that image alone, and
        says so.
        """
        if not self.available:
            return None
        how = "inline" if on is None else "on_image"
        judgement = self.judgements.get(place_of((pair.left, pair.right), on))
        if judgement is None:
            try:
                (judgement,) = await self.ask([(pair.left, pair.right)], timeout, on)
            except Fault as fault:
                metrics.JUDGED.labels(how, fault.reason).inc()
                return None
        count(how, judgement)
        verdict = judged(pair.left, pair.right, judgement)
        if on is not None:
            verdict.image_digest = on.image_digest
        return verdict

    async def ask(
        self,
        pairs: list[tuple[str, str]],
        timeout: float,
        on: inference_pb2.CompareQuestionsRequest | None = None,
    ) -> list[Judgement]:
        """Asks the model and keeps what it says. Raises Fault."""
        response = await self.inference.compare(pairs, timeout, on)
        if len(response.judgements) != len(pairs):
            raise Fault("JUDGE_INCOMPLETE", "The judge gave another number of verdicts than it was asked for.")
        judgements = [Judgement(probability(each), response.model) for each in response.judgements]
        for pair, judgement in zip(pairs, judgements, strict=True):
            self.judgements[place_of(pair, on)] = judgement
        return judgements

    async def step(self) -> None:
        """Waits for queued pairs and judges them. A judge that is down or late loses the pairs and nothing else."""
        batch = [await self.queue.get()]
        while len(batch) < BATCH and not self.queue.empty():
            batch.append(self.queue.get_nowait())
        metrics.JUDGE_QUEUE.set(self.queue.qsize())
        await self.settle(batch)

    async def settle(self, batch: list[tuple[str, tuple[str, str]]]) -> None:
        """Judges one batch and reports each verdict to the tenant that it came from."""
        unknown = list(
            {tuple(sorted(pair)): pair for _, pair in batch if tuple(sorted(pair)) not in self.judgements}.values()
        )
        if unknown:
            try:
                await self.ask(unknown, max(self.timeout, 1.0) * 4)
            except Fault as fault:
                for tenant, pair in batch:
                    if tuple(sorted(pair)) not in self.judgements:
                        self.reported.pop((tenant, *sorted(pair)), None)
                        metrics.JUDGED.labels("background", fault.reason).inc()
        for tenant, pair in batch:
            judgement = self.judgements.get(tuple(sorted(pair)))
            if judgement is None:
                continue
            count("background", judgement)
            evidence = dedup_pb2.LearnRequest(parent=tenant, judged=judged(*pair, judgement))
            try:
                await self.dedup.learn(evidence, self.timeout * 4)
            except Fault:
                self.reported.pop((tenant, *sorted(pair)), None)
                metrics.JUDGED.labels("background", "unreported").inc()


def ordered(pair: dedup_pb2.QuestionPairRef) -> tuple[str, ...]:
    """The key of a pair; the judge's question has no direction."""
    return tuple(sorted((pair.left, pair.right)))


def place_of(pair: tuple[str, str], on: inference_pb2.CompareQuestionsRequest | None = None) -> tuple[str, ...]:
    """Where a verdict is kept: one on an image under that image's digest, for those who share its caches."""
    return (*sorted(pair), *((on.image_digest.hex(), on.cache_scope) if on is not None else ()))


def probability(judgement: inference_pb2.QuestionJudgement) -> float | None:
    """The probability that a pair asks the same; None for unsure."""
    if judgement.verdict not in (inference_pb2.QUESTION_VERDICT_SAME, inference_pb2.QUESTION_VERDICT_DIFFERENT):
        return None
    return judgement.same_probability if judgement.HasField("same_probability") else None


def judged(left: str, right: str, judgement: Judgement) -> dedup_pb2.JudgedPair:
    """A judgement as dedup takes it."""
    return dedup_pb2.JudgedPair(
        left=left, right=right, same_probability=judgement.same_probability, model=judgement.model
    )


def count(how: str, judgement: Judgement) -> None:
    """Counts a verdict."""
    said = (
        "unsure" if judgement.same_probability is None else "same" if judgement.same_probability >= 0.5 else "different"
    )
    metrics.JUDGED.labels(how, said).inc()
