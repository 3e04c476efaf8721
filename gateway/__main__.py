"""Starts the gateway: settings, adapters, use case, servicer, and their end in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from redis import asyncio as redis

from askonce import serving, startup, telemetry
from askonce.access import RELOAD_SECONDS, is_loopback, shows
from askonce.dialing import dial
from askonce.periodic import PeriodicTask, PeriodicThread
from askonce.redis_client import Outage, connect
from askonce.secret_file import SecretFile
from askonce.serving import Registration, Server
from askonce.settings import SettingsError
from askonce.v1 import answer_pb2
from gateway.admission import Admission
from gateway.answering import Answering
from gateway.auth import Authenticator, Everybody, KeyFiles, from_settings
from gateway.background import Background
from gateway.clients import DedupClient, InferenceClient
from gateway.feedback import Feedback
from gateway.fetching import Fetcher
from gateway.guardrails import BuiltInGuardrails, read_terms
from gateway.hit_verifier import HitVerifier
from gateway.hosted_model import UNKNOWN_INTERVAL, HostedModel, Model
from gateway.http.routes import Routes
from gateway.http.server import HttpServer
from gateway.image_sources import ImageSources
from gateway.images import ChildDecoder, Decoder, Inspector
from gateway.job_service import NAME as JOB_SERVICE
from gateway.job_service import JobService
from gateway.job_store import JobStore
from gateway.jobs import SWEEP_INTERVAL, Jobs, Queue
from gateway.jobs_redis import SharedJobs
from gateway.judge import Judge
from gateway.leases import Leases, NoLeases
from gateway.leases_redis import RedisLeases
from gateway.pdf import PdfPages
from gateway.rates import Rate
from gateway.removals import INTERVAL as REMOVALS_INTERVAL
from gateway.removals import Removals
from gateway.replicas import RESOLVE_SECONDS, Replicas
from gateway.service import NAME, AnswerService
from gateway.settings import Settings

JOBS_TIMEOUT = 5.0
"""Seconds that keeping one job may take: it may hold 20 MiB of images."""
WAITS_BY_ITSELF = 0.0
"""The interval of steps that wait for something to do."""


class Gateway:
    """The parts of a running gateway."""

    def __init__(
        self, settings: Settings, authenticator: Authenticator, terms: list[str], decoder: Decoder | None = None
    ) -> None:
        """`decoder` checks images; in this process where none is given."""
        bounds, timeouts = settings.bounds, settings.timeouts
        self.settings = settings
        self.replicas = Replicas(settings.dedup)
        self.inference_channel = dial(settings.inference)
        self.dedup = dedup = DedupClient(self.replicas)
        inference = InferenceClient(self.inference_channel)
        pinned = Model(settings.model, settings.model_revision) if settings.model else None
        self.hosted = HostedModel(inference, pinned)
        self.inspector = Inspector(settings.images, decoder)
        self.fetcher = Fetcher(settings.fetching, settings.images.max_bytes)
        self.pdf = PdfPages(settings.pdf)
        self.judge = Judge(inference, dedup, self.hosted, bounds.judgements, timeouts.judge, settings.judge)
        self.hit_verifier = HitVerifier(inference, dedup, bounds.explorations, timeouts.generate, timeouts.verification)
        self.background = Background(bounds.background)
        self.redis = connect(settings.redis) if settings.redis else None
        outage = Outage()
        self.leases: Leases = NoLeases() if self.redis is None else RedisLeases(self.redis, timeouts.lease, outage)
        self.answering = Answering(
            settings,
            dedup,
            inference,
            self.hosted,
            self.inspector,
            ImageSources(settings.images, self.fetcher, self.pdf),
            BuiltInGuardrails(settings.screening.injection, terms),
            self.judge,
            self.hit_verifier,
            self.background,
            self.leases,
        )
        self.admission = Admission(
            authenticator,
            Rate("answers", settings.rates.answers, self.redis, outage),
            Rate("feedback", settings.rates.feedback, self.redis, outage),
            bounds.requests,
        )
        self.feedback = Feedback(dedup, timeouts.remember)
        self.service = AnswerService(self.admission, self.answering, self.feedback)
        self.jobs: Queue | None = None
        self.jobs_redis: redis.Redis | None = None
        if settings.jobs.shared and self.redis is not None:
            self.jobs_redis = connect(settings.redis, JOBS_TIMEOUT)
            self.jobs = SharedJobs(settings.jobs, self.jobs_redis, self.answer_later)
        elif settings.jobs.folder is not None:
            self.jobs = Jobs(settings.jobs, JobStore(settings.jobs.folder), self.answer_later)
        job_service = JobService(self.admission, self.answering, self.jobs)
        registrations = [Registration(NAME, self.service.add), Registration(JOB_SERVICE, job_service.add)]
        self.server = Server(
            "gateway", settings.serving, registrations, gate=lambda method, shown: self.admission.knows(shown, method)
        )
        self.http: HttpServer | None = None
        if settings.edge.listen:
            routes = Routes(settings.edge, self.admission, self.answering, self.feedback, self.hosted, self.jobs)
            self.http = HttpServer(settings.edge, routes.application(), settings.serving.grace)

    async def answer_later(self, request: answer_pb2.AnswerRequest, tenant: str) -> answer_pb2.AnswerResponse:
        """Answers a job."""
        return await self.answering.answer(request, tenant, None, background=True)

    async def prepare(self, stack: AsyncExitStack) -> None:
        """Starts what runs beside the calls; all of it ends, in reverse order, after the last call."""
        stack.push_async_callback(self.replicas.close)
        await self.replicas.refresh()
        stack.push_async_callback(self.inference_channel.close)
        stack.push_async_callback(self.fetcher.close)
        stack.push_async_callback(asyncio.to_thread, self.inspector.close)
        stack.push_async_callback(asyncio.to_thread, self.pdf.close)
        for client in filter(None, (self.redis, self.jobs_redis)):
            stack.push_async_callback(client.aclose)
        tasks = [
            PeriodicTask("hosted", self.hosted.step, UNKNOWN_INTERVAL),
            PeriodicTask("judge", self.judge.step, WAITS_BY_ITSELF),
            PeriodicTask("hit_verifier", self.hit_verifier.step, WAITS_BY_ITSELF),
            PeriodicTask("leases", self.leases.step, WAITS_BY_ITSELF),
            PeriodicTask("replicas", self.replicas.refresh, RESOLVE_SECONDS),
        ]
        if self.jobs is not None:
            await self.jobs.load()
            tasks += [
                PeriodicTask("jobs", self.jobs.step, WAITS_BY_ITSELF),
                PeriodicTask("expiry of jobs", self.jobs.expire, SWEEP_INTERVAL),
                PeriodicTask("removals", Removals(self.dedup, self.jobs).step, REMOVALS_INTERVAL),
            ]
        for task in tasks:
            await task.start()
            stack.push_async_callback(task.stop)
        stack.push_async_callback(self.background.drain, self.settings.timeouts.drain)
        await self.hosted.refresh()
        if self.http is not None:
            stack.push_async_callback(self.http.stop)
            await self.http.start()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the gateway until SIGINT or SIGTERM."""
    about = "Answers questions about images, from memory where that is safe and from the model where it is not."
    startup.command("askonce-gateway", "gateway", Settings, about, run, arguments, check=check)


def check(settings: Settings) -> tuple[Authenticator, list[str]]:
    """Makes sure that the settings go together, and reads the files that they name: who may ask, and forbidden terms.

    Raises SettingsError, StartError and OSError.
    """
    if settings.jobs.shared and not settings.redis:
        raise SettingsError("jobs.shared: name ASKONCE_GATEWAY_REDIS, where the jobs are to be kept")
    authenticator = from_settings(settings.auth)
    refuse_open(settings, authenticator)
    terms = settings.screening.terms
    return authenticator, read_terms(terms.read_text(encoding="utf-8").splitlines()) if terms else []


def run(settings: Settings) -> None:
    """Serves with these settings. Raises SettingsError, StartError and OSError."""
    authenticator, forbidden = check(settings)
    keys = Keys(settings.service_key, authenticator)
    metrics = telemetry.start_metrics(settings.telemetry.metrics_listen)
    refreshing = PeriodicThread("keys", keys.refresh, RELOAD_SECONDS)
    refreshing.start()
    try:
        asyncio.run(serve(settings, authenticator, forbidden))
    finally:
        refreshing.stop()
        if metrics is not None:
            metrics[1].shutdown()


class Keys:
    """The files of keys of a running gateway: what it shows to the other services, and whom it lets in."""

    def __init__(self, service_key: Path | None, authenticator: Authenticator) -> None:
        """Makes the service key where there is none. Raises SettingsError."""
        self.service_key = SecretFile(service_key) if service_key is not None else None
        self.authenticator = authenticator
        self.show()

    def show(self) -> None:
        """Shows the other services the secret that is in force."""
        if self.service_key is not None:
            telemetry.Credential.metadata = shows(self.service_key)

    def refresh(self) -> None:
        """Reads the files again that changed. Raises SettingsError or OSError when one can't be read."""
        try:
            if self.service_key is not None:
                self.service_key.refresh()
        finally:
            self.show()
            if isinstance(self.authenticator, KeyFiles):
                self.authenticator.refresh()


def refuse_open(settings: Settings, authenticator: Authenticator) -> None:
    """Makes sure that a gateway without keys is not open to other machines by mistake.

    Raises SettingsError, and StartError for an address that is none."""
    for listen in filter(None, (settings.serving.listen, settings.edge.listen)):
        serving.host_and_port(listen)
        if settings.auth.open or not isinstance(authenticator, Everybody):
            continue
        if not is_loopback(listen):
            raise SettingsError(
                f"{listen} can be reached from other machines and nobody needs a key: name "
                "ASKONCE_GATEWAY_AUTH_API_KEYS or ASKONCE_GATEWAY_AUTH_JWT_KEY, listen on 127.0.0.1, or set "
                "ASKONCE_GATEWAY_AUTH_OPEN=true"
            )


async def serve(settings: Settings, authenticator: Authenticator, forbidden: list[str]) -> None:
    """Builds the gateway inside the running loop and serves."""
    gateway = Gateway(settings, authenticator, forbidden, ChildDecoder(settings.images))
    await serving.run(gateway.server, gateway.prepare)


if __name__ == "__main__":
    main()
