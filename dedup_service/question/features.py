"""What two questions have in common and what parts them, as numbers: the input of the pair model.

Every feature is symmetric: it does not matter which question is asked first. Similarities lie in 0..1, counts are
whole numbers from 0, a missing value is NaN.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Indel

from dedup_service.question.alignment import Alignment
from dedup_service.question.lexicon import Lexicon
from dedup_service.question.reading import Reading
from dedup_service.question.veto import NARROWING, Veto, may_meet, wants_clash

# Differences with a weight of their own; the first of a kind counts as much as several.
KINDS = (
    "NEGATION",
    "ANSWER_KIND",
    "INTERROGATIVE",
    "FIELD",
    "OPPOSITE",
    "OBJECT",
    "UNIT",
    "OUTPUT_FORMAT",
    "OUTPUT_LANGUAGE",
    "COLOUR",
    "ACTION",
    "WORD_ORDER",
    "NUMBER",
    "DATE",
    "QUOTED",
    "ENTITY",
    "MARK",
)

# Name of every feature, in order, with its direction: +1 if more of it must never score less, -1 the other way round,
# 0 free.
FEATURES: dict[str, int] = {
    "cosine": 1,
    "token_similarity": 1,
    "coverage": 1,
    "order": 1,
    "same_ask": 1,
    "surface": 1,
    "asked_surface": 1,
    "bigrams": 1,
    "containment": 1,
    "left_least": 0,
    "left_most": 0,
    "words_least": 0,
    "words_most": 0,
    "senses_shared": 0,
    "senses_least": 0,
    "senses_most": 0,
    "narrowed": -1,
    "kinded_least": -1,
    "kinded_most": -1,
    "wants_same": 1,
    "wants_clash": -1,
    "wants_doubt": 0,
    "crossed": -1,
    "expects_meet": 0,
    "expects_clash": -1,
    "context": 0,
    "chinese": 0,
    "agrees": 1,
    **{kind.lower(): -1 for kind in KINDS},
}


def features(
    one: Reading,
    other: Reading,
    alignment: Alignment,
    found: Sequence[Veto],
    cosine: float,
    lexicon: Lexicon,
) -> NDArray[np.float64]:
    """The features of a pair, shape (len(FEATURES),). ``cosine`` is that of the vectors of
    what each asks (see `asked_encoder`); NaN where there is none."""
    left, right = alignment.left, alignment.right
    senses = [[token for token in side if token in lexicon.senses] for side in (left, right)]
    words = [len(one.tokens), len(other.tokens)]
    total = sum(words)
    kinds = Counter(veto.kind for veto in found)
    crossed = len(set(left) & other.aside) + len(set(right) & one.aside)
    narrowed = sum(lexicon.senses[token].set in NARROWING for side in senses for token in side)
    kinded = [sum(bool(lexicon.senses[token].kind) for token in side) for side in senses]
    shared = sum((Counter(one.tokens) & Counter(other.tokens)).values())
    meets = bool(one.expects and other.expects) and may_meet(one.expects, other.expects)
    values = [
        cosine,
        float(Indel.normalized_similarity(" ".join(one.tokens), " ".join(other.tokens))),
        2.0 * alignment.matched / total if total else 0.0,
        alignment.order_similarity,
        float(alignment.same_ask),
        float(Indel.normalized_similarity(one.normal, other.normal)),
        float(Indel.normalized_similarity(one.asked, other.asked)),
        _bigrams(one.asked, other.asked),
        shared / min(words) if min(words) else 0.0,
        min(len(left), len(right)),
        max(len(left), len(right)),
        min(words),
        max(words),
        sum(token in lexicon.senses for token in set(one.tokens) & set(other.tokens)),
        min(map(len, senses)),
        max(map(len, senses)),
        narrowed,
        min(kinded),
        max(kinded),
        float(bool(one.wants) and one.wants == other.wants),
        float(wants_clash(one.wants, other.wants)),
        float(bool(one.wants) != bool(other.wants)),
        crossed,
        float(meets),
        float(bool(one.expects and other.expects) and not meets),
        float(bool(one.context)) + float(bool(other.context)),
        float(one.language == "zh"),
        float(alignment.agrees),
        *(min(2, kinds[kind]) for kind in KINDS),
    ]
    return np.array(values, dtype=np.float64)


def _bigrams(one: str, other: str) -> float:
    """Jaccard similarity of the pairs of neighbouring characters."""
    a, b = ({text[at : at + 2] for at in range(len(text) - 1)} for text in (one, other))
    return len(a & b) / len(a | b) if a | b else math.nan
