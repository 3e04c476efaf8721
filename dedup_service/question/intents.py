"""What is known by heart: verdicts on pairs of questions, and the intents that they form.

Whether two questions ask the same does not depend on the image, so evidence from one image serves all of them.
Evidence on a pair adds up as log-odds. Questions whose pairs agree strongly become one *intent*; from then on any two
of its questions are known to ask the same, even if that very pair was never seen.

Questions that read alike (`reading.read` finds the same tokens asked for in the same way) share their evidence from
the start, until something contradicts that they ask the same.

Caution comes first. Two intents merge only if all evidence between them, taken together with what the texts
themselves say, reaches `MERGE`, rests on at least two independent observations (or one judge or person), and no pair
between them is vetoed or contradicted. Evidence against an intent from inside dissolves it, and what still holds
together is merged again.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dedup_service.question.normal import normalise
from dedup_service.question.pair_store import PairRecord, PairStore, Source
from dedup_service.question.reading import read
from dedup_service.question.veto import vetoes

State = Literal["same", "different", "unknown"]

# Log-odds from which on two intents are one: odds of 100 to 1.
MERGE = 4.6
# Log-odds from which on a pair is known to differ: odds of 1 to 20.
CONTRADICTION = -3.0
# Weight of the texts' own likeness when intents are formed, so that it never decides by itself.
MOST_PRIOR = 2.0
# One observation, of whatever rarity, is worth at most this; a judge or a person is believed more.
MOST_PER_OBSERVATION = {"answer": 3.0, "exploration": 3.0, "judge": 4.0, "feedback": 5.0}
# Evidence on one pair is remembered up to this sum, so that a thousand agreements can still be outweighed.
MOST_PER_PAIR = 8.0
MOST_MEMBERS = 200
MOST_WORDINGS = 32
MOST_OBSERVATIONS = 32
# The name under which shared evidence is kept; no tenant has an empty one.
POOL = ""


@dataclass(frozen=True)
class Evidence:
    """One observation on two questions. ``log_odds`` says how strong it is, positive for "same"; ``same`` what it
    says; ``time`` in seconds since the epoch; ``context`` what it was seen on (an image's digest): one context counts
    once per pair and source. ``prior`` is the log-odds that the calibrated score gave the texts alone (0 if not
    known)."""

    source: Source
    log_odds: float
    same: bool
    time: float
    context: str = ""
    prior: float = 0.0


@dataclass(frozen=True)
class KnownVerdict:
    """What is known about two questions: log-odds, the state they amount to, and why. Evidence in favour counts only
    once it suffices (state "same"), evidence against counts at once: of all questions asked about an image most
    differ."""

    log_odds: float
    state: State
    explanation: str


@dataclass
class _Pair:
    total: float = 0.0
    prior: float = 0.0
    seen: int = 0
    strong: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    observations: dict[int, float] = field(default_factory=dict)
    blocked: bool = False


class _Tenant:
    """One tenant's pairs and intents; not thread-safe by itself."""

    def __init__(self, most_pairs: int) -> None:
        self.most_pairs = most_pairs
        self.pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self.near: dict[str, set[str]] = {}
        self.texts: dict[str, dict[str, None]] = {}
        self.inner: dict[str, float] = {}
        self.split: set[str] = set()
        self.intent: dict[str, int] = {}
        self.members: dict[int, set[str]] = {}
        self.strength: dict[int, float] = {}
        self.vetoed: OrderedDict[tuple[str, str], bool] = OrderedDict()
        self.next = 1

    def node(self, digest_: str, text: str) -> str:
        """The key under which evidence on a question is kept: its reading's, if its text is known and its reading
        stands."""
        if not text:
            return digest_
        key = reading_key(text)
        return digest_ if key in self.split else key

    def add(self, record: PairRecord) -> None:
        one, other = self.node(record.left, record.left_text), self.node(record.right, record.right_text)
        if one == other:
            self._doubt(one, record)
            return
        key = (one, other) if one < other else (other, one)
        pair = self.pairs.get(key)
        if pair is None:
            pair = self.pairs[key] = _Pair()
            for mine, theirs in (key, key[::-1]):
                self.near.setdefault(mine, set()).add(theirs)
        self.pairs.move_to_end(key)
        for node, text in ((one, record.left_text), (other, record.right_text)):
            wordings = self.texts.setdefault(node, {})
            if text and len(wordings) < MOST_WORDINGS:
                wordings[text] = None
        pair.blocked = pair.blocked or record.blocked
        pair.prior = record.prior or pair.prior
        seen_on = hash((record.source, record.context or (key, record.time, pair.seen), record.same))
        if seen_on in pair.observations:
            return
        most = MOST_PER_OBSERVATION[record.source]
        step = max(-most, min(most, record.log_odds))
        if len(pair.observations) < MOST_OBSERVATIONS:
            pair.observations[seen_on] = step
        pair.total = max(-MOST_PER_PAIR, min(MOST_PER_PAIR, pair.total + step))
        pair.seen += 1
        pair.strong = pair.strong or (record.source in ("judge", "feedback") and record.same)
        name = f"{record.source}:{'same' if record.same else 'different'}"
        pair.counts[name] = pair.counts.get(name, 0) + 1
        self._settle(key, pair, step < 0)
        while len(self.pairs) > self.most_pairs:
            self._forget(next(iter(self.pairs)))

    def _doubt(self, node: str, record: PairRecord) -> None:
        """Evidence on two questions of one reading: if they turn out to differ, the reading no longer stands, and
        what was learnt under it is dropped."""
        most = MOST_PER_OBSERVATION[record.source]
        total = self.inner.get(node, 0.0) + max(-most, min(most, record.log_odds))
        self.inner[node] = max(-MOST_PER_PAIR, min(MOST_PER_PAIR, total))
        if total <= CONTRADICTION:
            self.split.add(node)
            for twin in tuple(self.near.get(node, ())):
                self._forget((node, twin) if node < twin else (twin, node))
        while len(self.inner) > self.most_pairs:
            self.inner.pop(next(iter(self.inner)))

    def _settle(self, key: tuple[str, str], pair: _Pair, against: bool) -> None:
        left, right = (self.intent.get(question) for question in key)
        if left is not None and left == right:
            if against:
                self._rebuild(self.members[left])
        elif pair.total > 0:
            self._try_merge(*key)

    def group(self, question: str) -> set[str]:
        """The questions of one's intent, itself included."""
        at = self.intent.get(question)
        return self.members[at] if at is not None else {question}

    def between(self, one: set[str], other: set[str]) -> tuple[float, int, bool, bool]:
        """All evidence between two groups: log-odds, independent observations in favour, whether a strong witness
        spoke, whether a pair bars it. One image counts once in favour and once against, however many of the pairs it
        was seen on: the same coincidence would otherwise count as often as there are wordings. The texts' own
        likeness counts once, as the mean over the pairs."""
        small, large = (one, other) if len(one) <= len(other) else (other, one)
        strong, barred = False, False
        priors: list[float] = []
        seen: dict[int, float] = {}
        for question in small:
            for twin in self.near.get(question, set()) & large:
                pair = self.pairs[(question, twin) if question < twin else (twin, question)]
                priors.append(pair.prior)
                strong = strong or (pair.strong and pair.total > 0)
                barred = barred or pair.total <= CONTRADICTION or pair.blocked
                for observation, step in pair.observations.items():
                    before = seen.get(observation, 0.0)
                    seen[observation] = max(before, step) if step > 0 else min(before, step)
        prior = sum(priors) / len(priors) if priors else 0.0
        favour = sum(1 for step in seen.values() if step > 0)
        return sum(seen.values()) + max(-MOST_PRIOR, min(MOST_PRIOR, prior)), favour, strong, barred

    def _try_merge(self, left: str, right: str) -> bool:
        one, other = self.group(left), self.group(right)
        if one is other or len(one) + len(other) > MOST_MEMBERS:
            return False
        total, seen, strong, barred = self.between(one, other)
        if barred or total < MERGE or not (strong or seen >= 2) or self._vetoed(one, other):
            return False
        strength = min(
            total,
            *(self.strength[at] for at in {self.intent.get(left), self.intent.get(right)} if at is not None),
            MOST_PER_PAIR,
        )
        union = one | other
        for at in {self.intent.get(left), self.intent.get(right)}:
            if at is not None:
                del self.members[at], self.strength[at]
        at, self.next = self.next, self.next + 1
        self.members[at], self.strength[at] = union, strength
        for question in union:
            self.intent[question] = at
        return True

    def _vetoed(self, one: set[str], other: set[str]) -> bool:
        for mine in one:
            for theirs in other:
                if not self.texts.get(mine) or not self.texts.get(theirs):
                    continue
                key = (mine, theirs) if mine < theirs else (theirs, mine)
                known = self.vetoed.get(key)
                if known is None:
                    left, right = (next(iter(self.texts[node])) for node in key)
                    known = self.vetoed[key] = bool(vetoes(left, right))
                    if len(self.vetoed) > self.most_pairs:
                        self.vetoed.popitem(last=False)
                if known:
                    return True
        return False

    def _rebuild(self, questions: set[str]) -> None:
        """Dissolves an intent and merges again what holds together, strongest pairs first."""
        members = set(questions)
        for question in members:
            at = self.intent.pop(question, None)
            if at is not None:
                self.members.pop(at, None)
                self.strength.pop(at, None)
        ties = sorted(
            (
                (self.pairs[key].total + max(-MOST_PRIOR, min(MOST_PRIOR, self.pairs[key].prior)), key)
                for question in members
                for twin in self.near.get(question, set()) & members
                if question < twin
                for key in [(question, twin)]
                if self.pairs[key].total > 0
            ),
            reverse=True,
        )
        moved = True
        while moved:
            moved = False
            for _, (left, right) in ties:
                moved = self._try_merge(left, right) or moved

    def _forget(self, key: tuple[str, str]) -> None:
        """Drops the pair that was used least recently, and questions that nothing is known about any more."""
        del self.pairs[key]
        for one, other in (key, key[::-1]):
            self.near[one].discard(other)
            if not self.near[one]:
                del self.near[one]
                self.texts.pop(one, None)
                at = self.intent.pop(one, None)
                if at is not None:
                    self.members[at].discard(one)
                    if len(self.members[at]) == 1:
                        self.intent.pop(self.members[at].pop(), None)
                        del self.members[at], self.strength[at]

    def verdict(self, left: str, right: str) -> tuple[float, State, str]:
        if left == right:
            return 0.0, "unknown", "they read alike; nothing was learnt about them"
        key = (left, right) if left < right else (right, left)
        pair = self.pairs.get(key)
        if pair is not None:
            self.pairs.move_to_end(key)
            if pair.total <= CONTRADICTION:
                return pair.total, "different", f"known to differ: {_told(pair)}"
        at, there = self.intent.get(left), self.intent.get(right)
        if at is not None and at == there:
            own = f"; this pair: {_told(pair)}" if pair is not None else ", though never compared with each other"
            return self.strength[at], "same", f"one intent of {len(self.members[at])} questions{own}"
        if (at is not None or there is not None) and (left in self.near and right in self.near):
            total, _, _, barred = self.between(self.group(left), self.group(right))
            if barred or total <= CONTRADICTION:
                return min(total, CONTRADICTION), "different", "their intents are known to differ"
            if pair is None:
                lean = "towards one, not yet enough" if total > 0 else "apart"
                return min(total, 0.0), "unknown", f"their intents lean {lean}"
        if pair is None:
            return 0.0, "unknown", "never compared"
        if pair.total >= MERGE and pair.strong and not pair.blocked:
            return pair.total, "same", _told(pair)
        return min(pair.total, 0.0), "unknown", _told(pair)


def _told(pair: _Pair) -> str:
    words = {
        "answer:same": "agreeing answers",
        "answer:different": "disagreeing answers",
        "judge:same": "judged the same",
        "judge:different": "judged different",
        "feedback:same": "confirmed by feedback",
        "feedback:different": "refused by feedback",
        "exploration:same": "agreeing checks of hits",
        "exploration:different": "disagreeing checks of hits",
    }
    parts = [f"{count} {words.get(name, name)}" for name, count in sorted(pair.counts.items())]
    return f"{', '.join(parts) or 'no evidence'} (log-odds {pair.total:+.1f})"


class PairMemory:
    """Verdicts on pairs of questions, per tenant. Thread-safe; every call takes microseconds but `add` on a large
    intent.

    Beside the tenants' own there is a pool, into which a tenant's evidence goes as well when it is shared, and which is
    asked where a tenant's own evidence decides nothing. ``store`` makes it all durable: what it loads is replayed at
    once, what is added is appended. ``keep_texts``: without the texts, vetoes between the
    questions of two intents can't be checked again, so intents are then formed from pairs of the caller's own vetting
    alone. ``most_pairs`` bounds each tenant, ``most_tenants`` their number; least recently used out first.
    """

    def __init__(
        self,
        store: PairStore | None = None,
        *,
        keep_texts: bool = True,
        most_pairs: int = 200_000,
        most_tenants: int = 1000,
    ) -> None:
        self._store = store
        self._keep_texts = keep_texts
        self._most_pairs = most_pairs
        self._most_tenants = most_tenants
        self._lock = threading.RLock()
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        if store is not None:
            for record in store.load():
                self._tenant(record.tenant).add(record)

    def add(self, tenant: str, a: str, b: str, evidence: Evidence, *, share: bool = False) -> None:
        """Takes one observation on two questions; ``share`` puts it into the pool as well. Evidence for "same" on a
        vetoed pair is kept, but never merges them."""
        one, other = normalise(a), normalise(b)
        if one == other:
            return
        left, right = digest(one), digest(other)
        if left > right:
            left, right, one, other = right, left, other, one
        record = PairRecord(
            tenant=tenant,
            left=left,
            right=right,
            left_text=one if self._keep_texts else "",
            right_text=other if self._keep_texts else "",
            source=evidence.source,
            log_odds=evidence.log_odds,
            same=evidence.same,
            time=evidence.time,
            context=evidence.context,
            prior=evidence.prior,
            blocked=evidence.same and bool(vetoes(a, b)),
        )
        records = [record]
        if share:  # an image of one tenant is no other tenant's
            context = f"{tenant}/{record.context}" if record.context else ""
            records.append(replace(record, tenant=POOL, context=context))
        with self._lock:
            for each in records:
                self._tenant(each.tenant).add(each)
        if self._store is not None:
            self._store.append(records)

    def verdict(self, tenant: str, a: str, b: str, *, shared: bool = False) -> KnownVerdict:
        """What is known about two questions; "same" only if they are one intent or their own evidence reaches
        `MERGE`. With ``shared``, the pool is asked where the tenant's own evidence leaves it unknown."""
        one, other = normalise(a), normalise(b)
        if one == other:
            return KnownVerdict(MOST_PER_PAIR, "same", "equal in normal form")
        with self._lock:
            own = self._known(tenant, one, other)
            if own.state != "unknown" or not shared:
                return own
            pooled = self._known(POOL, one, other)
            return own if pooled.state == "unknown" else pooled

    def members(self, tenant: str, question: str) -> tuple[str, ...]:
        """The normal forms of the other questions of the same intent (those whose text was kept), in a stable order."""
        normal = normalise(question)
        with self._lock:
            mine = self._tenants.get(tenant)
            if mine is None:
                return ()
            group = mine.group(self._node(mine, normal))
            return tuple(sorted({text for node in group for text in mine.texts.get(node, ())} - {normal}))

    def intent_of(self, tenant: str, question: str) -> str:
        """A name for the question's intent that equals that of its other questions, until evidence merges or splits
        them."""
        normal = normalise(question)
        with self._lock:
            mine = self._tenants.get(tenant)
            if mine is None:
                return reading_key(normal) if self._keep_texts else digest(normal)
            return min(mine.group(self._node(mine, normal)))

    def explain(self, tenant: str, a: str, b: str) -> str:
        """One sentence on why two questions are held to be the same or not, naming the verdict and its evidence."""
        found = self.verdict(tenant, a, b)
        return f"{found.state}: {found.explanation} (log-odds {found.log_odds:+.1f})"

    def size(self, tenant: str) -> tuple[int, int, int]:
        """How many questions, pairs and intents are known for the tenant."""
        with self._lock:
            mine = self._tenants.get(tenant)
            return (len(mine.near), len(mine.pairs), len(mine.members)) if mine else (0, 0, 0)

    def forget(self, tenant: str) -> None:
        """Drops all that is known in memory for one tenant; what it shared stays in the pool."""
        with self._lock:
            self._tenants.pop(tenant, None)

    def replay(self, records: Iterable[PairRecord]) -> None:
        """Takes records from elsewhere (another replica) without storing them again."""
        with self._lock:
            for record in records:
                self._tenant(record.tenant).add(record)

    def _known(self, name: str, one: str, other: str) -> KnownVerdict:
        mine = self._tenants.get(name)
        if mine is None:
            return KnownVerdict(0.0, "unknown", "never compared")
        return KnownVerdict(*mine.verdict(self._node(mine, one), self._node(mine, other)))

    def _node(self, mine: _Tenant, normal: str) -> str:
        return mine.node(digest(normal), normal if self._keep_texts else "")

    def _tenant(self, name: str) -> _Tenant:
        found = self._tenants.get(name)
        if found is None:
            found = self._tenants[name] = _Tenant(self._most_pairs)
            while len(self._tenants) > self._most_tenants:
                self._tenants.popitem(last=False)
        self._tenants.move_to_end(name)
        return found


def digest(normal: str) -> str:
    """The key of a normal form: 128 bits of its SHA-256, in hex."""
    return hashlib.sha256(normal.encode()).hexdigest()[:32]


def reading_key(normal: str) -> str:
    """The key of a question's reading, equal for questions that read alike; its own digest if the reading is empty."""
    reading = read(normal)
    if not reading.tokens:
        return digest(normal)
    parts = (reading.language, reading.ask, *reading.tokens, "/", *sorted(reading.plural), "/", *sorted(reading.deixis))
    return digest("\n".join(parts))


def pairs_of(questions: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every unordered pair of the questions."""
    return tuple((a, b) for at, a in enumerate(questions) for b in questions[at + 1 :])
