"""Remember: stores a fresh answer under its ticket, and learns from how it compares with those already there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import structlog

from askonce.fair import in_threads
from dedup_service.ledger.records import Source
from dedup_service.policy.policy import Mode, Policy
from dedup_service.policy.revisions import PolicyBook
from dedup_service.question.refusals import cannot_tell
from dedup_service.question.subject import Subject, subjects_of
from dedup_service.store.exact_cache import ExactCache
from dedup_service.store.inflight import Inflight
from dedup_service.store.records import Entry, ImageRecord, Memory, MemoryUnavailableError, entry_id
from dedup_service.store.usage import lifetime_end
from dedup_service.usecases.image_resolver import ImageResolver
from dedup_service.usecases.labelling import Labelling
from dedup_service.usecases.miss_ticket import MissTicket, NearMiss, TicketSealer
from dedup_service.usecases.query import end_of_day

log = structlog.get_logger("remember")


@dataclass(frozen=True, slots=True)
class FreshAnswer:
    """What the model said."""

    text: str
    finish: str
    """STOP, LENGTH, FILTERED, UNANSWERABLE, or UNSPECIFIED."""
    model: str
    model_revision: str
    serialised: bytes
    """The wire message, kept as it is."""
    generate_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What became of an answer."""

    entry: str
    stored: bool
    reason: str = ""
    """Why it was not stored: ANSWER_CUT_OFF, ANSWER_FILTERED, ANSWER_UNANSWERABLE, ANSWER_UNFINISHED, ANSWER_EMPTY,
    ANSWER_OUTDATED, COMPARE_ONLY, ENCODER_CHANGED, POLICY_KEEPS_NOTHING, or ALREADY_STORED. Empty when it was."""


UNSTORABLE = {
    "LENGTH": "ANSWER_CUT_OFF",
    "FILTERED": "ANSWER_FILTERED",
    "UNANSWERABLE": "ANSWER_UNANSWERABLE",
}
"""Reasons for ends that have one of their own; all others but STOP are ANSWER_UNFINISHED."""


class Remember:
    """The use case."""

    def __init__(
        self,
        memory: Memory,
        exact_cache: ExactCache,
        sealer: TicketSealer,
        inflight: Inflight,
        resolver: ImageResolver,
        labelling: Labelling,
        book: PolicyBook,
        workers: Executor,
        *,
        encoders: str,
        question_dimension: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = memory
        self.exact_cache = exact_cache
        self.sealer = sealer
        self.inflight = inflight
        self.resolver = resolver
        self.labelling = labelling
        self.book = book
        self.workers = workers
        self.encoders = encoders
        self.dimension = question_dimension
        self.clock = clock

    async def remember(
        self, tenant: str, sealed: bytes, answer: FreshAnswer, *, replace: bool, compare_only: bool
    ) -> Remembered:
        """Stores an answer; durable on return. Raises TicketError and MemoryUnavailableError."""
        ticket = self.sealer.open(sealed, tenant, self.clock())
        policy = self.book.current(tenant).policy
        try:
            remembered = await self.store(ticket, answer, policy, replace, compare_only)
        finally:
            await self.inflight.end(ticket.flight)
            if ticket.new_image is not None:
                await self.resolver.discard(tenant, ticket.new_image.digests[0])
        if answer.finish == "STOP" and answer.text.strip():
            await self.learn(ticket, answer, policy)
        return remembered

    async def store(
        self, ticket: MissTicket, answer: FreshAnswer, policy: Policy, replace: bool, compare_only: bool
    ) -> Remembered:
        """Writes the image's record, if it is new, and the entry."""
        if (reason := self.refusal(ticket, answer, policy, compare_only)) is not None:
            return Remembered("", False, reason)
        entry = self.entry_of(ticket, answer, policy)
        before = await self.memory.entry(ticket.tenant, entry.id)
        if before is not None and before.expire_time > self.clock() and not replace:
            return Remembered(entry.id, False, "ALREADY_STORED")
        await self.found(ticket)
        evicted = await self.memory.put_entry(
            entry,
            self.vector_of(ticket),
            policy.answers_per_image,
            lambda normal: self.labelling.pairs.intent_of(ticket.tenant, normal),
        )
        await self.exact_cache.drop(ticket.tenant, frozenset([*evicted, entry.id]), before=entry.create_time)
        return Remembered(entry.id, True)

    def refusal(self, ticket: MissTicket, answer: FreshAnswer, policy: Policy, compare_only: bool) -> str | None:
        """Why this answer must not be stored, or None."""
        kept = policy.unanswered_ttl > 0
        if answer.finish != "STOP" and not (answer.finish == "UNANSWERABLE" and kept):
            return UNSTORABLE.get(answer.finish, "ANSWER_UNFINISHED")
        if not answer.text.strip():
            return "ANSWER_EMPTY"
        if cannot_tell(answer.text, ticket.question) and not kept:
            return "ANSWER_UNANSWERABLE"
        if self.last_moment(ticket, answer, policy) <= self.clock():
            return "ANSWER_OUTDATED"
        if compare_only:
            return "COMPARE_ONLY"
        if ticket.encoders != self.encoders:
            return "ENCODER_CHANGED"
        if policy.mode is Mode.OFF or policy.archive_ttl == 0:
            return "POLICY_KEEPS_NOTHING"
        return None

    def entry_of(self, ticket: MissTicket, answer: FreshAnswer, policy: Policy) -> Entry:
        """The entry to store."""
        now = self.clock()
        expire_time = lifetime_end(now, policy.archive_ttl, policy.ttl_jitter)
        expire_time = min(expire_time, self.last_moment(ticket, answer, policy))
        return Entry(
            id=entry_id(ticket.tenant, ticket.image, ticket.space, ticket.normal),
            tenant=ticket.tenant,
            image=ticket.image,
            space=ticket.space,
            question=ticket.question,
            normal=ticket.normal,
            language=ticket.language,
            answer=answer.serialised,
            answer_text=answer.text,
            model=answer.model,
            model_revision=answer.model_revision,
            create_time=now,
            hot_until=min(expire_time, lifetime_end(now, policy.hot_ttl, policy.ttl_jitter)),
            expire_time=expire_time,
            last_use=now,
            policy_revision=str(ticket.policy_revision),
            generate_seconds=answer.generate_seconds,
            tags=ticket.tags,
            decision=ticket.decision,
            file=ticket.file,
        )

    def last_moment(self, ticket: MissTicket, answer: FreshAnswer, policy: Policy) -> float:
        """When this answer ends at the latest: one about the day with the day on which it was asked, one that can't
        tell after the policy's time for such; without an end otherwise."""
        last = math.inf
        if Subject.DAY in subjects_of(ticket.question):
            last = end_of_day(ticket.issue_time, policy.time_zone)
        if answer.finish == "UNANSWERABLE" or cannot_tell(answer.text, ticket.question):
            last = min(last, self.clock() + policy.unanswered_ttl)
        return last

    async def found(self, ticket: MissTicket) -> None:
        """Writes the record of a new image, or adds this file to one that was written in between."""
        new_image = ticket.new_image
        if new_image is None:
            return
        if await self.memory.add_digests(ticket.tenant, ticket.image, new_image.digests):
            return
        record = ImageRecord(
            id=ticket.image,
            tenant=ticket.tenant,
            digests=new_image.digests,
            perceptual_hash=bytes.fromhex(new_image.perceptual_hash),
            width=new_image.width,
            height=new_image.height,
            create_time=self.clock(),
            fingerprint_bytes=len(ticket.fingerprint),
        )
        await self.memory.put_image(record, ticket.image_vector, ticket.fingerprint)
        try:
            await self.resolver.forms.describe(ticket.tenant, ticket.image)
        except MemoryUnavailableError:
            raise
        except Exception:  # the image is stored, and found by its other features; it is described in the background
            log.exception("describe_failed", image=ticket.image)

    def vector_of(self, ticket: MissTicket) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The question's vector; for a question that the encoder could not read, one that is near to nothing asked."""
        if len(ticket.question_vector) == self.dimension:
            return ticket.question_vector.astype(np.float32, copy=True)
        lonely = np.zeros(self.dimension, np.float32)
        lonely[0] = -1.0
        return lonely

    async def learn(self, ticket: MissTicket, answer: FreshAnswer, policy: Policy) -> None:
        """Compares the fresh answer with those of the near misses: labels for the decision, evidence on questions."""
        near_misses = [
            (near_miss, await self.memory.entry(ticket.tenant, near_miss.entry)) for near_miss in ticket.near_misses
        ]
        await in_threads(
            self.workers, lambda: self.study(ticket, answer, policy, [(r, e) for r, e in near_misses if e is not None])
        )

    def study(
        self, ticket: MissTicket, answer: FreshAnswer, policy: Policy, near_misses: Sequence[tuple[NearMiss, Entry]]
    ) -> None:
        """The comparisons; blocking."""
        source = Source.SHADOW if policy.mode is Mode.SHADOW and ticket.reads else Source.NEAR_MISS
        for position, (near_miss, entry) in enumerate(near_misses):
            verdict = self.labelling.compare(answer.text, entry.answer_text)
            if position == 0:
                self.labelling.label(
                    ticket.tenant,
                    ticket.decision,
                    source,
                    verdict,
                    answer.text,
                    keep_text=policy.keep_question_text,
                )
            if near_miss.same_image and ticket.readable:
                self.labelling.teach(
                    ticket.tenant,
                    ticket.normal,
                    entry.normal,
                    verdict,
                    answer.text,
                    "answer",
                    image=ticket.image,
                    prior=near_miss.prior,
                )
        self.labelling.count(ticket.tenant, answer.text)
