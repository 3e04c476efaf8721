"""Which remembered question about this image is this? Exact, normalised, known by heart, judged, or scored."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache

from askonce.fair import in_threads
from dedup_service.ledger.records import digest
from dedup_service.policy.policy import IntentSharing, Policy
from dedup_service.policy.reuse import NORMALISED_PROBABILITY, UNKNOWN, Side
from dedup_service.question.asked_encoder import AskedEncoder
from dedup_service.question.encoder import EncoderFailedError
from dedup_service.question.pair_memory import PairMemory
from dedup_service.question.score import Calibration, gather
from dedup_service.question.veto import Veto
from dedup_service.store.records import Entry, Memory, Vector, entry_id
from dedup_service.usecases.metrics import CANDIDATES as COMPARED
from dedup_service.usecases.parted_questions import PartedQuestions
from dedup_service.usecases.query import Query

CANDIDATES = 20
"""Most stored questions scored in one look-up: all that an image keeps by default."""


@dataclass(frozen=True, slots=True)
class Match:
    """One stored question compared with the new one."""

    side: Side
    entry: Entry
    vetoes: tuple[Veto, ...] = ()
    cosine: float = 0.0
    prior: float = 0.0
    """What the likeness of the two texts alone says: log-odds."""
    judged: bool = False
    """Whether that the two are the same rests on a judge's word alone."""


@dataclass(frozen=True, slots=True)
class Matching:
    """What is known about the question of one look-up."""

    matches: tuple[Match, ...] = ()
    """Compared questions, best first."""
    vector: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    """The new question's vector, shape (D,); empty when it was not needed or can't be had."""
    readable: bool = True
    """Whether the encoder can read the new question."""
    failed: bool = False
    """Whether the encoder gave no vector although it should have: its process died, or took too long."""

    @property
    def best(self) -> Match | None:
        """The best match, if anything was compared."""
        return self.matches[0] if self.matches else None

    @property
    def side(self) -> Side:
        """The verdict for the decision."""
        if self.best is not None:
            return self.best.side
        return Side(UNKNOWN, reason=self.problem or "NO_QUESTION")

    @property
    def problem(self) -> str:
        """Why the question has no vector; empty when that is no fault."""
        if self.failed:
            return "ENCODER_UNAVAILABLE"
        return "" if self.readable else "UNREADABLE_BY_ENCODER"


class QuestionMatcher:
    """Finds the question among those asked about one image."""

    def __init__(
        self,
        memory: Memory,
        encoder: AskedEncoder,
        pairs: PairMemory,
        parted: PartedQuestions,
        workers: Executor,
        *,
        calibration: Calibration | None = None,
        vectors: int = 20_000,
    ) -> None:
        """`vectors` bounds the vectors of recent questions kept for repeats (about 2 kB each)."""
        self.memory = memory
        self.encoder = encoder
        self.pairs = pairs
        self.parted = parted
        self.workers = workers
        self.calibration = calibration or Calibration.prior()
        self.vectors: LRUCache[str, Vector] = LRUCache(vectors)

    async def exact(self, query: Query, image: str) -> Match | None:
        """The entry for the same question after normalisation."""
        entry = await self.memory.entry(query.tenant, entry_id(query.tenant, image, query.space, query.normal))
        if entry is not None and self.apart(query, entry):
            return None
        return same_normal(query, entry) if entry is not None else None

    async def match(self, query: Query, image: str, policy: Policy) -> Matching:
        """Compares the question with those stored for this image; the best match comes first."""
        unmatched = await self.encoded(query)
        vector = unmatched.vector
        if unmatched.problem:
            return unmatched
        near = await self.memory.entries_near(query.tenant, image, query.space, vector, CANDIDATES)
        found = [(scored.record, scored.similarity) for scored in near]
        COMPARED.labels("question").observe(len(found))
        matches = await in_threads(
            self.workers, lambda: [self.compare(query, entry, cosine, policy) for entry, cosine in found]
        )
        return Matching(tuple(sorted(matches, key=rank, reverse=True)), vector)

    async def encoded(self, query: Query) -> Matching:
        """The question's vector, compared with nothing yet, or why there is none."""
        try:
            if not await self.readable(query):
                return Matching(readable=False)
            return Matching((), await self.vector(query))
        except EncoderFailedError:
            return Matching(readable=False, failed=True)

    async def readable(self, query: Query) -> bool:
        """Whether the encoder can read the question."""
        return await in_threads(self.workers, lambda: self.encoder.readable(query.question))

    async def vector(self, query: Query) -> Vector:
        """The question's vector; computed once per normal form while it is remembered."""
        vector = self.vectors.get(query.normal)
        if vector is None:
            vector = (await in_threads(self.workers, lambda: self.encoder.encode([query.question])))[0]
            self.vectors[query.normal] = vector
        return vector

    def compare(self, query: Query, entry: Entry, cosine: float, policy: Policy) -> Match:
        """Weighs all evidence about one pair. Pure apart from what is known by heart; safe in a worker thread."""
        if self.apart(query, entry):
            return Match(Side("DIFFERENT", "KNOWN", 0.0, "PARTED", vetoed=True), entry, cosine=cosine, prior=0.0)
        if entry.normal == query.normal:
            return same_normal(query, entry)
        shared = policy.shared_intents is not IntentSharing.NONE
        known = self.pairs.verdict(query.tenant, query.normal, entry.normal, shared=shared)
        judged = query.judged
        applies = (
            judged is not None
            and (judged.left, judged.right) == (query.question, entry.question)
            and judged.image in (b"", query.byte_digest)
        )
        evidence = gather(
            query.question,
            entry.question,
            cosine if self.encoder.calibrated else math.nan,
            protected_terms=policy.protected_terms,
            known=known.log_odds or None,
            judge=judged.same_probability if judged is not None and applies else None,
        )
        score = self.calibration.score(evidence)
        vetoed = bool(evidence.vetoes)
        tier = "JUDGED" if evidence.judge is not None else "NEIGHBOUR" if known.state == "unknown" else "KNOWN"
        verdict = "DIFFERENT" if vetoed or known.state == "different" else "UNSURE"
        if not vetoed and score.probability >= policy.question_threshold:
            verdict = "SAME"
        side = Side(verdict, tier, score.probability, score.reason, vetoed)
        likeness = self.calibration.similarity_log_odds(evidence)
        return Match(side, entry, evidence.vetoes, cosine, likeness, evidence.judge is not None or known.judged)

    def apart(self, query: Query, entry: Entry) -> bool:
        """Whether a client's feedback parted the two questions, as they are spelt or in their normal forms."""
        mine, theirs = (query.question, query.normal), (entry.question, entry.normal)
        return any(
            self.parted.parted(query.tenant, digest(one), digest(other))
            for one, other in zip(mine, theirs, strict=True)
        )


def same_normal(query: Query, entry: Entry) -> Match:
    """The match of equal normal forms."""
    if entry.question == query.question:
        return Match(Side("SAME", "EXACT", 1.0, "EXACT"), entry, cosine=1.0)
    return Match(Side("SAME", "NORMALISED", NORMALISED_PROBABILITY, "NORMALISED"), entry, cosine=1.0)


def rank(match: Match) -> tuple[bool, float, float]:
    """Order of matches: unvetoed first, then by probability, then by cosine."""
    return (not match.side.vetoed, match.side.probability, match.cosine)
