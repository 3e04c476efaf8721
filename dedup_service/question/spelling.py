"""Reads slips of the pen in English words as the words of the lists that they stand for: "recipt", "meny", "adress"."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

from rapidfuzz.distance import DamerauLevenshtein

from dedup_service.question.lexicon import shipped
from dedup_service.question.numerals import numeral
from dedup_service.question.words import is_word, lemma

LEAST = 4
"""Shortest word that is corrected: shorter ones have too many neighbours."""


@lru_cache(maxsize=65536)
def corrected(word: str, before: str = "") -> str:
    """The word of the lists that a lower-case English word is a slip of; the word itself when it is in the dictionary,
    when no word of the lists is near, or when two are as near.

    After "how" it is "many" or "much" if it can be. One slip (a letter missing, doubled, exchanged or swapped with its
    neighbour), two from eight letters on, the first letter right.
    """
    if len(word) < LEAST or not word.isascii() or not word.isalpha() or is_word(word) or numeral([word], 0)[1]:
        return word
    if before == "how":
        for known in ("many", "much"):
            if DamerauLevenshtein.distance(word, known, score_cutoff=1) <= 1:
                return known
    slips = 2 if len(word) >= 8 else 1
    near: dict[int, set[str]] = defaultdict(set)
    for known in _vocabulary().get(word[0], ()):
        distance = DamerauLevenshtein.distance(word, known, score_cutoff=slips)
        if distance <= slips:
            near[distance].add(known)
    if not near:
        return word
    best = near[min(near)]
    return best.pop() if len({lemma(known) for known in best}) == 1 else word


@lru_cache(maxsize=1)
def _vocabulary() -> Mapping[str, Sequence[str]]:
    """The English words of the lists by first letter."""
    found: dict[str, set[str]] = defaultdict(set)
    for phrase in shipped().phrases:
        for word in phrase:
            if word.isascii() and word.isalpha() and len(word) >= LEAST - 1:
                found[word[0]].add(word)
    return {letter: sorted(words) for letter, words in found.items()}
