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

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from dedup_service.question.intent_graph import MOST_PER_PAIR, IntentGraph, State, digest, reading_key
from dedup_service.question.normal import normalise
from dedup_service.question.pair_store import PairRecord, PairStore, Source
from dedup_service.question.veto import vetoes

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
    differ. ``judged``: that they are the same rests on a judge's word, which no answers have confirmed."""

    log_odds: float
    state: State
    explanation: str
    judged: bool = False


class PairMemory:
    """Verdicts on pairs of questions, per tenant. Thread-safe; every call takes microseconds but `add` on a large
    intent.

    Beside the tenants' own there is a pool, into which a tenant's evidence goes as well when it is shared, and which is
    asked where a tenant's own evidence decides nothing. ``store`` makes it all durable: what it loads is replayed at
    once, what is added is appended. ``keeps_text`` says whether a tenant's texts may be kept; where not, digests of
    the questions and of their readings stand for them. ``most_pairs`` bounds each tenant, ``most_tenants`` their
    number; least recently used out first.
    """

    def __init__(
        self,
        store: PairStore | None = None,
        *,
        keeps_text: Callable[[str], bool] = lambda _: True,
        most_pairs: int = 200_000,
        most_tenants: int = 1000,
    ) -> None:
        self._store = store
        self._keeps_text = keeps_text
        self._most_pairs = most_pairs
        self._most_tenants = most_tenants
        self._lock = threading.RLock()
        self._tenants: OrderedDict[str, IntentGraph] = OrderedDict()
        if store is not None:
            self.replay(store.load())

    def add(self, tenant: str, a: str, b: str, evidence: Evidence, *, share: bool = False) -> None:
        """Takes one observation on two questions; ``share`` puts it into the pool as well. Evidence for "same" on a
        vetoed pair is kept, but never merges them."""
        one, other = normalise(a), normalise(b)
        if one == other:
            return
        left, right = digest(one), digest(other)
        if left > right:
            left, right, one, other = right, left, other, one
        keep = self._keeps_text(tenant)
        record = PairRecord(
            tenant=tenant,
            left=left,
            right=right,
            left_text=one if keep else "",
            right_text=other if keep else "",
            id=secrets.token_hex(16),
            left_reading=reading_key(one),
            right_reading=reading_key(other),
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
            records.append(replace(record, tenant=POOL, context=context, id=secrets.token_hex(16), origin=tenant))
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
                return reading_key(normal)
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
        """Takes records from elsewhere (the store, another replica) without storing them again. What is known
        afterwards depends on the records alone, not on the order in which they came, nor on how often."""
        touched: dict[str, set[str]] = {}
        with self._lock:
            for record in records:
                nodes = self._tenant(record.tenant).add(record)
                touched.setdefault(record.tenant, set()).update(nodes)
            for tenant, nodes_ in touched.items():
                if (mine := self._tenants.get(tenant)) is not None:
                    mine.settle(sorted(nodes_))

    def exchange(self, tenant: str, records: Iterable[PairRecord]) -> None:
        """Takes these records for all that is known about one tenant, as after a purge."""
        with self._lock:
            self._tenants.pop(tenant, None)
            self.replay(records)

    def _known(self, name: str, one: str, other: str) -> KnownVerdict:
        mine = self._tenants.get(name)
        if mine is None:
            return KnownVerdict(0.0, "unknown", "never compared")
        left, right = self._node(mine, one), self._node(mine, other)
        log_odds, state, explanation = mine.verdict(left, right)
        return KnownVerdict(log_odds, state, explanation, state == "same" and not mine.confirmed(left, right))

    def _node(self, mine: IntentGraph, normal: str) -> str:
        return mine.node(digest(normal), normal)

    def _tenant(self, name: str) -> IntentGraph:
        found = self._tenants.get(name)
        if found is None:
            found = self._tenants[name] = IntentGraph(self._most_pairs)
            while len(self._tenants) > self._most_tenants:
                self._tenants.popitem(last=False)
        self._tenants.move_to_end(name)
        return found


def pairs_of(questions: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every unordered pair of the questions."""
    return tuple((a, b) for at, a in enumerate(questions) for b in questions[at + 1 :])
