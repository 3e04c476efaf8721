"""Compares two answers, so that a near-miss becomes a label for free: both questions were answered for one image
anyway.

An agreement is only as telling as the answer is rare. Two questions that both got "RM 138.90" are probably the same
question; two that both got "yes" may be anything. `AnswerFrequency` turns that into log-odds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Indel

from dedup_service.question.lexicon import shipped
from dedup_service.question.normal import CJK, fold
from dedup_service.question.numerals import han_value
from dedup_service.question.quantities import (
    amounts,
    compare_amounts,
    compare_clocks,
    compare_codes,
    is_measure,
    month_days,
    turned,
)
from dedup_service.question.refusals import bare_no, cannot_tell
from dedup_service.question.words import units

Verdict = Literal["same", "different", "unsure"]
Kind = Literal["yes-no", "count", "amount", "date", "text"]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]

LONG = 12
NEAR = 0.93

_YES = frozenset(
    [
        "yes",
        "yeah",
        "yep",
        "yup",
        "true",
        "correct",
        "indeed",
        "affirmative",
        "是",
        "是的",
        "有",
        "有的",
        "对",
        "对的",
        "可以",
        "能",
        "会",
        "存在",
        "正确",
        "没错",
        "嗯",
    ]
)
_NO = frozenset(
    [
        "no",
        "nope",
        "not",
        "false",
        "incorrect",
        "none",
        "negative",
        "否",
        "不",
        "不是",
        "没有",
        "没",
        "无",
        "不对",
        "不能",
        "不可以",
        "不会",
        "不存在",
        "错误",
        "错",
    ]
)
_SENTENCE_NO = re.compile(
    r"\b(?:not|no|isn't|aren't|doesn't|don't|cannot|can't|never)\b|不是|没有|不含|并非|不存在|无法"
)
_NUMBERED = re.compile(r"no\s*[.:#]?\s*[a-z]{0,2}-?\d")
"""How an address or a serial number begins: "no." for number, which denies nothing."""
_MONTHS = {
    name: at
    for at, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_DATES = (
    (re.compile(r"(?<!\d)(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})\s*日?(?!\d)"), "ymd"),
    (re.compile(r"(?<!\d)(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(?!\d)"), "?"),
    (
        re.compile(
            r"(?<!\d)(\d{1,2})(?:st|nd|rd|th)?\s*(?:of )?"
            r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\s*,?\s*(\d{4})(?!\d)"
        ),
        "dmy",
    ),
    (
        re.compile(
            r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\s+(\d{1,2})(?:st|nd|rd|th)?\s*,?\s*(\d{4})(?!\d)"
        ),
        "mdy",
    ),
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-+]?\d+(?:\.\d+)?")
_HAN_NUMBER = re.compile(
    r"[零〇一二两三四五六七八九十百千]+(?=[个只张条辆位名台件项种本棵人元块天月年岁层页行列次])|^[零一二两三四五六七八九十]+$"
)
_WORD_NUMBERS = {
    word: at
    for at, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_SPELLED = re.compile(
    r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|(?:twen|thir|for|fif|six|seven|eigh|"
    r"nine)ty|hundred|thousand|million|dozen|half|quarter|pair|couple|single|both|none|nothing|several|many|few|"
    r"first|second|third|today|yesterday|tomorrow|morning|noon|afternoon|evening|night|midnight|(?:mon|tues|wednes|thurs|fri|satur|sun)day|jan|feb|mar|"
    r"apr|may|june?|july?|aug|sept?|oct|nov|dec|january|february|march|april|august|september|october|november|december"
    r")\b|[零〇一二两三四五六七八九十百千万亿半双几多无都全早晚]|[上中下]午|今天|昨天|明天|星期|周[日天]"
)
"""What may stand for a number or a time in words."""
_ROMAN = re.compile(r"[ivxlcdm]{1,8}")
_COMPOUND = re.compile(r"\b(?:(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|dozen)")
"""Words of numbers that are not read: what stands beside them is a part of the number."""
_CURRENCIES: Mapping[str, str] = {
    "rm": "MYR",
    "myr": "MYR",
    "usd": "USD",
    "$": "USD",
    "us$": "USD",
    "¥": "CNY",
    "cny": "CNY",
    "rmb": "CNY",
    "元": "CNY",
    "yuan": "CNY",
    "人民币": "CNY",
    "€": "EUR",
    "eur": "EUR",
    "£": "GBP",
    "gbp": "GBP",
    "jpy": "JPY",
    "日元": "JPY",
    "dollars": "USD",
    "dollar": "USD",
    "美元": "USD",
    "euros": "EUR",
    "euro": "EUR",
    "%": "%",
    "percent": "%",
    "百分之": "%",
    "kg": "kg",
    "公斤": "kg",
    "千克": "kg",
    "g": "g",
    "克": "g",
    "cm": "cm",
    "厘米": "cm",
    "km": "km",
    "公里": "km",
    "ml": "ml",
    "毫升": "ml",
    "°c": "C",
    "摄氏度": "C",
    "°f": "F",
    "ringgit": "MYR",
}
_UNIT = re.compile(
    "|".join(
        rf"(?<![a-z]){re.escape(word)}(?![a-z])" if word.isascii() and word[-1].isalpha() else re.escape(word)
        for word in sorted(_CURRENCIES, key=len, reverse=True)
    )
)
_LIST = re.compile(r"\s*(?:[,，、;；\n]|\band\b|&|(?<=[^\s])和(?=[^\s])|以及)\s*")
_EMPTY_WORDS = frozenset(
    [
        "the",
        "a",
        "an",
        "is",
        "are",
        "was",
        "were",
        "be",
        "it",
        "its",
        "this",
        "that",
        "there",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "是",
        "为",
        "的",
        "了",
        "在",
        "有",
        "个",
        "共",
        "一",
        "这",
        "那",
        "图",
        "中",
        "里",
        "张",
        "片",
    ]
)


@dataclass(frozen=True)
class AnswerVerdict:
    """Whether two answers say the same, and why: `REFUSED`, `EQUAL_TEXT`, `YES_NO`, `CODE`, `DATE`, `TIME`, `NUMBER`,
    `KIND`, `LIST`, `CONTAINED`, `WORDS`, `LONG` or `UNCLEAR`. "unsure" is no label at all."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Answer:
    """An answer as it was understood: its kind, a key under which equal answers meet, its numbers, dates and words."""

    kind: Kind
    key: str
    text: str
    numbers: tuple[Decimal, ...]
    unit: str
    dates: frozenset[tuple[int, int, int]]
    polarity: int
    words: tuple[str, ...]


def compare_answers(a: str, b: str, *, embed: Embed | None = None) -> AnswerVerdict:
    """Compares two answers to (perhaps) one question about one image. ``embed`` turns texts into unit vectors (N, D)
    and is asked only about long answers; without it long answers are compared by their words."""
    one, other = understand(a), understand(b)
    empty = bare_no(a) or bare_no(b)
    if not one.text or not other.text or any(cannot_tell(text) and not bare_no(text) for text in (a, b)):
        return AnswerVerdict("unsure", "REFUSED")
    if empty and {one.polarity, other.polarity} != {1, -1}:
        return AnswerVerdict("unsure", "REFUSED")
    if (code := compare_codes(a, b)) is not None:
        return AnswerVerdict(code, "CODE")
    if (measured := _measured(a, b, one, other)) is not None:
        return measured
    if one.text == other.text or (one.words and one.words == other.words and one.unit == other.unit):
        return AnswerVerdict("same", "EQUAL_TEXT")
    if one.polarity and other.polarity:
        if one.numbers and other.numbers and set(one.numbers) != set(other.numbers):
            return AnswerVerdict("different", "YES_NO")
        return AnswerVerdict("same" if one.polarity == other.polarity else "different", "YES_NO")
    if one.dates and other.dates:
        if one.dates == other.dates and len(one.dates) == 1:
            return AnswerVerdict("same", "DATE")
        return AnswerVerdict("unsure" if one.dates & other.dates else "different", "DATE")
    if len(one.words) > LONG or len(other.words) > LONG:
        return _long(one, other, embed)
    if one.numbers or other.numbers:
        return _numbers(one, other)
    left, right = _items(a), _items(b)
    if len(left) > 1 or len(right) > 1:
        return _lists(left, right)
    return _short(one, other)


def understand(text: str) -> Answer:
    """Reads an answer. Any text is accepted."""
    plain = re.sub(r"[*_`#]+|<[^>]{1,40}>", " ", text).strip().rstrip(".。!！")
    normal = fold(plain)
    folded = " ".join(plain.casefold().split())
    dates = _dates(folded)
    numbers = () if dates else _decimals(normal)
    unit = next((_CURRENCIES[found] for found in _UNIT.findall(normal)), "")
    words = tuple(word for word in units(plain) if word not in _EMPTY_WORDS)
    polarity = 0 if _NUMBERED.match(folded) else _polarity(normal)
    if polarity:
        return Answer("yes-no", "yes" if polarity > 0 else "no", normal, numbers, unit, dates, polarity, words)
    if len(dates) == 1 and len(words) <= LONG:
        return Answer("date", "-".join(map(str, next(iter(dates)))), normal, numbers, unit, dates, 0, words)
    if len(numbers) == 1 and len(words) <= LONG:
        whole = numbers[0] == numbers[0].to_integral_value() and not unit and abs(numbers[0]) < 1000
        return Answer(
            "count" if whole else "amount", f"{numbers[0].normalize():f}", normal, numbers, unit, dates, 0, words
        )
    return Answer("text", " ".join(words) or normal, normal, numbers, unit, dates, 0, words)


def _polarity(normal: str) -> int:
    first = re.match(rf"[{CJK}]+|[a-z']+", normal)
    if not first:
        return 0
    word = first[0]
    if word in _YES or (word[:2] in ("是的", "有的", "对的") and len(normal) < 40):
        return 1
    if word in _NO or word[:2] in ("不是", "没有", "不对"):
        return -1
    return 0


def _dates(text: str) -> frozenset[tuple[int, int, int]]:
    """Every calendar date the text may mean; a form such as 03/04/2024 may mean two."""
    found: set[tuple[int, int, int]] = set()
    for pattern, form in _DATES:
        for match in pattern.finditer(text):
            one, two, three = match.groups()
            if form == "ymd":
                options = [(int(one), int(two), int(three))]
            elif form == "dmy":
                options = [(int(three), _MONTHS[two], int(one))]
            elif form == "mdy":
                options = [(int(three), _MONTHS[one], int(two))]
            else:
                options = [(int(three), int(two), int(one)), (int(three), int(one), int(two))]
            found |= {date for date in options if 1 <= date[1] <= 12 and 1 <= date[2] <= 31}
    return frozenset(found)


def _decimals(normal: str) -> tuple[Decimal, ...]:
    values: list[Decimal] = []
    for match in _NUMBER.finditer(normal):
        try:
            values.append(Decimal(match[0].replace(",", "")))
        except InvalidOperation:
            continue
    if not values:
        values = [Decimal(han_value(match[0])) for match in _HAN_NUMBER.finditer(normal)]
    if not values and not _COMPOUND.search(normal):
        values = [Decimal(_WORD_NUMBERS[word]) for word in normal.split() if word in _WORD_NUMBERS]
    return tuple(values)


def _numbers(one: Answer, other: Answer) -> AnswerVerdict:
    if one.unit and other.unit and one.unit != other.unit:
        return AnswerVerdict("different", "NUMBER")
    if not one.numbers or not other.numbers:
        return AnswerVerdict("different" if _apart(one, other) else "unsure", "KIND")
    if set(one.numbers) == set(other.numbers):
        return AnswerVerdict("unsure" if _partial(one, other) else "same", "NUMBER")
    if len(one.numbers) == len(other.numbers) == 1:
        return AnswerVerdict("different", "NUMBER")
    return AnswerVerdict("unsure" if set(one.numbers) & set(other.numbers) else "different", "NUMBER")


def _measured(a: str, b: str, one: Answer, other: Answer) -> AnswerVerdict | None:
    """The verdict on two short answers by what they measure: times of day, days, amounts in one unit, and words that
    turn a number around. None when they measure nothing, or not both, or say more than that."""
    if any(each.polarity or each.dates or len(each.words) > LONG for each in (one, other)):
        return None
    if (told := compare_clocks(a, b)) is not None:
        return AnswerVerdict(told, "TIME")
    days = month_days(a), month_days(b)
    if days[0] and days[1]:
        return AnswerVerdict("same" if days[0] == days[1] else "different", "DATE")
    verdict = compare_amounts(a, b)
    if verdict == "different":
        return AnswerVerdict("different", "NUMBER")
    if amounts(a) and amounts(b) and (turn := turned(a, b)) is not None:
        alike = {abs(number) for number in one.numbers} & {abs(number) for number in other.numbers}
        return AnswerVerdict(turn if alike else "different", "NUMBER")
    if verdict is None:
        return None
    return AnswerVerdict("unsure" if verdict == "unsure" or _partial(one, other) else "same", "NUMBER")


def _partial(one: Answer, other: Answer) -> bool:
    """Whether each of two answers says something besides its numbers, and not the same."""
    left, right = ({word for word in each.words if not _counts(word)} for each in (one, other))
    return bool(left and right and left != right)


def _counts(word: str) -> bool:
    """Whether a word is a number, a unit or a sign beside one."""
    return any(sign.isdigit() for sign in word) or not word.isalpha() or word in _CURRENCIES or is_measure(word)


def _apart(one: Answer, other: Answer) -> bool:
    """Whether a number or a date on one side and none on the other can't be one answer in two forms: they share no
    word, no part of the date is the other's number, and nothing spells a number or a time."""
    if one.polarity or other.polarity or set(one.words) & set(other.words):
        return False
    for dated, numbered in ((one, other), (other, one)):
        parts = {Decimal(part) for year, month, day in dated.dates for part in (year, year % 100, month, day)}
        if parts & set(numbered.numbers):
            return False
    plain = [answer for answer in (one, other) if not answer.numbers and not answer.dates]
    if any(_SPELLED.search(answer.text) or _ROMAN.fullmatch(answer.text) for answer in plain):
        return False
    return Indel.normalized_similarity(one.text, other.text) < 0.5


def _items(text: str) -> frozenset[str]:
    parts = (re.sub(r"^\s*(?:[-*•]|\d+[.)、])\s*", "", part) for part in _LIST.split(text.strip().rstrip(".。")))
    return frozenset(item for item in (_bare(part) for part in parts) if item)


def _bare(text: str) -> str:
    return " ".join(word for word in units(text) if word not in _EMPTY_WORDS)


def _lists(left: frozenset[str], right: frozenset[str]) -> AnswerVerdict:
    if left == right:
        return AnswerVerdict("same", "LIST")
    if not left & right:
        return AnswerVerdict("different", "LIST")
    return AnswerVerdict("unsure", "LIST")


def _short(one: Answer, other: Answer) -> AnswerVerdict:
    shorter, longer = sorted((one, other), key=lambda answer: len(answer.words))
    if bool(_SENTENCE_NO.search(one.text)) != bool(_SENTENCE_NO.search(other.text)):
        return AnswerVerdict("unsure", "WORDS")
    size = len(shorter.words)
    sentence = re.search(r"\b(?:is|are|was|were|be|says|reads)\b|是|为|写着", longer.text)
    if size and sentence and longer.words[-size:] == shorter.words:
        return AnswerVerdict("same", "CONTAINED")
    likeness = Indel.normalized_similarity(" ".join(one.words), " ".join(other.words))
    lexicon = shipped()
    senses = [{name for word in answer.words for name in lexicon.phrases.get((word,), ())} for answer in (one, other)]
    whole = [lexicon.phrases.get(answer.words, ()) for answer in (one, other)]
    if whole[0] and whole[0] == whole[1]:
        return AnswerVerdict("same", "WORDS")
    if any(lexicon.kind_of_clash(mine, theirs) for mine in senses[0] for theirs in senses[1]):
        return AnswerVerdict("different", "WORDS")
    if likeness >= 0.92 and len("".join(one.words)) >= 8 and len(one.words) > 3:
        return AnswerVerdict("same", "WORDS")
    if likeness < 0.5 and not set(one.words) & set(other.words):
        return AnswerVerdict("different", "WORDS")
    return AnswerVerdict("unsure", "UNCLEAR")


def _long(one: Answer, other: Answer, embed: Embed | None) -> AnswerVerdict:
    if set(one.numbers) != set(other.numbers):
        if one.numbers and other.numbers:
            disjoint = not set(one.numbers) & set(other.numbers)
            return AnswerVerdict("different" if disjoint else "unsure", "LONG")
        return AnswerVerdict("different" if _apart(one, other) else "unsure", "LONG")
    if bool(_SENTENCE_NO.search(one.text)) != bool(_SENTENCE_NO.search(other.text)):
        return AnswerVerdict("unsure", "LONG")
    mine, theirs = set(one.words), set(other.words)
    shared = 2 * len(mine & theirs) / max(1, len(mine) + len(theirs))
    if embed is None:
        return AnswerVerdict("same" if shared >= 0.85 else "different" if shared < 0.1 else "unsure", "LONG")
    vectors = embed([one.text, other.text])
    near = float(vectors[0] @ vectors[1]) >= NEAR
    if near and shared >= 0.5:
        return AnswerVerdict("same", "LONG")
    return AnswerVerdict("different" if not near and shared < 0.1 else "unsure", "LONG")
