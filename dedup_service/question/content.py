"""What two questions ask about, once the words that carry nothing are gone: the ground on which a cold system may take
two wordings for one question.

Likeness proves nothing: a trap is as like as a paraphrase. Two short questions prove more when both name the same
fields or things of the word lists, want the same kind of answer, and nothing is left over on either side but words of
closed classes (`content.toml`). A word that no list knows counts as content: it may be the one that matters.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files

from dedup_service.question.alignment import order_of
from dedup_service.question.lexicon import Lexicon
from dedup_service.question.reading import SUPERLATIVES, Reading
from dedup_service.question.veto import Veto, may_meet, wants_clash
from dedup_service.question.words import lemma

_LISTS = tomllib.loads(files("dedup_service.question").joinpath("content.toml").read_text("utf-8"))
_NOTHING: frozenset[str] = frozenset(
    [*map(lemma, _LISTS["english"]), *_LISTS["english"], *_LISTS["chinese"].strip(), *_LISTS["senses"]]
)
_VAGUE: Mapping[str, frozenset[str]] = {name: frozenset(kinds) for name, kinds in _LISTS["vague"].items()}
_ABOVE: str = _LISTS["above"]
_NOT_ABOVE = frozenset(_LISTS["not_above"])
_CARRIERS = frozenset([*_LISTS["carriers"], *_LISTS["chinese_carriers"]])
_PARTIES = frozenset(_LISTS["parties"])
_PRINTED = frozenset({"code", "date", "clock", "words", "who", "where"})
"""Kinds of answer that are read off as they are printed, whatever is told beside the question."""
_PERSONS = tuple(frozenset(map(lemma, words)) | frozenset(words) for words in _LISTS["persons"])
_NAMES = frozenset({"name", "place", "wording"})
MOST_UNKNOWN = 2
"""Words that no list knows in one question: with more of them, what the lists know is too little of it."""
LONGEST = 8
"""Content tokens of one question: a longer one is a sentence, in which order means something."""


def same_content(one: Reading, other: Reading, found: Sequence[Veto], lexicon: Lexicon) -> bool:
    """Tells whether two questions of one language ask about the same in other words, as far as the lists can prove it.

    `found` are the differences that `veto.find` sees; any of them refuses. Symmetric.
    """
    if one.language != other.language or found:
        return False
    left, right = list(content(one, lexicon)), list(content(other, lexicon))
    if "count" not in (one.ask, other.ask):
        left, right = _without_carriers(left, right)
    named = _named(left, lexicon)
    if not named or named != _named(right, lexicon) or max(len(left), len(right)) > LONGEST:
        return False
    if max(sum(token not in lexicon.senses for token in side) for side in (left, right)) > MOST_UNKNOWN:
        return False
    if one.language == "en" and one.ask != "count" and one.plural & set(left) != other.plural & set(right):
        return False
    if not _same_answer(one, other, named, lexicon) or not _same_story(one, other, named, lexicon):
        return False
    if _persons(one) and _persons(other) and _persons(one) != _persons(other):
        return False
    if Counter(left) == Counter(right):
        return len(left) <= 2 or order_of(left, right, lexicon) != "changed"
    return _one_word_more(left, right, named, lexicon)


def content(reading: Reading, lexicon: Lexicon) -> tuple[str, ...]:
    """The tokens of a question that say what it asks about, in order."""
    tokens = reading.tokens
    kept = [
        token
        for token, after in zip(tokens, (*tokens[1:], ""), strict=False)
        if token not in _NOTHING and not (token == _ABOVE and after not in _NOT_ABOVE)
    ]
    exact = {_kind(token, lexicon) for token in kept if token not in _VAGUE}
    return tuple(token for token in kept if not _VAGUE.get(token, frozenset()) & exact)


def _kind(token: str, lexicon: Lexicon) -> str:
    return "who" if token in _PARTIES else lexicon.type_of(token)


def _without_carriers(one: Sequence[str], other: Sequence[str]) -> tuple[list[str], list[str]]:
    """Leaves out what carries the text (a card, a map) where the other question names no carrier, and something else is
    asked about."""
    sides = [list(one), list(other)]
    carried = [[token for token in side if token in _CARRIERS] for side in sides]
    for at, twin in ((0, 1), (1, 0)):
        bare = [token for token in sides[at] if token not in _CARRIERS]
        if carried[at] and not carried[twin] and bare:
            sides[at] = bare
    return sides[0], sides[1]


def _persons(reading: Reading) -> frozenset[int]:
    """Which persons a question speaks of: my name is not your name."""
    return frozenset(at for at, person in enumerate(_PERSONS) if person & set(reading.tokens))


def _named(tokens: Sequence[str], lexicon: Lexicon) -> frozenset[str]:
    """Those that the word lists tell from others of their table, or that say what kind of answer is wanted."""
    return frozenset(
        token for token in tokens if token in lexicon.senses and (lexicon.senses[token].set or lexicon.type_of(token))
    )


def _same_answer(one: Reading, other: Reading, named: frozenset[str], lexicon: Lexicon) -> bool:
    """Whether both want one kind of answer. A field says by itself what is wanted; a thing, or the extreme of
    something, leaves it to the interrogative."""
    if wants_clash(one.wants, other.wants):
        return False
    if one.expects and other.expects and not may_meet(one.expects, other.expects):
        return False
    extreme = any(lexicon.senses[token].set in SUPERLATIVES for token in named)
    if not extreme and any(lexicon.type_of(token) for token in named):
        return True
    if one.wants == other.wants:
        return one.ask == other.ask
    return not extreme and {one.wants, other.wants} - {""} <= _NAMES


def _same_story(one: Reading, other: Reading, named: frozenset[str], lexicon: Lexicon) -> bool:
    """Whether what is told beside the questions may be left aside: it is equal, or what is asked for is printed, or
    neither tells anything that the answer could hang on, as far as the lists know: a number, a field, a thing."""
    if one.beside == other.beside or any(_kind(token, lexicon) in _PRINTED for token in named):
        return True
    told = one.context | other.context
    return not _named(tuple(told), lexicon) and not any(token.lstrip("#")[:1].isdigit() for token in told)


def _one_word_more(left: Sequence[str], right: Sequence[str], named: frozenset[str], lexicon: Lexicon) -> bool:
    """Whether an English question has one unknown word more than the other and both name a field: "the total as
    calculated", "the total". A Chinese character more is part of a word that no list knows."""
    more, less = Counter(left) - Counter(right), Counter(right) - Counter(left)
    over = [*more.elements(), *less.elements()]
    typed = any(lexicon.type_of(token) for token in named)
    return len(over) == 1 and typed and over[0].isascii() and over[0].isalpha() and over[0] not in lexicon.senses
