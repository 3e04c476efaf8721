"""The pairs of questions of one tenant and their intents: evidence merges them, contradictions split them."""

import hashlib
from bisect import insort
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from dedup_service.question.pair_store import PairRecord
from dedup_service.question.reading import read

State = Literal["same", "different", "unknown"]


# Log-odds from which on two intents are one: odds of 100 to 1.
MERGE = 4.6


# Log-odds from which on a pair is known to differ: odds of 1 to 20.
CONTRADICTION = -3.0


# Weight of the texts' own likeness when intents are formed, so that it never decides by itself.
MOST_PRIOR = 3.0


# Likeness from which on one observation suffices, as a second witness.
LIKELY = 1.5


# What a pair that a veto keeps apart weighs between two groups. It bars itself, not their other pairs: of a thousand
# vetoes some are false, and one of them must not part two groups for good.
VETOED = -3.0


# One observation, of whatever rarity, is worth at most this; a judge or a person is believed more.
MOST_PER_OBSERVATION = {"answer": 3.0, "exploration": 3.0, "judge": 4.0, "feedback": 5.0}


# Evidence on one pair is remembered up to this sum, so that a thousand agreements can still be outweighed.
MOST_PER_PAIR = 8.0


MOST_MEMBERS = 200


MOST_WORDINGS = 32


MOST_OBSERVATIONS = 32


# Records of one pair that count, the newest: what they amount to is a function of the set, whatever order they come in.
MOST_RECORDS = 64


# Questions that hang together which are settled at once; larger clusters stay as the evidence left them.
MOST_SETTLED = 2_000


@dataclass
class _Pair:
    records: list[PairRecord] = field(default_factory=list)
    total: float = 0.0
    prior: float = 0.0
    seen: int = 0
    strong: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    observations: dict[int, float] = field(default_factory=dict)
    blocked: bool = False
    refused: bool = False


class IntentGraph:
    """One tenant's pairs and intents; not thread-safe by itself."""

    def __init__(self, most_pairs: int) -> None:
        self.most_pairs = most_pairs
        self.pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self.near: dict[str, set[str]] = {}
        self.texts: dict[str, dict[str, None]] = {}
        self.inner: dict[str, _Pair] = {}
        self.split: set[str] = set()
        self.intent: dict[str, int] = {}
        self.members: dict[int, set[str]] = {}
        self.strength: dict[int, float] = {}
        self.next = 1

    def node(self, digest_: str, text: str, reading: str = "") -> str:
        """The key under which evidence on a question is kept: its reading's, if that is known and stands. A text is
        read anew, since readings get better; ``reading`` is the key of one whose text is not kept."""
        key = reading_key(text) if text else reading or digest_
        return digest_ if key in self.split else key

    def add(self, record: PairRecord) -> tuple[str, ...]:
        """Takes one record; the same one again changes nothing. Returns the nodes that it is about, none where the two
        are one."""
        one = self.node(record.left, record.left_text, record.left_reading)
        other = self.node(record.right, record.right_text, record.right_reading)
        if one == other:
            self._doubt(one, record)
            return ()
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
        if _take(pair, record):
            self._settle(key, pair, record.log_odds < 0)
        while len(self.pairs) > self.most_pairs:
            self._forget(next(iter(self.pairs)))
        return one, other

    def _doubt(self, node: str, record: PairRecord) -> None:
        """Evidence on two questions of one reading: if they turn out to differ, the reading no longer stands, and
        what was learnt under it holds for the wordings alone that it was learnt about."""
        doubt = self.inner.setdefault(node, _Pair())
        _take(doubt, record)
        if doubt.total <= CONTRADICTION and node not in self.split:
            self.split.add(node)
            loose = list(doubt.records)
            for twin in tuple(self.near.get(node, ())):
                key = (node, twin) if node < twin else (twin, node)
                loose += self.pairs[key].records
                self._forget(key)
            for one in sorted(loose, key=_place):
                self.add(one)
        while len(self.inner) > self.most_pairs:
            self.inner.pop(next(iter(self.inner)))

    def _settle(self, key: tuple[str, str], pair: _Pair, against: bool) -> None:
        left, right = (self.intent.get(question) for question in key)
        if left is not None and left == right:
            if against:
                self._rebuild(self.members[left])
        elif pair.total > 0:
            self._try_merge(*key)

    def settle(self, nodes: Iterable[str]) -> None:
        """Forms the intents around some questions anew from their evidence, strongest first, so that they depend on
        what is known and not on the order in which it came."""
        done: set[str] = set()
        for node in nodes:
            if node not in done:
                cluster = self._cluster(node)
                done |= cluster
                if 1 < len(cluster) <= MOST_SETTLED:
                    self._rebuild(cluster)

    def _cluster(self, node: str) -> set[str]:
        """The questions that hang together with one: by evidence in favour, or in one intent."""
        found, ahead = {node}, [node]
        while ahead and len(found) <= MOST_SETTLED:
            here = ahead.pop()
            near = {
                twin
                for twin in self.near.get(here, ())
                if self.pairs[(here, twin) if here < twin else (twin, here)].total > 0
            }
            fresh = (near | self.group(here)) - found
            found |= fresh
            ahead += fresh
        return found

    def group(self, question: str) -> set[str]:
        """The questions of one's intent, itself included."""
        at = self.intent.get(question)
        return self.members[at] if at is not None else {question}

    def between(self, one: set[str], other: set[str]) -> tuple[float, int, bool, bool]:
        """All evidence between two groups: log-odds, independent observations in favour, whether a strong witness
        spoke (a judge, a person, or the texts' own likeness), whether a person's word bars it.

        One image counts once in favour and once against, however many of the pairs it was seen on: the same coincidence
        would otherwise count as often as there are wordings. The texts' own likeness counts once, as the mean over the
        pairs."""
        small, large = (one, other) if len(one) <= len(other) else (other, one)
        strong, barred, apart = False, False, 0.0
        priors: list[float] = []
        seen: dict[int, float] = {}
        for question in small:
            for twin in self.near.get(question, set()) & large:
                pair = self.pairs[(question, twin) if question < twin else (twin, question)]
                apart += VETOED * pair.blocked
                priors.append(max(-MOST_PRIOR, min(MOST_PRIOR, pair.prior)))
                strong = strong or (pair.strong and pair.total > 0)
                barred = barred or (pair.refused and pair.total <= CONTRADICTION)
                for observation, step in pair.observations.items():
                    before = seen.get(observation, 0.0)
                    seen[observation] = max(before, step) if step > 0 else min(before, step)
        prior = sum(priors) / len(priors) if priors else 0.0
        favour = sum(1 for step in seen.values() if step > 0)
        return sum(seen.values()) + prior + max(-MOST_PER_PAIR, apart), favour, strong or prior >= LIKELY, barred

    def _try_merge(self, left: str, right: str) -> bool:
        one, other = self.group(left), self.group(right)
        if one is other or len(one) + len(other) > MOST_MEMBERS:
            return False
        total, seen, strong, barred = self.between(one, other)
        if barred or total < MERGE or not (seen >= 2 or (strong and seen >= 1)) or self._apart(left, right):
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

    def _apart(self, left: str, right: str) -> bool:
        """Whether a veto keeps this very pair apart."""
        pair = self.pairs.get((left, right) if left < right else (right, left))
        return pair is not None and pair.blocked

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

    def _outvoted(self, left: str, right: str, pair: _Pair) -> bool:
        """Whether one intent holds two questions whose own evidence is against them: a wrong answer or two among many
        right ones. A person's word, or a judge's, is not outvoted."""
        at = self.intent.get(left)
        said = pair.refused or "judge:different" in pair.counts
        return not said and at is not None and at == self.intent.get(right) and self.strength[at] + pair.total > 0

    def confirmed(self, left: str, right: str) -> bool:
        """Whether answers about images, or people, tie each of two questions to the intent that they share; else a
        judge's word does, or nothing."""
        group = self.group(left) | self.group(right)
        return all(any(self._answered(question, twin) for twin in group - {question}) for question in (left, right))

    def _answered(self, one: str, other: str) -> bool:
        pair = self.pairs.get((one, other) if one < other else (other, one))
        return pair is not None and any(name.endswith(":same") and name != "judge:same" for name in pair.counts)

    def verdict(self, left: str, right: str) -> tuple[float, State, str]:
        if left == right:
            return 0.0, "unknown", "they read alike; nothing was learnt about them"
        key = (left, right) if left < right else (right, left)
        pair = self.pairs.get(key)
        if pair is not None:
            self.pairs.move_to_end(key)
            if pair.blocked:
                return min(pair.total, 0.0), "unknown", f"a veto keeps them apart; {_told(pair)}"
            if pair.total <= CONTRADICTION and not self._outvoted(left, right, pair):
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
        if pair.total >= MERGE and pair.strong:
            return pair.total, "same", _told(pair)
        return min(pair.total, 0.0), "unknown", _told(pair)


def _place(record: PairRecord) -> tuple[float, str]:
    """Where a record stands among those of its pair."""
    return record.time, record.id


def _refusal(record: PairRecord) -> bool:
    """Whether a person said that the two differ; such a word is kept longest."""
    return record.source == "feedback" and not record.same


def _take(pair: _Pair, record: PairRecord) -> bool:
    """Takes a record among those of its pair and adds them up anew, in order of time; false for one that is there, or
    older than all that count."""
    if record.id and any(record.id == known.id for known in pair.records):
        return False
    insort(pair.records, record, key=_place)
    if len(pair.records) > MOST_RECORDS:
        oldest = min(pair.records, key=lambda one: (_refusal(one), *_place(one)))
        pair.records = [one for one in pair.records if one is not oldest]
        if oldest is record:
            return False
    pair.total, pair.prior, pair.seen, pair.strong, pair.blocked = 0.0, 0.0, 0, False, False
    pair.refused = any(_refusal(one) for one in pair.records)
    pair.counts, pair.observations = {}, {}
    known: set[int] = set()
    for place, one in enumerate(pair.records):
        pair.blocked = pair.blocked or one.blocked
        pair.prior = one.prior or pair.prior
        own = one.id or (one.left, one.right, one.time, place)
        seen_on = hash((one.source, one.context or own, one.same))
        if seen_on in known:
            continue
        known.add(seen_on)
        most = MOST_PER_OBSERVATION[one.source]
        step = max(-most, min(most, one.log_odds))
        if len(pair.observations) < MOST_OBSERVATIONS:
            pair.observations[seen_on] = step
        pair.total = max(-MOST_PER_PAIR, min(MOST_PER_PAIR, pair.total + step))
        pair.seen += 1
        pair.strong = pair.strong or (one.source in ("judge", "feedback") and one.same)
        name = f"{one.source}:{'same' if one.same else 'different'}"
        pair.counts[name] = pair.counts.get(name, 0) + 1
    return True


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


def digest(normal: str) -> str:
    """The key of a normal form: 128 bits of its SHA-256, in hex."""
    return hashlib.sha256(normal.encode()).hexdigest()[:32]


def reading_key(normal: str) -> str:
    """The key of a question's reading, equal for questions that read alike; its own digest if the reading is empty."""
    reading = read(normal)
    if not reading.tokens:
        return digest(normal)
    parts = (
        reading.language,
        reading.ask,
        *reading.tokens,
        "/",
        *sorted(reading.plural),
        "/",
        *sorted(reading.deixis),
        reading.beside,
    )
    return digest("\n".join(parts))
