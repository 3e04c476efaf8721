"""What two questions differ in, as far as the word lists (`lexicon/`) and a few rules can tell.

A difference in the *content that is asked for* is a veto, a hard no: a number, a date, a name, a quoted string or a
protected term that one question asks about and the other does not mention; and whatever it is, where two questions
exclude each other in one thing and are equal in all else ("is there a cat", "is there no cat"). Every other difference
(fields, opposites, negation, kinds of answer ...) is evidence: the score gives it a learnt weight, and a judge or
agreeing answers can outweigh it. The rules are silent on words that no list knows, because those may as well be
synonyms.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import product

from dedup_service.question.alignment import Alignment, align
from dedup_service.question.lexicon import Lexicon, shipped
from dedup_service.question.marks import mark_difference
from dedup_service.question.normal import fold, normalise
from dedup_service.question.reading import Reading, read
from dedup_service.question.scope import scope
from dedup_service.question.words import is_misspelling, is_word, units

_QUOTED = re.compile(r'"([^"]+)"')
_CAPITAL = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][A-Za-z]+\b")
_DATE = re.compile(r"#?(?:(?:19|20)\d{2}|\d{1,4}[-/:]\d{1,2}(?:[-/:]\d{1,4})?)")
_CODE = re.compile(r"(?=.*\d)(?=.*[a-z])[a-z0-9]{2,}")
# A sense of these tables narrows the question down even if the other side says nothing of the kind.
NARROWING = frozenset(
    {
        "opposites/side",
        "opposites/depth",
        "opposites/extreme",
        "opposites/tax-side",
        "opposites/degree",
        "opposites/case",
        "opposites/price",
        "opposites/time",
        "formats/format",
        "formats/language",
        "units/date-weekday",
        "colours/colour",
    }
)
_PEOPLE = frozenset({"objects/person", "opposites/sex"})
_QUANTITIES = frozenset({"amount", "count", "number"})
_DIGITS = frozenset({"amount", "code", "quantity", "date", "clock", "how-long"})
_MOMENTS = frozenset({"when", "clock", "which-year", "which-month"})
_ALIKE = ({"who", "whose"}, {"why", "wrong"}, {"yes-no", "how-like"})
_OPEN = frozenset({"describe", "what", "explain", "how", "how-like"})
# An open "what" may ask for a person, a place or a way; it never asks for a yes, a reason or a count.
_NEVER_WHAT = frozenset({"yes-no", "count", "why", "translate", "summarise", "how-old", "how-often"})


@dataclass(frozen=True)
class Veto:
    """What two questions differ in. ``kind`` is an UPPER_SNAKE reason; ``left`` and ``right`` are the words of the
    first and of the second question that differ, empty on a side that has none. ``absolute``: it forbids reuse whatever
    else is known; otherwise it is evidence."""

    kind: str
    left: str
    right: str
    absolute: bool = False


def vetoes(a: str, b: str, protected_terms: Sequence[str] = ()) -> tuple[Veto, ...]:
    """Returns every reason why the questions can't be the same; none does not mean that they are.

    ``protected_terms`` are the policy's own words that must not be exchanged: a term in one question only is a veto.
    """
    return tuple(found for found in differences(a, b, protected_terms) if found.absolute)


def differences(a: str, b: str, protected_terms: Sequence[str] = ()) -> tuple[Veto, ...]:
    """Returns all that the questions are known to differ in, vetoes included."""
    if normalise(a) == normalise(b):
        return ()
    one, other = read(a), read(b)
    return find(a, b, one, other, align(one, other), protected_terms, shipped())


def find(
    a: str, b: str, one: Reading, other: Reading, alignment: Alignment, protected_terms: Sequence[str], lexicon: Lexicon
) -> tuple[Veto, ...]:
    """As `differences`, on readings that are at hand already."""
    found = [
        *_protected(one, other, protected_terms),
        *_quoted(one, other),
        *_numbers(one, other, alignment),
        *_negation(one, other),
        *_clashes(one, other, alignment, lexicon),
        *_characters(one, other, lexicon),
        *_interrogatives(one, other),
        *_entities(a, b, one, other, alignment, lexicon),
        *_order(one, other, alignment),
        *_contrast(one, other, alignment),
    ]
    if _only(found, one, other, alignment, lexicon):
        found = [replace(difference, absolute=True) for difference in found]
    return tuple(dict.fromkeys([*found, *_marks(a, b, alignment)]))


def _only(found: Sequence[Veto], one: Reading, other: Reading, alignment: Alignment, lexicon: Lexicon) -> bool:
    """Tells whether what was found is all that two questions differ in: one negates and the other does not, or each has
    a word that excludes the other's, or one alone says in what form or language to answer."""
    left, right = list(alignment.left), list(alignment.right)
    if not found or one.ask != other.ask:
        return False
    if len(left) == len(right) == 1:
        return bool(lexicon.kind_of_clash(left[0], right[0]))
    only = [token for token in left + right if token != "not"]
    if not only:
        return any(difference.kind == "NEGATION" for difference in found)
    senses = [lexicon.senses.get(token) for token in only]
    return len(only) == 1 and all(sense is not None and sense.set.startswith("formats/") for sense in senses)


def _protected(one: Reading, other: Reading, terms: Sequence[str]) -> list[Veto]:
    found = []
    for term in terms:
        form = fold(term)
        if not form:
            continue
        left, right = _mentions(one.normal, form), _mentions(other.normal, form)
        if left != right:
            found.append(Veto("PROTECTED_TERM", term if left else "", term if right else "", True))
    return found


def _marks(a: str, b: str, alignment: Alignment) -> list[Veto]:
    """Marks that bear meaning (a sign, a raised figure) and differ in what is asked. Where the words are nearly the
    same, they are the difference there is, and forbid reuse; between two wordings, "%" may stand for "per cent"."""
    difference = mark_difference(scope(a).asked, scope(b).asked)
    if difference is None or not difference.grave:
        return []
    return [Veto("MARK", difference.left, difference.right, len(alignment.left) + len(alignment.right) <= 2)]


def _mentions(normal: str, term: str) -> bool:
    if term.isascii():
        return re.search(rf"(?<![a-z0-9]){re.escape(term)}(?![a-z0-9])", normal) is not None
    return term in normal


def _quoted(one: Reading, other: Reading) -> list[Veto]:
    """A quoted string that is asked about on one side only. One that merely names a field ("the \"date\" line") is
    evidence; so is one that the other side sets aside."""
    left, right = _QUOTED.findall(one.asked), _QUOTED.findall(other.asked)
    only_left = [text for text in left if text not in right and text.casefold() not in other.normal.casefold()]
    only_right = [text for text in right if text not in left and text.casefold() not in one.normal.casefold()]
    cased = sorted(text for text in left if len(text) == 1) != sorted(text for text in right if len(text) == 1)
    if only_left or only_right:
        named = not (only_left and only_right) and all(map(_names_a_field, only_left + only_right))
        return [Veto("QUOTED", " ".join(only_left), " ".join(only_right), not named)]
    swapped = [text for text in left + right if (text in left) != (text in right)]
    if left and right and (cased or swapped):
        return [Veto("QUOTED", " ".join(left), " ".join(right), True)]
    return []


def _names_a_field(text: str) -> bool:
    """Tells whether a quoted string may be a label that the other side says in its own words: words of the lists, or a
    character or two."""
    lexicon = shipped()
    return units(text) in lexicon.phrases or not re.search("[a-z]", text, re.IGNORECASE)


def _numbers(one: Reading, other: Reading, alignment: Alignment) -> list[Veto]:
    """Numbers that are asked about on one side only. One that the other side mentions beside its question, or sets
    aside, is evidence."""
    left, right = _numeric(alignment.left, other), _numeric(alignment.right, one)
    if not left and not right:
        return []
    kind = "DATE" if any(_DATE.fullmatch(number) for number in left + right) or _dated(one, other) else "NUMBER"
    mentioned = {token.lstrip("#") for token in one.context | other.context}
    absolute = any(number.lstrip("#") not in mentioned for number in left + right)
    return [Veto(kind, _span(one, left), _span(other, right), absolute)]


def _numeric(tokens: Sequence[str], other: Reading) -> list[str]:
    """The numbers among tokens that the other question lacks; "row 3" and "the third row" name one."""
    theirs = {token.lstrip("#") for token in other.tokens}
    return [
        token
        for token in tokens
        if token.lstrip("#")[:1].isdigit() and not _CODE.fullmatch(token) and token.lstrip("#") not in theirs
    ]


def _dated(one: Reading, other: Reading) -> bool:
    return any(set(reading.tokens) & {"年", "月", "日", "号"} for reading in (one, other))


def _span(reading: Reading, tokens: Sequence[str]) -> str:
    spans = dict(zip(reading.tokens, reading.spans, strict=True))
    return " ".join(dict.fromkeys(spans.get(token, token) for token in tokens))


def _negation(one: Reading, other: Reading) -> list[Veto]:
    left, right = _negations(one), _negations(other)
    if left % 2 == right % 2:
        return []
    return [Veto("NEGATION", _span(one, ["not"] * left), _span(other, ["not"] * right))]


def _negations(reading: Reading) -> int:
    """How often a question negates; "without" leaves something out, and negates a yes-no question only."""
    return reading.tokens.count("not") + (reading.tokens.count("excluding") if reading.ask == "yes-no" else 0)


def _clashes(one: Reading, other: Reading, alignment: Alignment, lexicon: Lexicon) -> list[Veto]:
    left = [token for token in dict.fromkeys(alignment.left) if token in lexicon.senses and token not in other.tokens]
    right = [token for token in dict.fromkeys(alignment.right) if token in lexicon.senses and token not in one.tokens]
    found = []
    for mine, theirs in product(left, right):
        kind = lexicon.kind_of_clash(mine, theirs)
        if kind:
            found.append(Veto(kind, _span(one, [mine]), _span(other, [theirs])))
    if not found and len(alignment.left) == len(alignment.right) == 1:
        found += _exchanged(alignment.left[0], alignment.right[0], one, other, lexicon)
    if not alignment.right:
        found += _narrowed(alignment.left, one, lexicon, flip=False)
    elif not alignment.left:
        found += _narrowed(alignment.right, other, lexicon, flip=True)
    return found


def _exchanged(mine: str, theirs: str, one: Reading, other: Reading, lexicon: Lexicon) -> list[Veto]:
    """All else being equal, one sort of people for another: people for women, a man for a child."""
    senses = [lexicon.senses.get(token) for token in (mine, theirs)]
    if all(sense is not None and sense.set in _PEOPLE for sense in senses):
        return [Veto("OBJECT", _span(one, [mine]), _span(other, [theirs]))]
    return []


def _narrowed(added: Sequence[str], reading: Reading, lexicon: Lexicon, flip: bool) -> list[Veto]:
    """One question says all that the other says, and adds nothing but a side, an extreme, a colour, a form of
    answer."""
    senses = [lexicon.senses.get(token) for token in added]
    if not all(sense is not None and sense.set in NARROWING for sense in senses):
        return []
    spans = [(sense.kind, _span(reading, [sense.name])) for sense in senses if sense is not None]
    return [Veto(kind, "", span) if flip else Veto(kind, span, "") for kind, span in spans]


def _characters(one: Reading, other: Reading, lexicon: Lexicon) -> list[Veto]:
    """One character for its opposite in otherwise equal text: 收款/付款."""
    if one.language != "zh" or other.language != "zh":
        return []
    a, b = one.surface, other.surface
    if sorted(a) == sorted(b):
        return []
    found = []
    for operation, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if operation != "replace":
            continue
        left, right = a[i:j], b[k:m]
        for mine, theirs in zip(left, right, strict=False):
            if len(left) == len(right) and frozenset((mine, theirs)) in lexicon.opposite_characters:
                found.append(Veto("OPPOSITE", "".join(left), "".join(right)))
                break
    return found


def _interrogatives(one: Reading, other: Reading) -> list[Veto]:
    a, b = one.ask, other.ask
    if one.expects and other.expects and not may_meet(one.expects, other.expects):
        return [Veto("ANSWER_KIND", _told(one), _told(other))]
    if a == b or one.ask_span == other.ask_span or _compatible(a, b):
        return []
    if "what" in (a, b):
        strong, weak = (a, other) if b == "what" else (b, one)
        if strong not in _NEVER_WHAT or not weak.ask_span:
            return []
        if strong == "count" and weak.expects & _DIGITS:
            return []
    return [Veto("INTERROGATIVE", one.ask_span, other.ask_span)]


def may_meet(one: frozenset[str], other: frozenset[str]) -> bool:
    """Tells whether one answer could serve both kinds. A number may be anything that is written in digits."""
    if one & other or (one | other) == {"where", "control"}:
        return True
    return any("any-number" in kinds and others & _DIGITS for kinds, others in ((one, other), (other, one)))


def wants_clash(one: str, other: str) -> bool:
    """Tells whether two broad kinds of answer exclude each other. A figure may be money, a count or a code."""
    if not one or not other or one == other:
        return False
    return not {one, other} <= {"money", "number", "count", "code"} or {one, other} == {"money", "count"}


def _told(reading: Reading) -> str:
    """The words that say what kind of answer is wanted."""
    lexicon = shipped()
    typed = [
        span
        for name, span in zip(reading.tokens, reading.spans, strict=True)
        if lexicon.type_of(name) in reading.expects
    ]
    return reading.ask_span if reading.ask_span and not typed else " ".join(dict.fromkeys(typed)) or reading.ask_span


def _compatible(a: str, b: str) -> bool:
    pair = {a, b}
    return pair <= _QUANTITIES or pair <= _MOMENTS or pair <= _OPEN or pair in _ALIKE or "number" in pair


def _entities(a: str, b: str, one: Reading, other: Reading, alignment: Alignment, lexicon: Lexicon) -> list[Veto]:
    left = [token for token in alignment.left if _is_name(token, a, one, lexicon)]
    right = [token for token in alignment.right if _is_name(token, b, other, lexicon)]
    if left and right and not any(_one_name(mine, theirs) for mine, theirs in product(left, right)):
        proper = [any(_is_proper(token, a, one) for token in left), any(_is_proper(token, b, other) for token in right)]
        return [Veto("ENTITY", " ".join(left), " ".join(right), all(proper))]
    codes_left = [token for token in alignment.left if _CODE.fullmatch(token)]
    codes_right = [token for token in alignment.right if _CODE.fullmatch(token)]
    if codes_left or codes_right:
        return [Veto("ENTITY", " ".join(codes_left), " ".join(codes_right), True)]
    return []


def _is_proper(token: str, text: str, reading: Reading) -> bool:
    """A name beyond doubt: a code, a capital within an English sentence that is no abbreviation, Latin letters that are
    no English word in a Chinese one."""
    if _CODE.fullmatch(token):
        return True
    if reading.language == "zh":
        return not is_word(token)
    return any(word.casefold().startswith(token[:4]) for word in _CAPITAL.findall(text) if not word.isupper())


def _one_name(mine: str, theirs: str) -> bool:
    """Tells whether two names may be one: misspelt, or one the beginning of the other (Olympic, Olympics)."""
    return is_misspelling(mine, theirs) or (
        min(len(mine), len(theirs)) >= 4 and (mine.startswith(theirs) or theirs.startswith(mine))
    )


def _is_name(token: str, text: str, reading: Reading, lexicon: Lexicon) -> bool:
    """A word that names one thing: a code, a word no dictionary knows, Latin letters in a Chinese question, or a word
    that is written with a capital in the middle of a sentence that is not all in capitals."""
    if token in lexicon.senses or not token[:1].isalnum():
        return False
    if _CODE.fullmatch(token):
        return True
    if not token.isascii() or not token.isalpha() or len(token) < 2:
        return False
    if reading.language == "zh":
        return True
    capitals = (
        {word.casefold() for word in _CAPITAL.findall(text)} if not text.isupper() and not text.istitle() else set()
    )
    if any(word.startswith(token[:4]) for word in capitals):
        return True
    return len(token) > 3 and text.islower() and not is_word(token)


def _order(one: Reading, other: Reading, alignment: Alignment) -> list[Veto]:
    """The same words with two of them exchanged: from A to B, from B to A."""
    if (
        alignment.left
        or alignment.right
        or alignment.order != "changed"
        or Counter(one.tokens) != Counter(other.tokens)
    ):
        return []
    moved = [at for at, (mine, theirs) in enumerate(zip(one.tokens, other.tokens, strict=True)) if mine != theirs]
    if len(moved) == 2 and moved[1] - moved[0] > 1:
        first, last = moved
        return [Veto("WORD_ORDER", _between(one, first, last), _between(other, first, last))]
    return []


def _contrast(one: Reading, other: Reading, alignment: Alignment) -> list[Veto]:
    """What one question asks for is what the other sets aside: "A, not B"; "B, not A"."""
    mine = [token for token in alignment.left if token in other.aside and token != "not"]
    theirs = [token for token in alignment.right if token in one.aside and token != "not"]
    if mine and theirs:
        return [Veto("CONTRAST", _span(one, mine), _span(other, theirs), True)]
    return []


def _between(reading: Reading, first: int, last: int) -> str:
    spans = reading.spans[first : last + 1]
    return ("" if reading.language == "zh" else " ").join(spans)
