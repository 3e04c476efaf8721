"""What is known by heart: verdicts on pairs of questions, and the intents that they form.

Whether two questions ask the same does not depend on the image, so evidence from one image serves all of them. Evidence on a
pair adds up as log-odds. Questions whose pairs agree strongly become one *intent*; from then on any two of its questions are
known to ask the same, even if that very pair was never seen.

Caution comes first. Two intents merge only if all evidence between them, taken together with what the texts themselves say,
reaches `MERGE`, rests on at least two independent observations (or one judge or person), and no pair between them is vetoed
or contradicted. A solid contradiction inside an intent dissolves it, and what still holds together is merged again.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dedup_service.question.normal import normalise
from dedup_service.question.pair_store import PairRecord, PairStore, Source
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
SHARED = ""


@dataclass(frozen=True)
class Evidence:
    """One observation on two questions. ``log_odds`` says how strong it is, positive for "same"; ``same`` what it says;
    ``time`` in seconds since the epoch; ``context`` what it was seen on (an image's digest): one context counts once per pair
    and source. ``prior`` is the log-odds that the calibrated score gave the texts alone (0 if not known)."""

    source: Source
    log_odds: float
    same: bool
    time: float
    context: str = ""
    prior: float = 0.0


@dataclass(frozen=True)
class KnownVerdict:
    """What is known about two questions: log-odds (0 when nothing is), the state they amount to, and why."""

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
    contexts: set[int] = field(default_factory=set)
    blocked: bool = False


class _Tenant:
    """One tenant's pairs and intents; not thread-safe by itself."""

    def __init__(self, most_pairs: int) -> None:
        self.most_pairs = most_pairs
        self.pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self.near: dict[str, set[str]] = {}
        self.texts: dict[str, str] = {}
        self.intent: dict[str, int] = {}
        self.members: dict[int, set[str]] = {}
        self.strength: dict[int, float] = {}
        self.vetoed: OrderedDict[tuple[str, str], bool] = OrderedDict()
        self.next = 1

    def add(self, record: PairRecord) -> None:
        key = (record.left, record.right)
        pair = self.pairs.get(key)
        if pair is None:
            pair = self.pairs[key] = _Pair()
            for one, other in (key, key[::-1]):
                self.near.setdefault(one, set()).add(other)
        self.pairs.move_to_end(key)
        for digest, text in ((record.left, record.left_text), (record.right, record.right_text)):
            if text:
                self.texts[digest] = text
        pair.blocked = pair.blocked or record.blocked
        pair.prior = record.prior or pair.prior
        seen_on = hash((record.source, record.context, record.same)) if record.context else 0
        if seen_on and seen_on in pair.contexts:
            return
        if seen_on and len(pair.contexts) < 64:
            pair.contexts.add(seen_on)
        most = MOST_PER_OBSERVATION[record.source]
        step = max(-most, min(most, record.log_odds))
        pair.total = max(-MOST_PER_PAIR, min(MOST_PER_PAIR, pair.total + step))
        pair.seen += 1
        pair.strong = pair.strong or (record.source in ("judge", "feedback") and record.same)
        name = f"{record.source}:{'same' if record.same else 'different'}"
        pair.counts[name] = pair.counts.get(name, 0) + 1
        self._settle(key, pair)
        while len(self.pairs) > self.most_pairs:
            self._forget(next(iter(self.pairs)))

    def _settle(self, key: tuple[str, str], pair: _Pair) -> None:
        left, right = (self.intent.get(question) for question in key)
        if left is not None and left == right:
            if pair.total <= CONTRADICTION:
                self._rebuild(self.members[left])
        elif pair.total > 0:
            self._try_merge(*key)

    def group(self, question: str) -> set[str]:
        """The questions of one's intent, itself included."""
        at = self.intent.get(question)
        return self.members[at] if at is not None else {question}

    def between(self, one: set[str], other: set[str]) -> tuple[float, int, bool, bool]:
        """All evidence between two groups: log-odds, observations, whether a strong witness spoke, whether a pair bars it.
        The texts' own likeness counts once, as the mean over the pairs that were seen."""
        small, large = (one, other) if len(one) <= len(other) else (other, one)
        total, seen, strong, barred = 0.0, 0, False, False
        priors: list[float] = []
        for question in small:
            for twin in self.near.get(question, set()) & large:
                pair = self.pairs[(question, twin) if question < twin else (twin, question)]
                total += pair.total
                priors.append(pair.prior)
                if pair.total > 0:
                    seen += pair.seen
                strong = strong or (pair.strong and pair.total > 0)
                barred = barred or pair.total <= CONTRADICTION or pair.blocked
        prior = sum(priors) / len(priors) if priors else 0.0
        return total + max(-MOST_PRIOR, min(MOST_PRIOR, prior)), seen, strong, barred

    def _try_merge(self, left: str, right: str) -> bool:
        one, other = self.group(left), self.group(right)
        if one is other or len(one) + len(other) > MOST_MEMBERS:
            return False
        total, seen, strong, barred = self.between(one, other)
        if barred or total < MERGE or not (strong or seen >= 2) or self._vetoed(one, other):
            return False
        strength = min(
            total, *(self.strength[at] for at in {self.intent.get(left), self.intent.get(right)} if at is not None), MOST_PER_PAIR
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
                if mine not in self.texts or theirs not in self.texts:
                    continue
                key = (mine, theirs) if mine < theirs else (theirs, mine)
                known = self.vetoed.get(key)
                if known is None:
                    known = self.vetoed[key] = bool(vetoes(self.texts[key[0]], self.texts[key[1]]))
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
                if total > 0:
                    return min(total, MERGE), "unknown", "their intents lean towards one, not yet enough"
                return total, "unknown", "their intents lean apart"
        if pair is None:
            return 0.0, "unknown", "never compared"
        state: State = "same" if pair.total >= MERGE and not pair.blocked else "unknown"
        return pair.total, state, _told(pair)


def _told(pair: _Pair) -> str:
    words = {
        "answer:same": "agreeing answers", "answer:different": "disagreeing answers", "judge:same": "judged the same",
        "judge:different": "judged different", "feedback:same": "confirmed by feedback", "feedback:different": "refused by feedback",
        "exploration:same": "agreeing checks of hits", "exploration:different": "disagreeing checks of hits",
    }  # fmt: skip
    parts = [f"{count} {words.get(name, name)}" for name, count in sorted(pair.counts.items())]
    return f"{', '.join(parts) or 'no evidence'} (log-odds {pair.total:+.1f})"


class PairMemory:
    """Verdicts on pairs of questions, per tenant. Thread-safe; every call takes microseconds but `add` on a large intent.

    ``store`` makes it durable: what it loads is replayed at once, what is added is appended. ``shared`` lets all tenants learn
    from each other: only if the operator says so. ``keep_texts``: without the texts, vetoes between the questions of two
    intents can't be checked again, so intents are then formed from pairs of the caller's own vetting alone. ``most_pairs``
    bounds each tenant, ``most_tenants`` their number; least recently used out first.
    """

    def __init__(
        self,
        store: PairStore | None = None,
        *,
        shared: bool = False,
        keep_texts: bool = True,
        most_pairs: int = 200_000,
        most_tenants: int = 1000,
    ) -> None:
        self._store = store
        self._shared = shared
        self._keep_texts = keep_texts
        self._most_pairs = most_pairs
        self._most_tenants = most_tenants
        self._lock = threading.RLock()
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        if store is not None:
            for record in store.load():
                self._tenant(record.tenant).add(record)

    def add(self, tenant: str, a: str, b: str, evidence: Evidence) -> None:
        """Takes one observation on two questions. Evidence for "same" on a vetoed pair is kept, but never merges them."""
        one, other = normalise(a), normalise(b)
        if one == other:
            return
        left, right = digest(one), digest(other)
        if left > right:
            left, right, one, other = right, left, other, one
        record = PairRecord(
            tenant=self._name(tenant), left=left, right=right,
            left_text=one if self._keep_texts else "", right_text=other if self._keep_texts else "",
            source=evidence.source, log_odds=evidence.log_odds, same=evidence.same, time=evidence.time,
            context=evidence.context, prior=evidence.prior, blocked=evidence.same and bool(vetoes(a, b)),
        )  # fmt: skip
        with self._lock:
            self._tenant(record.tenant).add(record)
        if self._store is not None:
            self._store.append([record])

    def verdict(self, tenant: str, a: str, b: str) -> KnownVerdict:
        """What is known about two questions; "same" only if they are one intent or their own evidence reaches `MERGE`."""
        left, right = digest(normalise(a)), digest(normalise(b))
        if left == right:
            return KnownVerdict(MOST_PER_PAIR, "same", "equal in normal form")
        with self._lock:
            mine = self._tenants.get(self._name(tenant))
            if mine is None:
                return KnownVerdict(0.0, "unknown", "never compared")
            return KnownVerdict(*mine.verdict(left, right))

    def members(self, tenant: str, question: str) -> tuple[str, ...]:
        """The normal forms of the other questions of the same intent (those whose text was kept), in a stable order."""
        key = digest(normalise(question))
        with self._lock:
            mine = self._tenants.get(self._name(tenant))
            if mine is None:
                return ()
            return tuple(sorted(mine.texts[other] for other in mine.group(key) if other != key and other in mine.texts))

    def intent_of(self, tenant: str, question: str) -> str:
        """A name for the question's intent that equals that of its other questions, until evidence merges or splits them;
        the question's own digest when nothing is known."""
        key = digest(normalise(question))
        with self._lock:
            mine = self._tenants.get(self._name(tenant))
            return key if mine is None else min(mine.group(key))

    def explain(self, tenant: str, a: str, b: str) -> str:
        """One sentence on why two questions are held to be the same or not, naming the verdict and its evidence."""
        found = self.verdict(tenant, a, b)
        return f"{found.state}: {found.explanation} (log-odds {found.log_odds:+.1f})"

    def size(self, tenant: str) -> tuple[int, int, int]:
        """How many questions, pairs and intents are known for the tenant."""
        with self._lock:
            mine = self._tenants.get(self._name(tenant))
            return (len(mine.near), len(mine.pairs), len(mine.members)) if mine else (0, 0, 0)

    def forget(self, tenant: str) -> None:
        """Drops all that is known in memory for one tenant (with ``shared``, for all)."""
        with self._lock:
            self._tenants.pop(self._name(tenant), None)

    def replay(self, records: Iterable[PairRecord]) -> None:
        """Takes records from elsewhere (another replica) without storing them again."""
        with self._lock:
            for record in records:
                self._tenant(record.tenant).add(record)

    def _name(self, tenant: str) -> str:
        return SHARED if self._shared else tenant

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


def pairs_of(questions: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every unordered pair of the questions."""
    return tuple((a, b) for at, a in enumerate(questions) for b in questions[at + 1 :])
