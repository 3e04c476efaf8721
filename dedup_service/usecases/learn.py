"""Learn: what became known about a decision after it was made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from askonce.fair import in_threads
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.purge import Purged
from dedup_service.ledger.reading import Reader
from dedup_service.ledger.records import Decision, Feedback, Source, digest, time_of
from dedup_service.policy.revisions import PolicyBook
from dedup_service.question.answers import AnswerVerdict
from dedup_service.question.normal import normalise
from dedup_service.store.exact_cache import ExactCache
from dedup_service.store.records import Entry, Memory, Selection
from dedup_service.usecases.forget import Texts
from dedup_service.usecases.known_mismatches import KnownMismatches
from dedup_service.usecases.labelling import Labelling
from dedup_service.usecases.part_file import part_file
from dedup_service.usecases.parted_questions import PartedQuestions
from dedup_service.usecases.query import Judged

FLUSH = 5.0
"""Seconds to wait for a decision that is still on its way to the ledger."""
ON_ITS_WAY = 3.0
"""Seconds after which another replica has written its decisions down; it gathers them for less than half a second."""
TURNS = 30
"""How often a decision of another replica is looked for in that time."""


class DecisionUnknownError(LookupError):
    """There is no such decision, or it is no longer kept."""


class FeedbackLimitError(Exception):
    """A tenant sends feedback faster than it may. `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too much feedback")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the evidence led to."""

    removed: int = 0
    """Entries removed."""
    labelled: bool = False


class Allowance:
    """Calls of a tenant: `rate` a second on average, `burst` at once. Counted in this process."""

    def __init__(self, rate: float, burst: int) -> None:
        self.item = RateLimitItemPerSecond(burst, max(1, round(burst / rate)))
        self.limiter = MovingWindowRateLimiter(MemoryStorage())

    def take(self, tenant: str) -> float:
        """Takes one call: 0 when there was one left, else the seconds until there is."""
        if self.limiter.hit(self.item, tenant):
            return 0.0
        return max(0.1, self.limiter.get_window_stats(self.item, tenant).reset_time - time.time())


class Learn:
    """The use case."""

    def __init__(
        self,
        memory: Memory,
        exact_cache: ExactCache,
        labelling: Labelling,
        ledger: Ledger,
        reader: Reader,
        book: PolicyBook,
        mismatches: KnownMismatches,
        parted: PartedQuestions,
        workers: Executor,
        *,
        texts: Texts | None = None,
        allowance: Allowance | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.texts = texts
        self.memory = memory
        self.exact_cache = exact_cache
        self.mismatches = mismatches
        self.parted = parted
        self.labelling = labelling
        self.ledger = ledger
        self.reader = reader
        self.book = book
        self.workers = workers
        self.allowance = allowance or Allowance(rate=1.0, burst=60)
        self.clock = clock

    async def feedback(self, tenant: str, decision: str, right: bool, correct_text: str, comment: str) -> Learnt:
        """Takes a client's verdict. A wrong answer is removed at once, with whatever let it be served: the evidence
        that the two questions ask the same, and the alias that took one image for the other.

        Raises DecisionUnknownError, FeedbackLimitError and MemoryUnavailableError.
        """
        if (wait := self.allowance.take(tenant)) > 0:
            raise FeedbackLimitError(wait)
        about = await self.decision(tenant, decision)
        removed = 0
        if not right:
            entry = about.entry or await self.entry_stored_by(about)
            served = await self.memory.entry(tenant, entry) if entry else None
            removed = await self.remove(tenant, entry) if entry else 0
            await self.undo(about, served)
            if entry and self.texts is not None:
                await self.texts.scrub_answers(Purged(tenant, answers=(entry,)))
        record = Feedback(
            decision,
            tenant,
            self.clock(),
            right,
            correct_text or None,
            comment or None,
            entry=about.entry if removed else "",
        )
        return Learnt(removed, self.ledger.record_feedback(record, keep_text=self.book.keeps_text(tenant)))

    async def fresh_answer(self, tenant: str, decision: str, answer: str | None) -> Learnt:
        """Compares a second answer of the model with the one that was served. Raises DecisionUnknownError.

        None says that a hit was drawn and could not be verified. It is written down as undecided, so that the estimate
        counts it as possibly wrong: leaving it out would leave out the moments in which the engine was busy.
        """
        about = await self.decision(tenant, decision)
        if answer is None:
            verdict = AnswerVerdict("unsure", "UNVERIFIED")
            await in_threads(
                self.workers,
                lambda: self.labelling.label(tenant, decision, Source.EXPLORATION, verdict, "", keep_text=False),
            )
            return Learnt()
        entry = await self.memory.entry(tenant, about.entry)
        served = entry.answer_text if entry is not None else about.nearest_answer_text
        if served is None:
            return Learnt()
        keep_text = self.book.current(tenant).policy.keep_question_text
        verdict = await in_threads(self.workers, lambda: self.labelling.compare(answer, served))
        await in_threads(
            self.workers,
            lambda: self.labelling.label(tenant, decision, Source.EXPLORATION, verdict, answer, keep_text=keep_text),
        )
        if about.question_text is not None and about.nearest_question_text is not None:
            left, right = normalise(about.question_text), normalise(about.nearest_question_text)
            image = about.nearest_image
            await in_threads(
                self.workers,
                lambda: self.labelling.teach(tenant, left, right, verdict, answer, "exploration", image=image),
            )
        if verdict.verdict == "different":
            await self.separate(about, entry)
        return Learnt(0, verdict.verdict != "unsure")

    async def judged(self, tenant: str, judged: Judged) -> Learnt:
        """Takes a verdict of the judge on two questions. One on an image says nothing of others, and is not kept."""
        probability = judged.same_probability
        if probability is None or judged.image:
            return Learnt()
        left, right = normalise(judged.left), normalise(judged.right)
        await in_threads(self.workers, lambda: self.labelling.judge(tenant, left, right, probability))
        return Learnt(0, True)

    async def decision(self, tenant: str, decision: str) -> Decision:
        """The decision from the ledger, waiting for it when it is still on its way, be it at another replica."""

        def read() -> Decision | None:
            found = self.reader.decision(decision)
            if found is None and self.ledger.flush(FLUSH):
                found = self.reader.decision(decision)
            return found

        found = await in_threads(self.workers, read)
        for _ in range(TURNS):
            if found is not None or not 0 <= self.clock() - time_of(decision) < ON_ITS_WAY:
                break
            await asyncio.sleep(ON_ITS_WAY / TURNS)
            found = await in_threads(self.workers, lambda: self.reader.decision(decision))
        if found is None or found.tenant != tenant:
            raise DecisionUnknownError(decision)
        return found

    async def entry_stored_by(self, about: Decision) -> str:
        """The entry that the answer to a miss was stored as; empty when it was not, or when it can't be told."""
        record = await self.memory.image_by_digest(about.tenant, about.image)
        if record is None:
            return ""
        entries = await self.memory.entries_of(about.tenant, record.id)
        return next((entry.id for entry in entries if entry.decision == about.id), "")

    async def remove(self, tenant: str, entry: str) -> int:
        """Removes one entry everywhere."""
        deleted = await self.memory.delete(Selection(tenant, entries=(entry,)))
        await self.exact_cache.drop(tenant, frozenset([entry]))
        return deleted.entries

    async def undo(self, about: Decision, served: Entry | None) -> None:
        """Takes back what let a wrong answer be served, and parts the two questions for good."""
        if about.hit and about.question_digest != about.nearest_question_digest:
            spelling = about.question_tier == "NORMALISED"
            self.parted.add(about.tenant, about.question_digest, about.nearest_question_digest, spelling=spelling)
        if about.question_text is not None and about.nearest_question_text is not None:
            left, right = normalise(about.question_text), normalise(about.nearest_question_text)
            if about.hit and left != right:
                self.parted.add(about.tenant, digest(left), digest(right), spelling=False)
            await in_threads(self.workers, lambda: self.labelling.deny(about.tenant, left, right))
        await self.separate(about, served)

    async def separate(self, about: Decision, served: Entry | None) -> None:
        """Parts files from the image that they were taken for, when it was the check and not the file that said so:
        the one that was asked about, and the one that the served answer was made from."""
        if about.image_tier not in ("ALIAS", "PERCEPTUAL", "NEIGHBOUR"):
            return
        record = await self.memory.image(about.tenant, about.nearest_image)
        own = record.digests[:2] if record is not None else ()
        for file in {about.image, served.file if served is not None else ""} - {"", *own}:
            await part_file(self.memory, self.exact_cache, self.mismatches, about.tenant, file, about.nearest_image)
