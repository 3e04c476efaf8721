"""The use case: answer a question about an image, from memory where that is safe and from the model where it is not.

A request first looks its digest up. Only when that settles nothing does it enter the slow path, which equal requests
share: check the image, look up with its content, have a judge decide if dedup wants that, and ask the model. Asking the
model is shared once more, between requests whose answers may stand in for one another though their bytes differ.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from cachetools import LRUCache

from askonce import telemetry
from askonce.faults import Absent, Fault, TooLate, Unreachable
from askonce.v1 import answer_pb2, content_pb2, dedup_pb2, inference_pb2
from gateway import images, metrics, response_format
from gateway.ask import Ask, add_content, generate_request, judged_on, lookup_request
from gateway.background import Background
from gateway.clients import DedupClient, DedupDown, InferenceClient
from gateway.deadlines import Deadline
from gateway.guardrails import Guardrails
from gateway.hit_verifier import HitVerifier, UnverifiedHit
from gateway.hosted_model import HostedModel
from gateway.image_sources import ImageSources, named_in, placed
from gateway.judge import Judge
from gateway.keys import generation_key, is_private, request_key, tenant_key
from gateway.leases import Held, Leases
from gateway.provenance import LookupResult, Outcome, coalesced, set_duration, trace
from gateway.settings import Settings
from gateway.single_flight import Flight, SingleFlight
from gateway.validation import CANONICAL_DEFAULT, canonical, check_request

INSPECTED = 16_384
"""Digests of images that are known to be sound."""

ANNOUNCED = 0.3
"""Seconds to wait for a generation that memory says another gateway is about to begin."""
SCREEN_ON_LOOP = 150
"""Characters of question and history that are screened on the event loop, in less than a millisecond."""

Event = answer_pb2.StreamAnswerResponse
"""A piece of text or of thinking; summaries are made for each waiter."""


Shared = Flight[Event, Outcome]


class Answering:
    """Answers requests."""

    def __init__(
        self,
        settings: Settings,
        dedup: DedupClient,
        inference: InferenceClient,
        hosted: HostedModel,
        inspector: images.Inspector,
        sources: ImageSources,
        guardrails: Guardrails,
        judge: Judge,
        hit_verifier: HitVerifier,
        background: Background,
        leases: Leases,
    ) -> None:
        self.settings = settings
        self.timeouts = settings.timeouts
        self.dedup = dedup
        self.inference = inference
        self.hosted = hosted
        self.inspector = inspector
        self.sources = sources
        self.guardrails = guardrails
        self.judge = judge
        self.hit_verifier = hit_verifier
        self.background = background
        self.leases = leases
        self.requests: SingleFlight[Event, Outcome] = SingleFlight(background, linger=0.0, merge=merged)
        self.generations: SingleFlight[Event, Outcome] = SingleFlight(background, linger=self.timeouts.linger)
        self.inspected: LRUCache[tuple[str, bytes], bool] = LRUCache(INSPECTED)

    async def answer(
        self, request: answer_pb2.AnswerRequest, tenant: str, seconds: float | None, background: bool = False
    ) -> answer_pb2.AnswerResponse:
        """Answers in one piece. `seconds` is the time that the client allows. Raises Fault."""
        ask = await self.accept(request, tenant, seconds, background)
        found = await self.recall(ask)
        if (hit := found.hit) is not None:
            outcome, joined = self.serve(ask, found, hit), False
        else:
            flight, joined = self.enter(ask, found)
            outcome = await flight.outcome(ask.deadline)
        return self.respond(ask, outcome, joined, None)

    async def stream(
        self, request: answer_pb2.AnswerRequest, tenant: str, seconds: float | None
    ) -> AsyncIterator[answer_pb2.StreamAnswerResponse]:
        """Answers piece by piece; the last event is the summary. Raises Fault."""
        ask = await self.accept(request, tenant, seconds)
        found = await self.recall(ask)
        first: float | None = None
        if (hit := found.hit) is not None:
            outcome, joined = self.serve(ask, found, hit), False
            first = time.monotonic()
            for event in pieces(outcome.answer):
                yield event
        else:
            flight, joined = self.enter(ask, found)
            async for event in flight.follow(ask.deadline):
                first = first or time.monotonic()
                yield event
            outcome = await flight.outcome(ask.deadline)
        yield Event(summary=self.respond(ask, outcome, joined, first))

    async def check(self, request: answer_pb2.AnswerRequest) -> None:
        """Checks all of a request that can be checked without fetching or decoding anything. Raises Fault."""
        check_request(request, self.settings.texts, self.settings.images.max_images)
        await self.pass_screen(request.question)
        self.sources.glance(request)

    async def accept(
        self, request: answer_pb2.AnswerRequest, tenant: str, seconds: float | None, background: bool = False
    ) -> Ask:
        """Checks a request and gets its image. Raises Fault."""
        started = time.monotonic()
        deadline = Deadline(started + (self.timeouts.request if seconds is None else seconds))
        check_request(request, self.settings.texts, self.settings.images.max_images)
        await self.pass_screen(request.question)
        pictures = await self.sources.resolve(request, tenant, deadline)
        ask = Ask(
            tenant=tenant,
            pictures=pictures.all,
            question=placed(request.question, pictures),
            params=canonical(request.params) if request.HasField("params") else CANONICAL_DEFAULT,
            mode=request.cache_mode or answer_pb2.CACHE_MODE_DEFAULT,
            limits=request.limits if request.HasField("limits") else None,
            tags=tuple(request.tags),
            model=self.hosted.model or await self.hosted.get(deadline.cap(self.timeouts.lookup)),
            started=started,
            resolved=time.monotonic() - started,
            deadline=deadline,
            background=background,
        )
        telemetry.note(
            image=ask.digest[:8].hex(),
            images=len(ask.pictures),
            image_bytes=sum(len(picture.content) for picture in ask.pictures),
            question_chars=len(ask.question.text),
        )
        return ask

    async def pass_screen(self, question: content_pb2.Question) -> None:
        """Screens a question; a long one in a thread. Raises Fault."""
        if len(question.text) + sum(len(turn.text) for turn in question.history) <= SCREEN_ON_LOOP:
            self.guardrails.screen(question)
        else:
            await asyncio.to_thread(self.guardrails.screen, question)

    async def recall(self, ask: Ask) -> LookupResult:
        """The first look-up, by digest."""
        return await self.look(ask, lookup_request(ask, self.judge.available), self.timeouts.lookup, 0.0)

    async def look(self, ask: Ask, request: dedup_pb2.LookupRequest, seconds: float, spent: float) -> LookupResult:
        """One look-up; dedup down or late means to go on without it. Raises the fault of a refused request."""
        started = time.monotonic()
        try:
            response = await self.dedup.lookup(request, ask.deadline.cap(seconds), ask.digest)
        except DedupDown as down:
            if ask.deadline.remaining() <= 0:
                raise TooLate("DEADLINE_EXCEEDED", "The deadline passed during the look-up. Allow more time.") from down
            metrics.FAIL_OPEN.labels(down.reason).inc()
            telemetry.note(fail_open=down.reason)
            return LookupResult(None, spent + time.monotonic() - started)
        return LookupResult(response, spent + time.monotonic() - started)

    def enter(self, ask: Ask, found: LookupResult) -> tuple[Shared, bool]:
        """Joins the slow path of an equal request under way, or begins one. Says which."""
        key = None if is_private(ask) else request_key(ask)
        flight = self.requests.find((key,)) if key else None
        if flight is not None:
            return flight, True

        async def work(flight: Shared) -> None:
            await self.work(ask, found, flight)

        return self.requests.begin(key, work), False

    async def work(self, ask: Ask, found: LookupResult, flight: Shared) -> None:
        """The slow path of one request and all its equals."""
        found = await self.search(ask, found)
        if (hit := found.hit) is not None:
            settle(flight, self.serve(ask, found, hit))
        elif ask.mode == answer_pb2.CACHE_MODE_ONLY_IF_CACHED:
            raise not_cached(found)
        else:
            await self.sound(ask)
            await self.obtain(ask, found, flight)

    async def search(self, ask: Ask, found: LookupResult) -> LookupResult:
        """Gives dedup what it asks for, the image's content and a verdict of the judge, each at most once."""
        request = lookup_request(ask, self.judge.available)
        for _ in range(2):
            response = found.response
            outcome = response.WhichOneof("outcome") if response is not None else None
            if response is None or outcome in ("hit", "miss"):
                break
            if outcome == "content_wanted" and not (request.image_content or request.page_contents):
                await self.sound(ask)
                add_content(request, ask)
            elif outcome == "judgement_wanted" and not request.HasField("judged"):
                verdict = await self.judgement(ask, response)
                if verdict is None:
                    break
                request.judged.CopyFrom(verdict)
            else:
                break
            found = await self.look(ask, request, self.timeouts.search, found.seconds)
        if found.response is not None and found.response.WhichOneof("outcome") in ("content_wanted", None):
            metrics.FAIL_OPEN.labels("UNSETTLED").inc()
            return LookupResult(None, found.seconds)
        return found

    async def judgement(self, ask: Ask, response: dedup_pb2.LookupResponse) -> dedup_pb2.JudgedPair | None:
        """An inline verdict, when the deadline leaves time for it; otherwise the pair is judged in the background.

        On the image where dedup wants that and there is one: several are no one page.
        """
        verdict, pair = None, response.judgement_wanted.pair
        if ask.deadline.remaining() >= 3 * self.timeouts.judge:
            on = None
            if response.judgement_wanted.on_image and len(ask.pictures) == 1:
                await self.sound(ask)
                on = judged_on(ask, response.max_pixels, self.scope(ask.tenant))
            verdict = await self.judge.decide(pair, self.timeouts.judge, on)
        if verdict is None and ask.mode != answer_pb2.CACHE_MODE_NO_STORE:
            self.judge.offer(ask.tenant, pair)
        return verdict

    async def sound(self, ask: Ask) -> None:
        """Makes sure that every image can be decoded, once per digest and tenant. Raises InvalidInput."""
        for number, picture in enumerate(ask.pictures):
            key = (self.scope(ask.tenant), picture.digest)
            if picture.sound or key in self.inspected:
                continue
            try:
                await self.inspector.inspect(picture.content, ask.tenant)
            except Fault as fault:
                raise (named_in(fault, "image", f"images[{number}]") if len(ask.pictures) > 1 else fault) from None
            self.inspected[key] = True

    def scope(self, tenant: str) -> str:
        """Who shares what is kept of images besides answers: nobody but the tenant, unless the settings say so."""
        return "" if self.settings.share_image_caches else tenant

    async def obtain(self, ask: Ask, found: LookupResult, flight: Shared) -> None:
        """Gets a fresh answer: from a generation under way that may stand in for ours, or from one of our own."""
        miss = found.miss
        if miss.HasField("judge") and ask.mode != answer_pb2.CACHE_MODE_NO_STORE:
            for pair in (miss.judge, *miss.further_pairs):
                self.judge.offer(ask.tenant, pair)
        key = generation_key(ask, found)
        equal = self.generations.find((key,)) if key else None
        if equal is not None and await self.ride(ask, found, equal, flight):
            return
        near = self.generations.find([tenant_key(ask, each) for each in miss.joinable_flight_keys])
        if near is not None and near is not equal and await self.borrow(ask, found, near, flight):
            return

        async def lead(own: Shared) -> None:
            await self.lead(ask, found, own, key if near is None and equal is None else None)

        own = self.generations.begin(key if equal is None else None, lead)
        own.relay(flight)
        flight.settle(await own.outcome(self.patience(ask)))

    async def ride(self, ask: Ask, found: LookupResult, other: Shared, flight: Shared) -> bool:
        """Follows an equal generation, piece by piece; says False when it does not begin in time."""
        try:
            await other.begun(Deadline.after(self.timeouts.join))
        except TooLate:
            return False
        other.relay(flight)
        outcome = await other.outcome(self.patience(ask))
        metrics.COALESCED.labels("equal").inc()
        flight.settle(Outcome(outcome.answer, coalesced(found, outcome, found.miss.reason)))
        return True

    async def borrow(self, ask: Ask, found: LookupResult, other: Shared, flight: Shared) -> bool:
        """Waits for a generation that this request would have hit; its answer counts only if it could be stored."""
        try:
            outcome = await other.outcome(Deadline.after(self.timeouts.join))
        except TooLate:
            return False
        if not storable(outcome, ask.params):
            return False
        metrics.COALESCED.labels("near").inc()
        settle(flight, Outcome(outcome.answer, coalesced(found, outcome, "COALESCED")))
        return True

    async def lead(self, ask: Ask, found: LookupResult, flight: Shared, key: bytes | None) -> None:
        """Generates, unless another gateway generates what may stand in for this answer: then it waits for that one and
        looks up again. No key for an answer of its own."""
        if key is None or self.leases.alone or not found.miss.ticket or ask.mode == answer_pb2.CACHE_MODE_NO_STORE:
            await self.generate(ask, found, flight)
            return
        until = Deadline.after(self.timeouts.join)
        near = [tenant_key(ask, each) for each in found.miss.joinable_flight_keys]
        if near and (other := await self.leases.held(near, ANNOUNCED)) is not None:
            await self.leases.freed(other, until.remaining())
        if near:  # or it has ended by now
            found, settled = await self.look_again(ask, found, flight)
            if settled:
                return
        while True:
            async with self.leases.hold(key) as held:
                if held is Held.AFTER:
                    found, settled = await self.look_again(ask, found, flight)
                    if settled:
                        return
                if held is not Held.THEIRS or until.remaining() <= 0:
                    await self.generate(ask, found, flight)
                    return
            await self.leases.freed(key, until.remaining())

    async def look_again(self, ask: Ask, found: LookupResult, flight: Shared) -> tuple[LookupResult, bool]:
        """Looks up what another gateway may have stored by now; a hit settles the flight. Says which."""
        patient = replace(ask, deadline=self.patience(ask))
        again = await self.search(patient, await self.recall(patient))
        if again.response is None:
            return found, False
        again = LookupResult(again.response, found.seconds + again.seconds)
        if (hit := again.hit) is None:
            return again, False
        metrics.COALESCED.labels("gateway").inc()
        outcome = self.serve(ask, again, hit)
        outcome.provenance.coalesced = True
        settle(flight, outcome)
        return again, True

    def patience(self, ask: Ask) -> Deadline:
        """How long shared work may take. Not the first caller's deadline: others may wait longer than that one."""
        return Deadline.after(self.timeouts.generate + self.timeouts.join)

    async def generate(self, ask: Ask, found: LookupResult, flight: Shared) -> None:
        """Asks the model, hands its pieces on, and stores the answer."""
        started = time.monotonic()
        summary: inference_pb2.GenerateSummary | None = None
        async for event in self.inference.generate(
            generate_request(ask, found, self.scope(ask.tenant)), self.timeouts.generate
        ):
            match event.WhichOneof("event"):
                case "text":
                    flight.publish(Event(text=event.text))
                case "thinking_text" if ask.params.thinking:
                    flight.publish(Event(thinking_text=event.thinking_text))
                case "summary":
                    summary = event.summary
        if summary is None:
            raise Unreachable("GENERATION_INCOMPLETE", "The model broke off in the middle; ask again.", retry_after=1.0)
        seconds = time.monotonic() - started
        provenance = content_pb2.Provenance(source=content_pb2.SOURCE_MODEL, reason=found.miss.reason)
        trace(provenance, found)
        set_duration(provenance.timings.generate, seconds)
        if summary.HasField("timings"):
            provenance.timings.engine.CopyFrom(summary.timings)
        outcome = Outcome(summary.answer, provenance, unfit=summary.unfit_reason)
        if self.background.full:
            await self.remember(ask, found, outcome, seconds)
            flight.settle(outcome)
        else:
            flight.settle(outcome)
            await self.remember(ask, found, outcome, seconds)

    async def remember(self, ask: Ask, found: LookupResult, outcome: Outcome, seconds: float) -> None:
        """Stores a fresh answer, if it may be. A failure costs a later hit and nothing else."""
        ticket, answer = found.miss.ticket, outcome.answer
        if not ticket or ask.mode == answer_pb2.CACHE_MODE_NO_STORE:
            return
        if not storable(outcome, ask.params):
            metrics.REMEMBERED.labels("unfit").inc()
            return
        if (answer.model, answer.model_revision) != (ask.model.name, ask.model.revision):
            # The model changed between look-up and answer: the ticket is sealed for the other one.
            metrics.REMEMBERED.labels("other_model").inc()
            await self.hosted.refresh()
            return
        request = dedup_pb2.RememberRequest(
            parent=ask.tenant, ticket=ticket, answer=answer, replace=ask.mode == answer_pb2.CACHE_MODE_REFRESH
        )
        set_duration(request.generate_duration, seconds)
        try:
            response = await self.dedup.remember(request, self.timeouts.remember, ask.digest)
        except Fault as fault:
            metrics.REMEMBERED.labels(fault.reason).inc()
            telemetry.note(remember=fault.reason)
            return
        metrics.REMEMBERED.labels("stored" if response.stored else response.reason or "kept_older").inc()

    def serve(self, ask: Ask, found: LookupResult, hit: dedup_pb2.Hit) -> Outcome:
        """The outcome of a hit; one that the policy drew is queued for verification."""
        assert found.response is not None
        provenance = content_pb2.Provenance(
            source=content_pb2.SOURCE_CACHE, reason=hit.reason, entry=hit.entry, store_time=hit.store_time
        )
        if hit.HasField("generate_duration"):
            provenance.saved_duration.CopyFrom(hit.generate_duration)
        trace(provenance, found)
        evidence = found.response.evidence
        metrics.hits(
            content_pb2.ImageTier.Name(evidence.image_tier).removeprefix("IMAGE_TIER_"),
            content_pb2.QuestionTier.Name(evidence.question_tier).removeprefix("QUESTION_TIER_"),
        ).inc()
        if hit.explore and found.response.decision:
            self.hit_verifier.offer(
                UnverifiedHit(ask.tenant, found.response.decision, generate_request(ask, found, self.scope(ask.tenant)))
            )
        return Outcome(hit.answer, provenance)

    def respond(self, ask: Ask, outcome: Outcome, joined: bool, first: float | None) -> answer_pb2.AnswerResponse:
        """One waiter's response: the shared outcome with its own id and timings."""
        now = time.monotonic()
        response = answer_pb2.AnswerResponse(
            answer=outcome.answer, provenance=outcome.provenance, request_id=telemetry.request_id()
        )
        provenance = response.provenance
        if joined:
            provenance.coalesced = True
        timings = provenance.timings
        set_duration(timings.total, now - ask.started)
        set_duration(timings.resolve, ask.resolved)
        set_duration(timings.first_token, (first or now) - ask.started)
        source = "cache" if provenance.source == content_pb2.SOURCE_CACHE else "model"
        metrics.answers(source, provenance.reason).inc()
        metrics.totals(source).observe(now - ask.started)
        metrics.first_pieces(source).observe((first or now) - ask.started)
        telemetry.note(
            source=source,
            reason=provenance.reason,
            entry=provenance.entry,
            decision=provenance.decision,
            policy=provenance.policy_revision,
            coalesced=provenance.coalesced,
        )
        return response


def storable(outcome: Outcome, params: content_pb2.GenerationParams) -> bool:
    """Whether an answer is known to be whole and fit to be stored, says something, and has the form asked for."""
    answer = outcome.answer
    if outcome.unfit or answer.finish_reason != content_pb2.FINISH_REASON_STOP or not answer.text.strip():
        return False
    return not params.HasField("response_format") or response_format.holds(params.response_format, answer.text)


def pieces(answer: content_pb2.Answer) -> list[Event]:
    """A whole answer as the events of a stream."""
    events = [Event(thinking_text=answer.thinking_text)] if answer.thinking_text else []
    return [*events, Event(text=answer.text)]


def merged(events: Sequence[Event]) -> list[Event]:
    """Events that waited together, neighbours of one kind as one."""
    together: list[Event] = []
    for kind, some in itertools.groupby(events, lambda event: event.WhichOneof("event")):
        match kind:
            case "text":
                together.append(Event(text="".join(event.text for event in some)))
            case "thinking_text":
                together.append(Event(thinking_text="".join(event.thinking_text for event in some)))
            case _:
                together.extend(some)
    return together


def settle(flight: Shared, outcome: Outcome) -> None:
    """Ends a flight with an answer that is there as a whole."""
    for event in pieces(outcome.answer):
        flight.publish(event)
    flight.settle(outcome)


def not_cached(found: LookupResult) -> Fault:
    """The fault of a request that would not have the model asked."""
    if found.response is None:
        return Unreachable("DEDUP_UNAVAILABLE", "Memory does not answer; try again shortly.", retry_after=1.0)
    return Absent(
        "NOT_CACHED",
        "No stored answer may be used; ask with another cache mode to have the model answer.",
        metadata={"miss_reason": found.miss.reason},
    )
