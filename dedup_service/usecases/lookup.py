"""The look-up: which image, which question, and whether the stored answer may be used again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from askonce import telemetry
from askonce.fair import in_threads
from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.records import Decision, digest, new_id
from dedup_service.policy.account import Account, LeasedAccount
from dedup_service.policy.policy import JudgeMode, Mode, Policy, tighten
from dedup_service.policy.reuse import UNKNOWN, Reuse, Side, decide, exploration, explored
from dedup_service.policy.revisions import PolicyBook, Revision
from dedup_service.question.neutral import is_neutral
from dedup_service.question.refusals import cannot_tell
from dedup_service.question.subject import Subject, subjects_of
from dedup_service.store.exact_cache import ExactCache, ExactKey
from dedup_service.store.inflight import Inflight, InflightMiss
from dedup_service.store.records import Entry, Memory, Vector, entry_id
from dedup_service.store.usage import Touches
from dedup_service.usecases import metrics
from dedup_service.usecases.image_resolver import JOIN_PROBABILITY, ImageResolver, ResolvedImage
from dedup_service.usecases.miss_ticket import MissTicket, NearMiss, NewImage, TicketSealer
from dedup_service.usecases.query import CacheMode, Query, bound, day_of, within
from dedup_service.usecases.question_matcher import Match, Matching, QuestionMatcher, same_normal

JUDGE_FLOOR = -4.0
"""Least log-odds of two questions, by their texts alone, at which a judge's verdict on them is worth its cost."""
JUDGED_PAIRS = 3
"""Most pairs that a judge is asked about for one miss."""


HOT_STRATA = frozenset({"exact/exact", "exact/normalised"})
"""Kinds of evidence whose hits the hot tier keeps: equal bytes and one normal form."""
HOT_SHARE = 0.95
"""Of its time in the hot tier, less the jitter, an entry has so much left when a hit does not write it there again: a
busy entry costs one write in minutes instead of one a hit, and cools down that much earlier."""
SAME_FILE = Side("SAME", "BYTES", 1.0, "SAME_BYTES")
"""The verdict on two files of equal bytes."""
UNSEEN = Side(UNKNOWN)
"""The verdict where nothing was compared."""
NOTHING = Reuse(False, "MODE_OFF", 1.0, "")
"""The decision where nothing may be reused."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The evidence behind one outcome."""

    revision: Revision
    decision: str
    resolved: ResolvedImage | None = None
    match: Match | None = None
    question: Side = UNSEEN
    reuse: Reuse = NOTHING


@dataclass(frozen=True, slots=True)
class Found:
    """A stored answer that may be used."""

    findings: Findings
    entry: Entry
    explore: bool


@dataclass(frozen=True, slots=True)
class Missed:
    """No stored answer may be used."""

    findings: Findings
    reason: str
    ticket: bytes = field(default=b"", repr=False)
    judge: tuple[tuple[str, str], ...] = ()
    """Pairs of questions worth judging, likeliest first: the new one and a stored one."""
    judge_inline: bool = False
    """Whether the verdict is wanted before the miss is final."""
    judge_on_image: bool = False
    """Whether the judge is to look at the image."""
    flight: str = ""
    joinable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContentWanted:
    """The digest alone does not settle it."""

    revision: Revision


Outcome = Found | Missed | ContentWanted


class Lookup:
    """The use case. It never asks the model."""

    def __init__(
        self,
        memory: Memory,
        exact_cache: ExactCache,
        resolver: ImageResolver,
        matcher: QuestionMatcher,
        book: PolicyBook,
        ledger: Ledger,
        sealer: TicketSealer,
        inflight: Inflight,
        touches: Touches,
        *,
        encoders: str,
        account: Account | LeasedAccount | None = None,
        ticket_ttl: float = 3_600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = memory
        self.exact_cache = exact_cache
        self.resolver = resolver
        self.matcher = matcher
        self.book = book
        self.ledger = ledger
        self.sealer = sealer
        self.inflight = inflight
        self.touches = touches
        self.account = Account() if account is None else account
        self.encoders = encoders
        self.ticket_ttl = ticket_ttl
        self.clock = clock

    async def look_up(self, query: Query) -> Outcome:
        """Looks for an answer. Raises PictureError, PolicyInvalidError for limits looser than the policy's, and
        MemoryUnavailableError."""
        started = time.perf_counter()
        revision = self.book.current(query.tenant)
        policy = tighten(revision.policy, query.limits)
        query = bound(within(query, policy.max_pixels), day_of(self.clock(), policy.time_zone))
        if self.matcher.parted.by_spelling(query.tenant, digest(query.question)):
            query = replace(query, normal=spelt(query.normal, query.question))
        if (reason := unreusable(query, policy)) is not None:
            return self.missed_unseen(query, revision, reason)
        entry = await self.repeated(query, policy)
        if entry is not None and (findings := self.exact_findings(query, revision, policy, entry)).reuse.hit:
            timings = {"hot": (time.perf_counter() - started) * 1e3}
            return await self.found(query, findings, same_normal(query, entry), policy, timings, warm=True)
        self.account.balance(query.tenant)  # where it is low, an allowance is drawn while the image is looked at
        resolved = await self.resolver.known(query.tenant, query.byte_digest)
        if resolved is None:
            if not query.contents:
                return ContentWanted(revision)
            resolved = await self.resolver.resolve(query.tenant, query.contents, policy)
        resolved_at = time.perf_counter()
        matching = await self.match(query, resolved, policy)
        resolved, match, reuse = self.decide(query, resolved, matching, policy)
        findings = Findings(revision, new_id(self.clock()), resolved, match, self.side(match, matching), reuse)
        timings = {
            "recognise": (resolved_at - started) * 1e3,
            "match": (time.perf_counter() - resolved_at) * 1e3,
        }
        if reuse.hit and query.mode.reads and match is not None:
            return await self.found(query, findings, match, policy, timings)
        return await self.missed(query, findings, matching, policy, timings)

    async def repeated(self, query: Query, policy: Policy) -> Entry | None:
        """The answer from the hot tier to an exact repeat."""
        if not query.mode.reads or policy.mode is Mode.SHADOW or policy.hot_ttl == 0:
            return None
        entry = await self.exact_cache.get(exact_key(query))
        if entry is None or not self.usable(query, entry):
            return None
        # The answer may have been replaced since by one to another file of the same image.
        return entry if entry.file in ("", query.byte_digest.hex()) else None

    def usable(self, query: Query, entry: Entry) -> bool:
        """Whether an entry is young enough for the store and for this request."""
        now = self.clock()
        return entry.expire_time > now and (query.max_age is None or now - entry.create_time < query.max_age)

    async def match(self, query: Query, resolved: ResolvedImage, policy: Policy) -> Matching:
        """Compares the question with those stored for the recognised image.

        On an image that is not the same only an equal question is looked for: its answer, compared with the fresh one,
        is a label for the look-alike check.
        """
        nearest = resolved.nearest
        if nearest is not None:
            exact = await self.matcher.exact(query, nearest.id)
            if exact is not None and self.usable(query, exact.entry):
                return Matching((exact,), await self.stored_vector(query, resolved))
        if nearest is None or resolved.side.verdict != "SAME" or query.exact_only:
            return await self.encoded_for_storing(query)
        matching = await self.matcher.match(query, nearest.id, policy)
        young = tuple(match for match in matching.matches if self.usable(query, match.entry))
        return replace(matching, matches=young)

    async def stored_vector(self, query: Query, resolved: ResolvedImage) -> Vector:
        """The question's vector where a ticket may need it: an exact repeat on the same image needs none."""
        if resolved.side.verdict == "SAME" and query.mode.reads:
            return Matching().vector
        return (await self.encoded_for_storing(query)).vector

    async def encoded_for_storing(self, query: Query) -> Matching:
        """The question's vector, where the answer may be stored."""
        return await self.matcher.encoded(query) if query.mode.stores else Matching()

    def decide(
        self, query: Query, resolved: ResolvedImage, matching: Matching, policy: Policy
    ) -> tuple[ResolvedImage, Match | None, Reuse]:
        """The first match that may be reused, else the best one with the reason why not; and the image, with the
        evidence that holds for the file which that match's answer was made from."""
        thresholds = self.book.thresholds(query.tenant)
        balance = self.account.balance(query.tenant)
        first: tuple[ResolvedImage, Match | None, Reuse] | None = None
        for match in matching.matches:
            seen = replace(resolved, side=side_to(match.entry, query, resolved))
            reuse = decide(
                seen.side,
                match.side,
                policy,
                thresholds,
                cross_language=crosses(query, match.entry, policy),
                exact_only=query.exact_only,
                balance=balance,
            )
            if reuse.hit:
                return seen, match, reuse
            first = first or (seen, match, reuse)
        return first or (resolved, None, decide(resolved.side, matching.side, policy, thresholds))

    @staticmethod
    def side(match: Match | None, matching: Matching) -> Side:
        """The verdict on the question that the decision was about."""
        return match.side if match is not None else matching.side

    def exact_findings(self, query: Query, revision: Revision, policy: Policy, entry: Entry) -> Findings:
        """The evidence and the decision about an entry of the hot tier: equal bytes and one normal form."""
        image, match = SAME_FILE, same_normal(query, entry)
        reuse = decide(
            image,
            match.side,
            policy,
            self.book.thresholds(query.tenant),
            exact_only=query.exact_only,
            balance=self.account.balance(query.tenant),
        )
        return Findings(revision, new_id(self.clock()), ResolvedImage(image, entry.image), match, match.side, reuse)

    async def found(
        self,
        query: Query,
        findings: Findings,
        match: Match,
        policy: Policy,
        timings: dict[str, float],
        *,
        warm: bool = False,
    ) -> Found:
        """Records a hit, keeps the entry warm, and draws it for verification or not. `warm` says that it came from the
        hot tier, which is written to again only when it has cooled down somewhat."""
        now = self.clock()
        self.account.settle(query.tenant, findings.reuse.cost, policy.error_budget)
        drawn = exploration(policy.exploration_rate, judged=match.judged)
        explore = drawn > 0 and explored(findings.decision, drawn)
        kept = replace(policy, sliding_ttl=False) if fleeting(match.entry) else policy
        entry = self.touches.use(match.entry, kept, now)
        if findings.reuse.stratum in HOT_STRATA and policy.hot_ttl > 0 and not (warm and hot(match.entry, policy, now)):
            await self.exact_cache.put(exact_key(query), entry)
        self.record(query, findings, policy, timings, hit=True, explore=explore, drawn=drawn)
        return Found(findings, entry, explore)

    def missed_unseen(self, query: Query, revision: Revision, reason: str) -> Missed:
        """The outcome when no answer may be used again, whatever is stored: nothing is read and nothing stored."""
        findings = Findings(revision, new_id(self.clock()), reuse=replace(NOTHING, reason=reason))
        self.record(query, findings, revision.policy, {}, hit=False)
        return Missed(findings, reason)

    async def missed(
        self, query: Query, findings: Findings, matching: Matching, policy: Policy, timings: dict[str, float]
    ) -> Missed:
        """Records a miss and says how the fresh answer can be stored, shared and learnt from."""
        resolved = findings.resolved
        if resolved is None:
            raise ValueError("a miss beyond mode OFF has an image")
        reason = findings.reuse.reason if query.mode.reads else query.mode.value
        if matching.problem and findings.match is None and resolved.side.verdict == "SAME":
            reason = matching.problem
        # Whoever did not ask memory was no would-be hit of it.
        withheld = findings.reuse.would_hit and query.mode.reads
        findings = replace(findings, reuse=replace(findings.reuse, hit=False, would_hit=withheld, reason=reason))
        judge = worth_judging(query, resolved, matching.matches, policy)
        inline = bool(judge) and policy.judge.inline and query.judge_available
        flight, joinable = await self.share(query, resolved, matching, policy)
        ticket = await self.seal(query, findings, resolved, matching, flight) if query.mode.stores else b""
        if not inline or query.judged is not None:
            self.record(query, findings, policy, timings, hit=False)
        wanted = inline and query.judged is None
        on_image = wanted and policy.judge is JudgeMode.INLINE_ON_IMAGE
        return Missed(findings, reason, ticket, judge, wanted, on_image, flight, joinable)

    async def share(
        self, query: Query, resolved: ResolvedImage, matching: Matching, policy: Policy
    ) -> tuple[str, tuple[str, ...]]:
        """Registers the answer that is about to be generated; returns its key and those of answers under way that this
        request would have hit. Bypass and refresh share nothing: they ask for an answer of their own."""
        if query.mode in (CacheMode.BYPASS, CacheMode.REFRESH, CacheMode.ONLY_IF_CACHED) or policy.mode is Mode.SHADOW:
            return "", ()
        image = resolved.nearest.id if same(resolved) and resolved.nearest else resolved.image
        key = flight_key(query.tenant, image, query.space, query.normal)
        before = await self.inflight.begin(self.flight_of(key, query, image, matching))
        joinable = [
            flight.key
            for flight in before
            if flight.key != key and await self.would_hit(query, resolved, matching, flight, policy)
        ]
        return key, tuple(joinable)

    async def would_hit(
        self, query: Query, resolved: ResolvedImage, matching: Matching, flight: InflightMiss, policy: Policy
    ) -> bool:
        """Whether this request would be served the answer of a flight, were it stored already."""
        if query.exact_only or not len(flight.vector) or not len(matching.vector):
            return False
        cosine = float(flight.vector @ matching.vector)
        match = await in_threads(
            self.matcher.workers, lambda: self.matcher.compare(query, flight.awaited, cosine, policy)
        )
        side = resolved.side if same(resolved) else Side("SAME", "BYTES", 1.0, "SAME_PENDING")
        reuse = decide(
            side,
            match.side,
            policy,
            self.book.thresholds(query.tenant),
            cross_language=flight.awaited.language != query.language,
            balance=self.account.balance(query.tenant),
        )
        return reuse.hit

    def flight_of(self, key: str, query: Query, image: str, matching: Matching) -> InflightMiss:
        """The flight that this request begins."""
        now = self.clock()
        awaited = Entry(
            id=entry_id(query.tenant, image, query.space, query.normal),
            tenant=query.tenant,
            image=image,
            space=query.space,
            question=query.question,
            normal=query.normal,
            language=query.language,
            answer=b"",
            answer_text="",
            model=query.model,
            model_revision="",
            create_time=now,
            hot_until=now,
            expire_time=now,
            last_use=now,
        )
        return InflightMiss(key, query.tenant, image, query.space, now, awaited, matching.vector)

    async def seal(
        self, query: Query, findings: Findings, resolved: ResolvedImage, matching: Matching, flight: str
    ) -> bytes:
        """The ticket under which the fresh answer can be stored."""
        now = self.clock()
        features = resolved.features
        image = resolved.nearest.id if features is None and resolved.nearest else resolved.image
        new_image = None
        if features is not None:
            new_image = NewImage(
                (features.byte_digest, features.pixel_digest, *features.marks),
                features.hashes[0].hex(),
                features.width,
                features.height,
            )
        ticket = MissTicket(
            tenant=query.tenant,
            decision=findings.decision,
            issue_time=now,
            expire_time=now + self.ticket_ttl,
            image=image,
            file=query.byte_digest.hex(),
            space=query.space,
            question=query.question,
            normal=query.normal,
            language=query.language,
            policy_revision=findings.revision.revision,
            encoders=self.encoders,
            new_image=new_image,
            near_misses=tuple(NearMiss(match.entry.id, same(resolved), match.prior) for match in matching.matches),
            tags=query.tags,
            reads=query.mode.reads,
            flight=flight,
            readable=matching.readable,
            question_vector=matching.vector,
            image_vector=features.vectors[0] if features is not None else Matching().vector,
            fingerprint=await self.resolver.pack(query.tenant, features) if features is not None else b"",
        )
        return self.sealer.seal(ticket)

    def record(
        self,
        query: Query,
        findings: Findings,
        policy: Policy,
        timings: dict[str, float],
        *,
        hit: bool,
        explore: bool = False,
        drawn: float = 0.0,
    ) -> None:
        """Writes the decision down, off the request path."""
        resolved, match, reuse = findings.resolved, findings.match, findings.reuse
        image = resolved.side if resolved else UNSEEN
        nearest = match.entry if match else None
        thresholds = self.book.thresholds(query.tenant)
        telemetry.note(reason=reuse.reason, hit=hit, tenant=query.tenant, stratum=reuse.stratum)
        decision = Decision(
            id=findings.decision,
            tenant=query.tenant,
            time=self.clock(),
            request_id=telemetry.request_id(),
            hit=hit,
            would_hit=reuse.would_hit,
            reason=reuse.reason,
            image_tier=image.tier,
            image_verdict=image.verdict,
            image_score=image.probability if image.tier else None,
            image_reason=image.reason,
            image_box=resolved.box if resolved else None,
            question_tier=findings.question.tier,
            question_verdict=findings.question.verdict,
            question_score=findings.question.probability if findings.question.tier else None,
            question_reason=findings.question.reason,
            vetoes=tuple((veto.kind, veto.left, veto.right) for veto in match.vetoes) if match else (),
            stratum=reuse.stratum,
            risk=reuse.risk if match else None,
            max_risk=thresholds.bound(reuse.stratum, policy).most if match else None,
            image_threshold=policy.image_threshold,
            question_threshold=policy.question_threshold,
            policy_revision=findings.revision.revision,
            image=query.byte_digest.hex(),
            nearest_image=nearest_image(resolved, nearest),
            entry=nearest.id if nearest and hit else "",
            nearest_entry=nearest.id if nearest else "",
            question_text=query.question,
            nearest_question_text=nearest.question if nearest else None,
            nearest_answer_text=nearest.answer_text if nearest else None,
            language=query.language,
            cross_language=bool(nearest and crosses(query, nearest, policy)),
            model=query.model,
            timings=timings,
            explored=explore,
            propensity=drawn,
            saved_seconds=nearest.generate_seconds if nearest and hit else 0.0,
        )
        metrics.count(decision, timings)
        self.ledger.record_decision(decision, keep_text=policy.keep_question_text)


def unreusable(query: Query, policy: Policy) -> str | None:
    """Why no stored answer may be used whatever it is, or None.

    MODE_OFF; ASKS_ABOUT_NOW, for an answer that holds for a moment or a place; SAMPLED, for one drawn at random that
    nobody asked to have from memory.
    """
    if policy.mode is Mode.OFF:
        return "MODE_OFF"
    if Subject.MOMENT in subjects_of(query.question):
        return "ASKS_ABOUT_NOW"
    if query.sampled and not policy.reuse_sampled and query.mode is not CacheMode.ONLY_IF_CACHED:
        return "SAMPLED"
    return None


def spelt(normal: str, question: str) -> str:
    """The key of a question that counts as it is spelt: its normal form, and its text's digest behind an invisible
    mark, which no text holds (`askonce.visible`)."""
    return f"{normal}\u2063{digest(question)}"


def hot(entry: Entry, policy: Policy, now: float) -> bool:
    """Whether an entry of the hot tier has most of its time there still before it."""
    least = HOT_SHARE * policy.hot_ttl - policy.ttl_jitter
    return 0 < least < entry.hot_until - now <= policy.hot_ttl + policy.ttl_jitter


def fleeting(entry: Entry) -> bool:
    """Whether an entry's end of life is fixed, however often it is used: it can't tell, or it is about the day."""
    return cannot_tell(entry.answer_text, entry.question) or Subject.DAY in subjects_of(entry.question)


def same(resolved: ResolvedImage) -> bool:
    """Whether the recognised image is the same."""
    return resolved.side.verdict == "SAME"


def side_to(entry: Entry, query: Query, resolved: ResolvedImage) -> Side:
    """The evidence that the asked file is the one that the model was shown for this entry.

    An image record gathers files: the one it was made from, and copies that passed a check. An answer to a copy holds
    for the copy; whoever asks about another file of the record relies on the check of that copy besides their own.
    """
    side = resolved.side
    if side.verdict != "SAME" or not entry.file:
        return side
    if entry.file == query.byte_digest.hex():
        return SAME_FILE
    if resolved.nearest is None or entry.file == resolved.nearest.digests[0]:
        return side
    return Side("SAME", "ALIAS", side.probability * JOIN_PROBABILITY, "ALIAS")


def nearest_image(resolved: ResolvedImage | None, nearest: Entry | None) -> str:
    """The id of the stored image that was compared; that of the entry, where the hot tier compared nothing."""
    if resolved is not None and resolved.nearest is not None:
        return resolved.nearest.id
    return nearest.image if nearest is not None else ""


def exact_key(query: Query) -> ExactKey:
    """The key of an exact repeat."""
    return ExactKey(query.tenant, query.byte_digest.hex(), query.space, query.normal)


def flight_key(tenant: str, image: str, space: str, normal: str) -> str:
    """The key that equal requests share, hexadecimal, 32 bytes."""
    return hashlib.sha256("\0".join((tenant, image, space, normal)).encode()).hexdigest()


def crosses(query: Query, entry: Entry, policy: Policy) -> bool:
    """Whether reuse would hand an answer from one language to another: not where the answer needs no language."""
    return entry.language != query.language and not (policy.neutral_answers and is_neutral(entry.answer_text))


def worth_judging(
    query: Query, resolved: ResolvedImage, matches: Sequence[Match], policy: Policy
) -> tuple[tuple[str, str], ...]:
    """The pairs of questions of which nothing is known yet and whose verdict could have made this miss a hit: the new
    one and the stored ones that are likest by their texts, `JUDGED_PAIRS` at most.

    Several, because the likest wording is often another question's, and because two verdicts about wordings of one
    intent hold where one, which is wrong at times, does not suffice.
    """
    if policy.judge is JudgeMode.OFF or not same(resolved):
        return ()
    likest = sorted(matches, key=lambda match: match.prior, reverse=True)
    return tuple(
        (query.question, match.entry.question)
        for match in likest
        if match.side.tier == "NEIGHBOUR"
        and not match.side.vetoed
        and match.prior >= JUDGE_FLOOR
        and (policy.cross_language or not crosses(query, match.entry, policy))
    )[:JUDGED_PAIRS]
