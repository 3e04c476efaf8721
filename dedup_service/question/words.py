"""Cuts a question into units: an English word in its base form, a number, a sign, or one Chinese character."""

import re
from functools import lru_cache

from lemminflect import getAllLemmas
from rapidfuzz.distance import DamerauLevenshtein

from dedup_service.question.normal import CJK, normalise

_UNIT = re.compile(rf"\d+(?:[.,:/-]\d+)*|[{CJK}]|[^\W\d_{CJK}]+(?:'[^\W\d_{CJK}]+)?|[^\s\w]", re.UNICODE)
_CODE = re.compile(r"[a-z]*\d[a-z0-9]*[a-z][a-z0-9]*|[a-z]+\d[a-z0-9]*")
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_MEASURED = re.compile(r"(\d+(?:\.\d+)?)([a-z]{1,3})")

CONTRACTIONS = {
    "what's": "what be", "whats": "what be", "who's": "who be", "whos": "who be", "where's": "where be", "when's": "when be",
    "how's": "how be", "that's": "that be", "there's": "there be", "it's": "it be", "here's": "here be", "let's": "let us",
    "isn't": "be not", "aren't": "be not", "wasn't": "be not", "weren't": "be not", "doesn't": "do not", "don't": "do not",
    "didn't": "do not", "can't": "can not", "cannot": "can not", "couldn't": "could not", "won't": "will not",
    "wouldn't": "would not", "hasn't": "have not", "haven't": "have not", "hadn't": "have not", "shouldn't": "should not",
    "i'd": "i would", "i'm": "i be", "you're": "you be", "they're": "they be", "he's": "he be", "she's": "she be",
    "i've": "i have", "i'll": "i will", "ain't": "be not", "isnt": "be not", "doesnt": "do not", "dont": "do not",
    "cant": "can not", "im": "i be", "pls": "please", "plz": "please", "u": "you", "r": "be", "ur": "your", "img": "image",
    "pic": "picture", "pics": "picture", "qty": "quantity", "amt": "amount", "tel": "telephone", "addr": "address",
}  # fmt: skip
# Words whose base form a dictionary of inflections would get wrong or drown in a noun ("does" of deer).
FUNCTION = {
    "is": "be", "are": "be", "was": "be", "were": "be", "am": "be", "been": "be", "being": "be", "be": "be", "does": "do",
    "did": "do", "done": "do", "do": "do", "doing": "doing", "has": "have", "had": "have", "have": "have", "having": "have",
    "as": "as", "us": "us", "his": "his", "this": "this", "its": "its", "hers": "hers", "ours": "ours", "yes": "yes",
    "left": "left", "right": "right", "lowest": "lowest", "highest": "highest", "most": "most", "least": "least",
    "more": "more", "less": "less", "worse": "worse", "best": "best", "worst": "worst", "better": "better", "first": "first",
    "last": "last", "an": "a", "the": "the", "building": "building", "clothes": "clothes", "clothing": "clothing",
    "glasses": "glasses", "people": "people", "men": "man", "women": "woman", "children": "child", "saw": "see",
    "seen": "see", "found": "find", "shopping": "shopping", "news": "news", "goods": "goods", "cents": "cent",
    "taxes": "tax", "axes": "axis", "savings": "savings", "painting": "painting", "drawing": "drawing", "wedding": "wedding",
    "lighting": "lighting", "heading": "heading", "meeting": "meeting", "number": "number", "numbers": "number", "during": "during",
    "any": "any", "gross": "gross", "net": "net", "bus": "bus", "buses": "bus", "gas": "gas", "species": "species",
    "series": "series", "ms": "ms", "others": "other", "does't": "do",
    "due": "due", "pants": "pants", "trousers": "trousers", "shorts": "shorts", "sunglasses": "sunglasses", "needed": "need",
    "spent": "spend", "bought": "buy", "sold": "sell", "written": "write", "shown": "show", "data": "data", "media": "media",
}  # fmt: skip


@lru_cache(maxsize=65536)
def lemma(word: str) -> str:
    """The base form of a lower-case English word; the word itself when it is in no dictionary."""
    if word in FUNCTION:
        return FUNCTION[word]
    if not word.isascii() or not word.isalpha() or len(word) < 3:
        return word
    found = getAllLemmas(word)
    for part in ("VERB", "NOUN", "AUX"):
        if part in found:
            return str(min(found[part], key=lambda form: (form == word and part == "VERB", len(form))))
    return word


@lru_cache(maxsize=65536)
def is_plural(word: str) -> bool:
    """Tells whether a lower-case English word is a noun in the plural."""
    if word in ("people", "men", "women", "children", "numbers", "axes", "taxes"):
        return True
    if word in FUNCTION or not word.isascii() or not word.endswith("s") or len(word) < 4:
        return False
    return any(form != word for form in getAllLemmas(word).get("NOUN", ()))


# Words of the grammar, which a dictionary of inflections leaves out.
_GRAMMAR = frozenset(
    "about above across after against along among around at because before behind below beneath beside between beyond but by"
    " despite down during for from in inside into like near of off on onto or out over per since than though through to toward"
    " towards under until up upon via versus with within without although if unless while whereas whether that this these those"
    " what which who whom whose when where why how and nor yet so he she it they we you i me him her us them my your his its our"
    " their mine yours ours theirs myself yourself himself herself itself themselves each every either neither both all any some"
    " none anything something everything nothing anyone someone everyone nobody another such same other else ever never always"
    " also just only even still already too very must shall should could would might ought".split()
)


@lru_cache(maxsize=65536)
def is_word(word: str) -> bool:
    """Tells whether the dictionary knows a lower-case English word."""
    return word in FUNCTION or word in _GRAMMAR or bool(getAllLemmas(word))


@lru_cache(maxsize=65536)
def is_misspelling(one: str, other: str) -> bool:
    """Tells whether two Latin words are one word and a slip of the pen: at least five letters, one slip (two from nine
    letters on), the same first letter, and not both in the dictionary: "form" and "from" are two words."""
    if min(len(one), len(other)) < 5 or one[0] != other[0] or not (one.isalpha() and other.isalpha()):
        return False
    if not (one.isascii() and other.isascii()) or is_word(one) == is_word(other):
        return False
    slips = 2 if min(len(one), len(other)) >= 9 else 1
    return DamerauLevenshtein.distance(one, other, score_cutoff=slips) <= slips


def surface_units(text: str) -> tuple[str, ...]:
    """The units of a text in normal form, uninflected: numbers without thousands separators, contractions written out,
    a unit of measure set apart from its number ("5kg")."""
    found: list[str] = []
    for piece in re.findall(rf"[{CJK}]|[^\s{CJK}]+", text):
        if len(piece) == 1 or piece in CONTRACTIONS:
            found += CONTRACTIONS.get(piece, piece).split()
            continue
        for word in re.findall(r"\"|[^\s\"]+", piece):
            if word in CONTRACTIONS:
                found += CONTRACTIONS[word].split()
            elif _ORDINAL.fullmatch(word) or (_CODE.fullmatch(word) and not _MEASURED.fullmatch(word)):
                found.append(word)
            elif word.endswith("'s") and len(word) > 3:
                found += [word[:-2], "'s"]
            else:
                found += _UNIT.findall(word)
    return tuple(unit.replace(",", "") if unit[0].isdigit() and _thousands(unit) else unit for unit in found)


def _thousands(number: str) -> bool:
    return bool(re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number))


def units(text: str) -> tuple[str, ...]:
    """The units of any text, normalised, English words in their base form."""
    return tuple(lemma(unit) for unit in surface_units(normalise(text)))
