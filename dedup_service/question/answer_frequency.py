"""How telling an agreement of two answers is: log-odds from how common the answer is."""

import math
from collections import OrderedDict
from collections.abc import Mapping

from dedup_service.question.answers import Kind, understand

# How often one engine, asked the same of one image twice, gives answers that agree, before any were seen. Measured
# engines sit at 0.93 to 0.98; a lower figure makes a disagreement less damning.
RELIABILITY = 0.95
# How many observations that figure is worth.
RELIABILITY_WORTH = 40


# How often two different questions about one image have one answer for a reason (no tax: total and subtotal agree),
# on top of plain coincidence.
ENTANGLEMENT = 0.03


class AnswerFrequency:
    """How common each answer is for one tenant, and so how telling an agreement or a disagreement is.

    With A the engine's reliability on answers of the kind (how often fresh answers to questions known to be one agree,
    shrunk towards `RELIABILITY`), E = `ENTANGLEMENT` (answers of two different questions
    agree for a reason) and f the smoothed frequency of the answer *among answers of its kind* (yes-no, count, amount,
    date, text):

        log_odds_same(answer)  = ln A / (E + (1 - E) f)            f = (n_answer + 1) / (n_kind + V)
        log_odds_different(answer) = ln (1 - A) / (1 - E - (1 - E) s)  s = sum of f^2 over what was seen, of any kind

    V (Laplace) is the number of different answers of the kind plus one, and at least the prior size of its domain: 2
    for yes-no, 10 for counts, 100 for the rest, so that a new tenant starts from cautious figures. At most ``most``
    answers are counted, the least recently seen are forgotten. Not thread-safe: give each tenant one and use it from
    one thread.
    """

    DOMAIN: Mapping[Kind, int] = {"yes-no": 2, "count": 10, "amount": 100, "date": 50, "text": 50}

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._counts: OrderedDict[tuple[Kind, str], int] = OrderedDict()
        self._totals: dict[Kind, int] = dict.fromkeys(self.DOMAIN, 0)
        self._kinds: dict[Kind, int] = dict.fromkeys(self.DOMAIN, 0)
        self._squares: dict[Kind, int] = dict.fromkeys(self.DOMAIN, 0)
        self._agreed: dict[Kind, int] = dict.fromkeys(self.DOMAIN, 0)
        self._repeated: dict[Kind, int] = dict.fromkeys(self.DOMAIN, 0)

    def add(self, answer: str) -> None:
        """Counts one fresh answer of the engine."""
        understood = understand(answer)
        key = (understood.kind, understood.key)
        before = self._counts.pop(key, 0)
        self._counts[key] = before + 1
        self._totals[key[0]] += 1
        self._kinds[key[0]] += before == 0
        self._squares[key[0]] += 2 * before + 1
        if len(self._counts) > self._most:
            (kind, _), count = self._counts.popitem(last=False)
            self._totals[kind] -= count
            self._kinds[kind] -= 1
            self._squares[kind] -= count * count

    def frequency(self, answer: str) -> float:
        """The smoothed share of this answer among the answers of its kind, in (0, 1)."""
        understood = understand(answer)
        kind = understood.kind
        domain = max(self._kinds[kind] + 1, self.DOMAIN[kind])
        return (self._counts.get((kind, understood.key), 0) + 1) / (self._totals[kind] + domain)

    def confirm(self, answer: str, same: bool) -> None:
        """Notes that the engine answered a question that is known to be the same, and whether its answers agreed."""
        kind = understand(answer).kind
        self._repeated[kind] += 1
        self._agreed[kind] += same

    def reliability(self, answer: str) -> float:
        """How often answers like this one agree when the same is asked again, in (0.5, 1)."""
        kind = understand(answer).kind
        agreed = self._agreed[kind] + RELIABILITY * RELIABILITY_WORTH
        return max(0.5, min(0.99, agreed / (self._repeated[kind] + RELIABILITY_WORTH)))

    def log_odds_same(self, answer: str) -> float:
        """What an agreement on ``answer`` says for "same question": close to 0 for a plain yes, about 3.2 for a rare
        sum."""
        by_chance = ENTANGLEMENT + (1 - ENTANGLEMENT) * self.frequency(answer)
        return max(0.0, math.log(self.reliability(answer) / by_chance))

    def log_odds_different(self, answer: str) -> float:
        """What a disagreement says: negative, about -2.8."""
        total = sum(self._totals.values())
        chance = sum(self._squares.values()) / (total * total) if total else 0.1
        chance = min(0.5, chance)
        return math.log((1 - self.reliability(answer)) / ((1 - ENTANGLEMENT) * (1 - chance)))
