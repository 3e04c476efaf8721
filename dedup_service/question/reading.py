"""Reads a question: what kind of answer it asks for, about what, in which words, once everything that says nothing is
gone.

Two questions whose readings agree ask the same; that is the only ground on which a cold system serves an answer given
to another wording. The reading errs on the side of difference: a word that no list knows stays, and counts.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dedup_service.question.lexicon import Lexicon, shipped
from dedup_service.question.normal import Language, detect_language, fold
from dedup_service.question.numerals import HAN_NUMERAL, numeral
from dedup_service.question.scope import scope
from dedup_service.question.spelling import corrected
from dedup_service.question.words import is_plural, lemma, surface_units

_AUXILIARIES = frozenset(
    [
        "be",
        "is",
        "are",
        "was",
        "were",
        "do",
        "does",
        "did",
        "have",
        "has",
        "had",
        "can",
        "could",
        "will",
        "would",
        "should",
        "may",
        "might",
        "must",
    ]
)
# Alternations that make a yes-no question of a Chinese verb: 是不是, 有没有 and the like.
_V_NOT_V = re.compile(r"([\u4e00-\u9fff]{1,2})[不没]\1")
_ASKS = (
    "count",
    "amount",
    "who",
    "whose",
    "when",
    "clock",
    "which-year",
    "which-month",
    "where",
    "why",
    "how",
    "how-long",
    "how-old",
    "how-often",
    "number",
    "what-kind",
    "list",
    "describe",
    "summarise",
    "translate",
    "transcribe",
    "explain",
    "compare",
    "how-like",
    "wrong",
    "yes-no",
    "what",
)
# Which kinds of answer an interrogative can ask for; where the question names such a thing, the interrogative adds
# nothing.
_ABSORBED = {
    "amount": frozenset({"amount"}),
    "number": frozenset({"amount", "code", "quantity", "any-number", "how-long", "date", "clock"}),
    "when": frozenset({"date", "clock"}),
    "clock": frozenset({"clock"}),
    "where": frozenset({"where"}),
    "who": frozenset({"who"}),
    "how-long": frozenset({"how-long"}),
    "how-old": frozenset({"quantity"}),
    "what-kind": frozenset({"what-kind"}),
    "count": frozenset({"code", "quantity"}),
}
# What an interrogative by itself makes of the answer; the others leave it to the fields that the question names.
_EXPECTED = {
    "who": frozenset({"who"}),
    "whose": frozenset({"who"}),
    "when": frozenset({"date", "clock"}),
    "clock": frozenset({"clock", "date"}),
    "which-year": frozenset({"date"}),
    "which-month": frozenset({"date"}),
    "where": frozenset({"where"}),
    "why": frozenset({"cause"}),
    "amount": frozenset({"amount"}),
    "count": frozenset({"quantity"}),
    "yes-no": frozenset({"yes-no"}),
    "how-long": frozenset({"how-long"}),
    "how-old": frozenset({"quantity"}),
}
# "What did the customer pay": the noun that follows is who does it, not what is asked for.
_ASKS_ABOUT_DEEDS = frozenset({("what", "do"), ("which", "do")})
SUPERLATIVES = frozenset({"opposites/extreme", "opposites/price", "opposites/length"})
# With nothing else said, these ask about the image as a whole.
ABOUT_ALL = frozenset({"describe", "summarise", "translate", "transcribe", "where", "who"})
# What a broad field is, on such a document.
_ON_PAPER = {
    ("date", "invoice"): "invoice-date",
    ("date", "bill"): "invoice-date",
    ("number-field", "invoice"): "invoice-number",
    ("number-field", "receipt"): "receipt-number",
    ("amount-field", "invoice"): "total",
    ("amount-field", "bill"): "total",
    ("amount-field", "receipt"): "total",
}
_EXTREMES = frozenset({"highest", "lowest", "average", "median", "second-highest", "second-lowest"})
_QUANTITIES = frozenset({"amount", "count", "number"})
# What puts a tax into a sum, and what leaves it out.
_INCLUDED = frozenset({"including", "after", "add", "with", "plus", "and"})
_LEFT_OUT = frozenset({"excluding", "before", "remove", "less", "net", "minus", "刨", "扣", "除"})
_TAXING = (_INCLUDED - {"and"}) | _LEFT_OUT | {"not", "tax-amount", "have", "once", "上", "去", "开"}
# The kind of answer in the broadest terms, by interrogative and by the type of what is asked for.
_WANTED = {
    "count": "count",
    "amount": "money",
    "yes-no": "yes-no",
    "when": "time",
    "clock": "time",
    "which-year": "time",
    "which-month": "time",
    "where": "place",
    "who": "name",
    "whose": "name",
    "why": "reason",
    "how": "way",
    "describe": "text",
    "summarise": "summary",
    "translate": "translation",
    "transcribe": "wording",
    "explain": "text",
    "how-long": "number",
    "how-old": "number",
    "how-often": "number",
}
_WANTED_TYPES = {
    "amount": "money",
    "code": "code",
    "quantity": "number",
    "any-number": "number",
    "date": "time",
    "clock": "time",
    "where": "place",
    "who": "name",
    "words": "wording",
    "how-long": "number",
}
_FIGURES = frozenset({"amount", "code", "quantity", "any-number", "date", "clock"})
# What stands before or after the name of the image as a whole, and marks it as such.
_POINTING = frozenset(
    ["个", "the", "this", "that", "these", "those", "这", "张", "该", "此", "本", "份", "在", "幅", "页"]
)
_PLACING = frozenset(["上", "中", "里", "内", "的"])
# Relations whose two sides may not be exchanged.
_STRAY = frozenset({"for", "on", "at", "from", "to", "by", "with", "as", "into"})
_DEIXIS = frozenset({"receipt", "invoice", "bill", "document", "chart", "table-data", "image"})
_DROPPED_BY_ASK = {
    "amount": frozenset({"cost", "price", "exist", "for", "money", "钱", "元", "amount-field"}),
    "count": frozenset({"exist", "altogether", "in", "on", "every", "can", "数"}),
    "where": frozenset({"located", "in", "at", "can", "find"}),
    "number": frozenset({"exist"}),
    "which-month": frozenset({"exist", "in"}),
    "which-year": frozenset({"exist", "in"}),
    "when": frozenset({"exist"}),
    "what": frozenset({"exist"}),
    "list": frozenset({"every", "exist"}),
}


@dataclass(frozen=True)
class Reading:
    """A question as it was understood.

        ``tokens``: what it asks about, in order; a token is the name of a sense in the lexicon, else a word, a number
        or one Chinese character. ``ask``: the kind of answer, one of the senses of the `[ask]` table of `frames.toml`
        ("what" when nothing more is said). ``spans`` and ``ask_span`` are the words that each token and the
        interrogative stood for. ``deixis``: names for the image as a whole, which may be left out. ``plural``: tokens
        that stand in the plural. ``surface``: the units before anything was left out. ``expects``: the kinds of
        answer that would do (the types of
    the lexicon), empty when that can't be told.
    """

    normal: str
    language: Language
    tokens: tuple[str, ...]
    spans: tuple[str, ...]
    ask: str
    ask_span: str
    deixis: frozenset[str]
    plural: frozenset[str]
    surface: tuple[str, ...]
    senses: frozenset[str]
    expects: frozenset[str]
    asked: str = ""
    beside: str = ""
    wants: str = ""
    context: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()


@lru_cache(maxsize=32768)
def read(text: str) -> Reading:
    """Reads a question with the shipped word lists. Results are kept for the most recent questions."""
    return read_with(text, shipped())


def read_with(text: str, lexicon: Lexicon) -> Reading:
    """Reads a question with the given word lists."""
    normal = fold(text)
    parts = scope(text)
    asked = fold(parts.asked) or normal
    units = surface_units(_V_NOT_V.sub(_alternation, asked))
    surface = tuple(unit for unit in units if unit not in lexicon.speech) or units
    surface = tuple(corrected(unit, before) for before, unit in zip(("", *surface), surface, strict=False))
    words = [lemma(unit) for unit in surface]
    start, stop = _frame(words, lexicon)
    found, plural, asks = _tokens(surface[start:stop], words[start:stop], lexicon)
    if start < stop and (words[start] in _AUXILIARIES or words[start] in ("if", "whether")):
        asks.append(("yes-no", surface[start]))
    if _V_NOT_V.search(asked):
        asks.append(("yes-no", "是否"))
    ask, ask_span = min(asks, key=lambda pair: _ASKS.index(pair[0]), default=("what", ""))
    if ask == "count" and ask_span in ("几块", "几元") and words[stop - 1] == ask_span[-1]:
        ask = "amount"  # 一共几块: of money; 几块牌子: of things.
    if ask == "yes-no" and any(name == "or" for name, _ in found):
        ask = "what"
    if ask in _QUANTITIES and any(
        lexicon.senses[name].set.startswith("units/") for name, _ in found if name in lexicon.senses
    ):
        ask = "number"
    elif ask == "number" and any(
        lexicon.senses[name].set.startswith("objects/") for name, _ in found if name in lexicon.senses
    ):
        ask = "count"
    weak = {ask, "yes-no", "list"} | (_QUANTITIES if ask in _QUANTITIES else set())
    if any(name not in weak and name != "what" for name, _ in asks):
        found += [(name, span) for name, span in asks if name not in weak]
    found = _taxed(found)
    names = [name for name, _ in found]
    senses = frozenset(names) & lexicon.senses.keys()
    content = [pair for pair in found if pair[0] not in _DROPPED_BY_ASK.get(ask, ())] or found
    if any(lexicon.type_of(name) == "who" for name, _ in content):
        content = [pair for pair in content if pair[0] != "name"]
    deixis = frozenset(name for name, _ in content) & _DEIXIS
    if any(name not in _DEIXIS for name, _ in content):
        content = _without_deixis(content)
        if len(deixis) == 1:
            content = [(_ON_PAPER.get((name, next(iter(deixis))), name), span) for name, span in content]
    elif ask in ABOUT_ALL:
        content = []
    names = [name for name, _ in content]
    expects = _expects(ask, ask_span, [name for name in names if name not in plural], lexicon)
    if ask == "what" and any(pair in _ASKS_ABOUT_DEEDS for pair in itertools.pairwise(words)):
        expects = frozenset()
    wanted = ask
    # "How many calories" asks for the calories; "how many groups have a higher percentage" counts groups.
    asked_for = names[:1] if ask == "count" else names
    if any(lexicon.type_of(name) in _ABSORBED.get(ask, ()) for name in asked_for):
        ask = "what"
    elif ask in ("amount", "number") and set(names) <= {"altogether", "cost"}:
        content, ask = [("total", ask_span)], "what"
    elif ask == "list":
        ask = "what"
    if content and all(name in _EXTREMES for name, _ in content):
        # "Which is the highest" asks for a name, "how high is the highest" for a figure; a bare superlative for either.
        content.append((ask_span if ask == "what" else ask, ask_span))
    tokens = tuple(name for name, _ in content)
    spans = tuple(span for _, span in content)
    return Reading(
        normal,
        detect_language(normal),
        tokens,
        spans,
        ask,
        ask_span,
        deixis,
        plural,
        surface,
        senses,
        expects,
        asked,
        f"{fold(parts.context)}\n{fold(parts.aside)}",
        _wants(wanted, ask_span, expects, names, lexicon),
        _mentioned(parts.context, lexicon),
        _mentioned(parts.aside, lexicon),
    )


def _taxed(tokens: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Reads a tax that is added, included or left out as a side of the sum: "once VAT has been added", 没加上税."""
    names = [name for name, _ in tokens]
    found = list(tokens)
    for at, name in enumerate(names):
        if name != "tax-amount":
            continue
        low, high = max(0, at - 3), at + 4
        around = names[low:high]
        put_in, left_out = bool(_INCLUDED & set(around)), bool(_LEFT_OUT & set(around))
        negated = "not" in around
        if not put_in and not left_out:
            continue
        side = "without-tax" if left_out != (negated and not left_out) else "with-tax"
        kept = [pair for place, pair in enumerate(tokens) if not (low <= place < high and pair[0] in _TAXING)]
        place = sum(not (low <= before < high and names[before] in _TAXING) for before in range(at))
        return [*kept[:place], (side, tokens[at][1]), *kept[place:]]
    return found


def _wants(ask: str, ask_span: str, expects: frozenset[str], names: Sequence[str], lexicon: Lexicon) -> str:
    """The kind of answer in the broadest terms; empty when that can't be told."""
    if ask in _WANTED:
        return _WANTED[ask]
    if ask_span.startswith(("which", "哪")) and not (names and lexicon.type_of(names[0]) in _FIGURES):
        return "name"
    kinds = {_WANTED_TYPES.get(kind, "") for kind in expects}
    return kinds.pop() if len(kinds) == 1 else ""


def _mentioned(text: str, lexicon: Lexicon) -> frozenset[str]:
    """The tokens of a text that is not asked about."""
    if not text:
        return frozenset()
    surface = surface_units(fold(text))
    found, _, _ = _tokens(surface, [lemma(unit) for unit in surface], lexicon)
    return frozenset(name for name, _ in found)


def _expects(ask: str, ask_span: str, names: Sequence[str], lexicon: Lexicon) -> frozenset[str]:
    """The kinds of answer that would do. A superlative hides what is asked for ("the highest value", "the category
    with the highest value"), and "how much" asks for money as well as for sugar."""
    if ask == "amount" and ask_span == "how much":
        return frozenset({"amount", "quantity"})
    if ask in _EXPECTED:
        return _EXPECTED[ask]
    if any(sense.set == "opposites/extreme" for sense in map(lexicon.senses.get, names) if sense is not None):
        return frozenset()
    types = frozenset(lexicon.type_of(name) for name in names) - {""}
    if "percentage" in names and types & {"amount"}:
        types = types - {"amount"}  # "What percentage of tax" asks for no sum.
    if len(types) > 1:
        types = types - {"who"}  # "The seller's address": whose it is is not what is asked for.
    if ask == "number":
        return types & _ABSORBED["number"] or frozenset({"any-number"})
    return types


def _alternation(match: re.Match[str]) -> str:
    """Leaves an alternation that the word lists know (有没有, 是不是) alone, and makes one verb of any other
    (贵不贵)."""
    return match[0] if match[1] in ("有", "是", "能", "会", "要", "对", "在") else match[1]


def _frame(words: Sequence[str], lexicon: Lexicon) -> tuple[int, int]:
    """Where the question proper starts and stops, without the politeness around it; never empties a question."""
    start, stop = 0, len(words)
    longest = 9
    moving = True
    while moving and stop - start > 1:
        moving = False
        for length in range(min(longest, stop - start - 1), 0, -1):
            if tuple(words[start : start + length]) in lexicon.heads and not _guards(words, start, length, lexicon):
                start += length
                moving = True
                break
    moving = True
    while moving and stop - start > 1:
        moving = False
        for length in range(min(longest, stop - start - 1), 0, -1):
            if tuple(words[stop - length : stop]) in lexicon.tails:
                stop -= length
                moving = True
                break
    return start, stop


def _guards(words: Sequence[str], start: int, length: int, lexicon: Lexicon) -> bool:
    """Tells whether a longer phrase of the word lists begins here: "in" of "in front of" opens no frame."""
    for longer in range(min(lexicon.longest, len(words) - start), length, -1):
        phrase = tuple(words[start : start + longer])
        if lexicon.phrases.get(phrase):
            return True
    return False


def _tokens(
    surface: Sequence[str], words: Sequence[str], lexicon: Lexicon
) -> tuple[list[tuple[str, str]], frozenset[str], list[tuple[str, str]]]:
    """Replaces the phrases of the word lists by their senses, longest first. Returns content tokens and interrogatives,
    each with its words, and the tokens that stand in the plural."""
    tokens: list[tuple[str, str]] = []
    plural: set[str] = set()
    asks: list[tuple[str, str]] = []
    helped = False
    at = 0
    while at < len(words):
        if words[at] == "number" and tuple(words[at + 1 : at + 2]) == ("of",):
            counted = next(
                (place for place in range(at + 2, len(words)) if words[place] not in ("the", "all", "different")), at
            )
            if is_plural(surface[counted]):
                asks.append(("count", "number of"))
                at += 2
                continue
        for length in range(min(lexicon.longest, len(words) - at), 0, -1):
            meaning = lexicon.phrases.get(tuple(words[at : at + length]))
            if meaning is None and length == 1:
                value, used = numeral(words, at)
                if used:
                    meaning, length = (value,) if value else (), used
            elif meaning is not None and length == 1 and words[at] in HAN_NUMERAL:
                meaning = None
            if length == 1 and words[at] == "no" and at > 0 and (at + 1 == len(words) or words[at + 1][:1].isdigit()):
                meaning = ("number-field",)
            if length == 1 and words[at] in ("'s", "if", "whether"):
                meaning = ()
            if meaning is not None:
                span = spell(surface[at : at + length])
                if meaning[:1] and meaning[0] in _DEIXIS and not _points(words, at, length):
                    meaning = tuple(words[at : at + length])
                for token in meaning:
                    if token in _ASKS:
                        asks.append((token, span))
                    else:
                        tokens.append((token, span))
                        if is_plural(surface[at + length - 1]):
                            plural.add(token)
                at += length
                break
        else:
            if words[at] == "do" and not helped:
                helped = True
                at += 1
                continue
            tokens.append((words[at], surface[at]))
            if is_plural(surface[at]):
                plural.add(words[at])
            at += 1
    return tokens, frozenset(plural), asks


def _points(words: Sequence[str], at: int, length: int) -> bool:
    """Tells whether a name for the image stands for the image as a whole: "the invoice", 发票上, or first in the
    question."""
    after = words[at + length] if at + length < len(words) else ""
    if not words[at].isascii():
        return at == 0 or words[at - 1] in _POINTING or after in _PLACING or after == ""
    return (at > 0 and words[at - 1] in _POINTING) or len(words) == length


def spell(units: Sequence[str]) -> str:
    """Writes units as text again: words apart, Chinese characters together."""
    text = ""
    for unit in units:
        text += (" " if text and text[-1].isascii() and unit[:1].isascii() else "") + unit
    return text


def _without_deixis(tokens: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leaves out the names of the image as a whole, with the preposition that ties them to the question."""
    kept: list[tuple[str, str]] = []
    for name, span in tokens:
        if name in _DEIXIS:
            while kept and (kept[-1][0] in _STRAY or kept[-1][0] == "in"):
                kept.pop()
            continue
        kept.append((name, span))
    while kept and kept[-1][0] == "in":
        kept.pop()
    return kept
