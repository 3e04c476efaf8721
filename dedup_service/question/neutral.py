"""Answers that are the same in every language by their form: amounts, dates in figures, times, codes."""

import re

LONGEST = 40
"""Most characters of a neutral answer."""

_UNITS = "kg|g|mg|lb|oz|km|m|cm|mm|ft|in|l|ml|kcal|kj|kwh|w|kw|v|a|hz|gb|mb|kb|h|min|s"
_WORD = re.compile(r"[^\W\d_]+")
_CODE = re.compile(r"[A-Z]{1,4}")
_MEASURE = re.compile(rf"(?:{_UNITS})", re.IGNORECASE)
_SIGNS = re.compile(r"[\w\s.,:;/\-+%‰#()*$€£¥°'\"|]+")


def is_neutral(answer: str) -> bool:
    """Tells whether an answer means the same to readers of any language, by its form alone: it holds a figure, and no
    letters but a code in capitals ("RM", "INV", "A") or a listed unit after a figure ("5 kg"). Words, names of months,
    and yes or no are never neutral; neither is an answer of more than `LONGEST` characters."""
    text = answer.strip().removesuffix(".")
    if not 0 < len(text) <= LONGEST or not any(sign.isdigit() for sign in text) or not _SIGNS.fullmatch(text):
        return False
    return all(_tells_nothing(text, word) for word in _WORD.finditer(text))


def _tells_nothing(text: str, word: re.Match[str]) -> bool:
    if _CODE.fullmatch(word[0]):
        return True
    before = text[: word.start()].rstrip()
    return bool(_MEASURE.fullmatch(word[0]) and before[-1:].isdigit())
