"""Verifies hits behind the client's back: the answer was served from memory, now the model is asked as well.

This gives the unbiased estimate of the wrong-answer rate, as long as every hit that was drawn has an outcome, whatever
the load. A drawn hit waits for minutes while the engine is busy, at background priority at first; after half of its
time it is asked like a client's request. What still could not be verified is reported as such: the estimate counts it
as possibly wrong instead of leaving busy moments out.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from askonce.faults import Exhausted, Fault, TooLate, Unreachable
from askonce.v1 import content_pb2, dedup_pb2, inference_pb2
from gateway import metrics
from gateway.clients import DedupClient, InferenceClient

LATER = (Exhausted, TooLate, Unreachable)
"""Faults that say nothing about the request: it is tried again."""

PAUSES = (1.0, 15.0)
"""The first and the longest pause between two tries, in seconds."""

UNVERIFIED = content_pb2.Answer(finish_reason=content_pb2.FINISH_REASON_INTERRUPTED, finish_detail="unverified")
"""What is reported of a drawn hit that could not be verified."""


@dataclass(frozen=True, slots=True)
class UnverifiedHit:
    """A hit to verify."""

    tenant: str
    decision: str
    request: inference_pb2.GenerateRequest
    offered: float = field(default_factory=time.monotonic)
    """When it was drawn, on the clock of `time.monotonic`."""


class HitVerifier:
    """Asks the model about hits, one at a time. `patience` is how long a hit may wait for its turn, in seconds."""

    def __init__(
        self,
        inference: InferenceClient,
        dedup: DedupClient,
        limit: int,
        timeout: float,
        patience: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inference, self.dedup = inference, dedup
        self.timeout, self.patience, self.clock = timeout, patience, clock
        self.queue: asyncio.Queue[UnverifiedHit] = asyncio.Queue(limit)
        self.lost: deque[tuple[str, str]] = deque(maxlen=10_000)
        """Tenant and decision of hits for which the queue had no room."""
        self.pauses = PAUSES

    def offer(self, hit: UnverifiedHit) -> bool:
        """Queues a hit; says False when the queue is full, which is reported as an outcome of its own."""
        try:
            self.queue.put_nowait(hit)
        except asyncio.QueueFull:
            metrics.EXPLORED.labels("dropped").inc()
            self.lost.append((hit.tenant, hit.decision))
            return False
        return True

    async def step(self) -> None:
        """Waits for a queued hit and sees to its outcome, and to those of hits that found no room."""
        hit = await self.queue.get()
        await self.report_lost()
        try:
            answer = await self.ask_in_time(hit)
        except Fault as fault:
            metrics.EXPLORED.labels(fault.reason).inc()
            answer = UNVERIFIED
        await self.report(hit.tenant, hit.decision, answer)
        await self.report_lost()

    async def ask_in_time(self, hit: UnverifiedHit) -> content_pb2.Answer:
        """The model's answer, asked for again and again while it is busy. Raises the last Fault when time is over."""
        pause, longest = self.pauses
        while True:
            waited = self.clock() - hit.offered
            patient = waited < self.patience / 2
            hit.request.priority = inference_pb2.PRIORITY_BACKGROUND if patient else inference_pb2.PRIORITY_INTERACTIVE
            try:
                return await self.ask(hit)
            except LATER as fault:
                wait = min(longest, max(fault.retry_after or 0.0, pause)) * random.uniform(0.8, 1.2)
                if waited + wait >= self.patience:
                    raise
                await asyncio.sleep(wait)
                pause = min(longest, 2 * pause)

    async def ask(self, hit: UnverifiedHit) -> content_pb2.Answer:
        """Asks the model once; an answer that is not known to be whole verifies nothing. Raises Fault."""
        async for event in self.inference.generate(hit.request, self.timeout):
            if event.WhichOneof("event") == "summary":
                answer = event.summary.answer
                whole = answer.finish_reason == content_pb2.FINISH_REASON_STOP and not event.summary.unfit_reason
                if whole:
                    return answer
                break
        metrics.EXPLORED.labels("unusable").inc()
        return UNVERIFIED

    async def report_lost(self) -> None:
        """Reports the hits that found no room."""
        while self.lost:
            await self.report(*self.lost.popleft(), UNVERIFIED)

    async def report(self, tenant: str, decision: str, answer: content_pb2.Answer) -> None:
        """Tells dedup what became of a drawn hit."""
        evidence = dedup_pb2.LearnRequest(
            parent=tenant, fresh_answer=dedup_pb2.FreshAnswer(decision=decision, answer=answer)
        )
        try:
            await self.dedup.learn(evidence, self.timeout)
        except Fault as fault:
            metrics.EXPLORED.labels(fault.reason).inc()
            return
        metrics.EXPLORED.labels("unverified" if answer is UNVERIFIED else "reported").inc()
