"""Verifies hits behind the client's back: the answer was served from memory, now the model is asked as well.

This gives the unbiased estimate of the wrong-answer rate. It never competes with anybody who waits: the work has
background priority and is dropped when the engine is busy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from askonce.faults import Fault
from askonce.v1 import content_pb2, dedup_pb2, inference_pb2
from gateway import metrics
from gateway.clients import DedupClient, InferenceClient


@dataclass(frozen=True, slots=True)
class UnverifiedHit:
    """A hit to verify."""

    tenant: str
    decision: str
    request: inference_pb2.GenerateRequest


class HitVerifier:
    """Asks the model about hits, one at a time."""

    def __init__(self, inference: InferenceClient, dedup: DedupClient, limit: int, timeout: float) -> None:
        self.inference = inference
        self.dedup = dedup
        self.timeout = timeout
        self.queue: asyncio.Queue[UnverifiedHit] = asyncio.Queue(limit)

    def offer(self, hit: UnverifiedHit) -> bool:
        """Queues a hit; says False when the queue is full."""
        try:
            self.queue.put_nowait(hit)
        except asyncio.QueueFull:
            metrics.EXPLORED.labels("dropped").inc()
            return False
        return True

    async def step(self) -> None:
        """Waits for a queued hit and verifies it."""
        hit = await self.queue.get()
        try:
            await self.verify(hit)
        except Fault as fault:
            metrics.EXPLORED.labels(fault.reason).inc()

    async def verify(self, hit: UnverifiedHit) -> None:
        """Asks the model once and reports what it says. Raises Fault."""
        hit.request.priority = inference_pb2.PRIORITY_BACKGROUND
        answer: content_pb2.Answer | None = None
        async for event in self.inference.generate(hit.request, self.timeout):
            if event.WhichOneof("event") == "summary":
                answer = event.summary.answer if not event.summary.unfit_reason else None
        if answer is None or answer.finish_reason != content_pb2.FINISH_REASON_STOP:
            metrics.EXPLORED.labels("unusable").inc()
            return
        lesson = dedup_pb2.LearnRequest(
            parent=hit.tenant, fresh_answer=dedup_pb2.FreshAnswer(decision=hit.decision, answer=answer)
        )
        await self.dedup.learn(lesson, self.timeout)
        metrics.EXPLORED.labels("reported").inc()
