"""What two answers to the same image teach about their questions, and what is done with it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from cachetools import LRUCache

from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.records import Label, Source
from dedup_service.question.answer_frequency import AnswerFrequency
from dedup_service.question.answers import AnswerVerdict, compare_answers
from dedup_service.question.encoder import EncoderFailedError, QuestionEncoder
from dedup_service.question.pair_memory import Evidence, PairMemory
from dedup_service.question.pair_store import Source as Witness
from dedup_service.question.refusals import cannot_tell

TENANTS = 1_000
"""Most tenants whose answer frequencies are kept."""
FEEDBACK_LOG_ODDS = 3.0
"""Weight of a client's word about a pair of questions: as much as a rare answer that two questions share."""
CERTAIN = 0.999
"""A judge's probability is taken as no surer than this, or its complement."""


class Labelling:
    """Turns comparisons into labels for the ledger and evidence on pairs. Blocking: for worker threads; thread-safe."""

    def __init__(
        self,
        pairs: PairMemory,
        ledger: Ledger,
        encoder: QuestionEncoder,
        shares: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`shares` says whether a tenant lets others learn from its pairs of questions."""
        self.pairs = pairs
        self.ledger = ledger
        self.encoder = encoder
        self.shares = shares
        self.clock = clock
        self.lock = threading.Lock()
        self.frequencies: LRUCache[str, AnswerFrequency] = LRUCache(TENANTS)

    def frequency(self, tenant: str) -> AnswerFrequency:
        """How common each answer is for a tenant. Call it under the lock."""
        found = self.frequencies.get(tenant)
        if found is None:
            found = self.frequencies[tenant] = AnswerFrequency()
        return found

    def compare(self, left: str, right: str) -> AnswerVerdict:
        """Compares two answers; long ones by embedding too. Without an encoder these are unsure."""
        try:
            return compare_answers(left, right, embed=self.encoder.encode)
        except EncoderFailedError:
            return AnswerVerdict("unsure", "UNCLEAR")

    def label(
        self, tenant: str, decision: str, source: Source, verdict: AnswerVerdict, answer: str, *, keep_text: bool
    ) -> None:
        """Writes a label down; an unsure comparison is recorded as such and counts for nothing."""
        same = {"same": True, "different": False}.get(verdict.verdict)
        label = Label(decision, tenant, source, same, self.clock(), note=verdict.reason, answer_text=answer)
        self.ledger.record_label(label, keep_text=keep_text)

    def teach(
        self,
        tenant: str,
        left: str,
        right: str,
        verdict: AnswerVerdict,
        answer: str,
        witness: Witness,
        *,
        image: str = "",
        prior: float = 0.0,
    ) -> None:
        """Notes what two answers about one image say about their questions (normal forms).

        `image` names what it was seen on: one image counts once for a pair. `prior` is the log-odds that the texts
        alone gave.
        """
        if verdict.verdict == "unsure":
            return
        same = verdict.verdict == "same"
        known = left == right or self.pairs.verdict(tenant, left, right).state == "same"
        with self.lock:
            frequency = self.frequency(tenant)
            if known:
                frequency.confirm(answer, same)
            log_odds = frequency.log_odds_same(answer) if same else frequency.log_odds_different(answer)
        if left == right:
            return
        self.note(tenant, left, right, Evidence(witness, log_odds, same, self.clock(), image, prior))

    def count(self, tenant: str, answer: str) -> None:
        """Counts a fresh answer: how common it is decides how telling an agreement on it will be. One that can't tell
        is no evidence, and not counted."""
        if cannot_tell(answer):
            return
        with self.lock:
            self.frequency(tenant).add(answer)

    def judge(self, tenant: str, left: str, right: str, same_probability: float) -> None:
        """Notes what the judge said about two questions (normal forms)."""
        probability = min(CERTAIN, max(1 - CERTAIN, same_probability))
        log_odds = math.log(probability / (1 - probability))
        self.note(tenant, left, right, Evidence("judge", log_odds, log_odds > 0, self.clock()))

    def deny(self, tenant: str, left: str, right: str) -> None:
        """Notes that a client called a reuse wrong."""
        if left != right:
            self.note(tenant, left, right, Evidence("feedback", -FEEDBACK_LOG_ODDS, False, self.clock()))

    def note(self, tenant: str, left: str, right: str, evidence: Evidence) -> None:
        """Adds evidence to the tenant's pairs and, where its policy shares, to those of all who read shared ones."""
        self.pairs.add(tenant, left, right, evidence, share=self.shares(tenant))
