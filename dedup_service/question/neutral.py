"""Answers that are the same in every language by their form: amounts, dates in figures, times, codes, and names and
addresses that were copied from the page."""

import re

from dedup_service.question.words import is_word

LONGEST = 40
"""Most characters of a neutral answer that is no name."""
LONGEST_NAME = 160
"""Most characters of a copied name or address."""

_UNITS = "kg|g|mg|lb|oz|km|m|cm|mm|ft|in|l|ml|kcal|kj|kwh|w|kw|v|a|hz|gb|mb|kb|h|min|s"
_WORD = re.compile(r"[^\W\d_]+")
_CODE = re.compile(r"[A-Z]{1,4}")
_MEASURE = re.compile(rf"(?:{_UNITS})", re.IGNORECASE)
_SIGNS = re.compile(r"[\w\s.,:;/\-+%‰#()*$€£¥°'\"|]+")

_LATIN_WORD = re.compile(r"[A-Z]+(?:'[A-Z]+)?", re.IGNORECASE)
_LATIN = re.compile(r"[A-Z0-9 .,:;/&'()#@+\-]+", re.IGNORECASE)
_LEGAL_FORMS = frozenset(
    {"sdn", "bhd", "ltd", "limited", "llc", "llp", "inc", "incorporated", "corp", "plc", "gmbh", "ag", "kg", "oy", "ab"}
    | {"bv", "nv", "sa", "sas", "sarl", "srl", "spa", "pte", "pty", "co", "kk"}
)
_CHINESE_NAME = re.compile(
    r"[^\W\d_a-zA-Z是为叫的不没有在：:]{2,24}(?:（[^\W\d_]{2,8}）)?[^\W\d_a-zA-Z是为叫的不没有在：:]{0,12}(?:有限公司|有限责任公司|股份公司|分公司)"
)


def is_neutral(answer: str) -> bool:
    """Tells whether an answer means the same to readers of any language, by its form alone.

    It holds a figure, and no letters but a code in capitals ("RM", "INV", "A") or a listed unit after a figure ("5
    kg"); or it is a name that was copied from the page. Other words, names of months, and yes or no are never neutral;
    neither is an answer of more than `LONGEST` characters that is no such name."""
    text = answer.strip().removesuffix(".")
    if _is_copied_name(text):
        return True
    if not 0 < len(text) <= LONGEST or not any(sign.isdigit() for sign in text) or not _SIGNS.fullmatch(text):
        return False
    return all(_tells_nothing(text, word) for word in _WORD.finditer(text))


def _tells_nothing(text: str, word: re.Match[str]) -> bool:
    if _CODE.fullmatch(word[0]):
        return True
    before = text[: word.start()].rstrip()
    return bool(_MEASURE.fullmatch(word[0]) and before[-1:].isdigit())


def _is_copied_name(text: str) -> bool:
    """Tells whether an answer is a name or an address as it is printed: several words in capitals throughout, one of
    them in no English dictionary ("LOT 12, JALAN TAMPOI"); or a company's name with its legal form, in either script.
    A model that speaks for itself writes neither."""
    if not 0 < len(text) <= LONGEST_NAME:
        return False
    if _CHINESE_NAME.fullmatch(text):
        return True
    words = _LATIN_WORD.findall(text)
    if len(words) < 2 or not _LATIN.fullmatch(text):
        return False
    legal = words[-1].casefold() in _LEGAL_FORMS
    if legal and all(word[0].isupper() for word in words):
        return True
    strange = any(len(word) > 3 and not is_word(word.casefold()) for word in words)
    return text.isupper() and (legal or strange)
