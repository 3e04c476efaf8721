"""Lays two readings on each other: what each says that the other lacks, and whether the order means the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Indel

from dedup_service.question.lexicon import Lexicon, shipped
from dedup_service.question.reading import ABOUT_ALL, SUPERLATIVES, Reading
from dedup_service.question.words import is_misspelling

Order = Literal["same", "moved", "changed"]


@dataclass(frozen=True)
class Alignment:
    """How two readings lie on each other. ``left`` and ``right`` hold the tokens of each that the other lacks;
    ``agrees`` is true only if nothing is left over, the order means the same, and both ask for the same kind of
    answer."""

    agrees: bool
    left: tuple[str, ...]
    right: tuple[str, ...]
    matched: int
    order: Order
    order_similarity: float
    same_ask: bool


def align(a: Reading, b: Reading, lexicon: Lexicon | None = None) -> Alignment:
    """Lays two readings on each other. A token matches an equal one, or a slip of the pen of it."""
    lexicon = lexicon or shipped()
    if a.tokens == b.tokens:
        left: list[str] = []
        right: list[str] = []
        order: Order = "same"
    else:
        left = list((Counter(a.tokens) - Counter(b.tokens)).elements())
        right = list((Counter(b.tokens) - Counter(a.tokens)).elements())
        spelt: dict[str, str] = {}
        for one in list(left):
            twin = next((other for other in right if is_misspelling(one, other)), None)
            if twin is not None:
                left.remove(one)
                right.remove(twin)
                spelt[one] = twin
        order = (
            order_of([spelt.get(token, token) for token in a.tokens], b.tokens, lexicon) if not left + right else "same"
        )
    same_ask = a.ask == b.ask
    number_of_things = (
        (a.plural ^ b.plural) & set(a.tokens) & set(b.tokens) if a.language == b.language == "en" else set()
    )
    if a.ask in ("count", "yes-no", "where", "why", "how"):
        number_of_things = set()
    deixis = not a.deixis or not b.deixis or bool(a.deixis & b.deixis)
    agrees = (
        not left
        and not right
        and (bool(a.tokens) or a.ask in ABOUT_ALL)
        and same_ask
        and order != "changed"
        and not number_of_things
        and deixis
        and a.language == b.language
    )
    matched = len(a.tokens) - len(left)
    similarity = float(Indel.normalized_similarity(a.tokens, b.tokens))
    return Alignment(agrees, tuple(left), tuple(right), matched, order, similarity, same_ask)


def order_of(a: Sequence[str], b: Sequence[str], lexicon: Lexicon) -> Order:
    """Tells whether equal tokens in another order still say the same: they do if one movable token changed its place,
    and the rest did not."""
    if list(a) == list(b):
        return "same"
    movable = [token for token in dict.fromkeys(a) if lexicon.is_movable(token)]
    if len(movable) == 1 and [t for t in a if t != movable[0]] == [t for t in b if t != movable[0]]:
        return "moved"
    if len(a) == 2 and any(sense.set in SUPERLATIVES for sense in map(lexicon.senses.get, a) if sense is not None):
        return "moved"
    return "changed"
