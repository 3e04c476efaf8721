"""Numbers as words: Chinese numerals, English number words and ordinals, read as digits."""

from collections.abc import Sequence

HAN_DIGITS = {
    "零": 0,
    "〇": 0,
    "一": 1,
    "二": 2,
    "两": 2,
    "三": 3,
    "四": 4,
    "五": 5,
    "六": 6,
    "七": 7,
    "八": 8,
    "九": 9,
} | {sign: value for value, sign in enumerate("壹贰叁肆伍陆柒捌玖", start=1)}
"""With those of cheques and invoices."""


_HAN_POWERS = {"十": 10, "百": 100, "千": 1000, "万": 10000, "亿": 100000000, "拾": 10, "佰": 100, "仟": 1000}


HAN_NUMERAL = frozenset(HAN_DIGITS) | frozenset(_HAN_POWERS)


_MEASURES = frozenset(
    "个只张条辆位名台件项种本棵支朵根双杯瓶盏扇把行列次处块样笔页匹头艘架栋座层口家栏步盘颗片道款间段元角分岁年月日号点时天周季度秒米斤升吨克楼期代级等排组对套批人遍篇章节"
)


_NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
    if value != 1
}


_ORDINALS = {
    word: f"#{value}"
    for value, word in enumerate(
        ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], start=2
    )
}


def numeral(words: Sequence[str], at: int) -> tuple[str, int]:
    """A numeral written out, as digits, with how many units it took; ("", 0) if there is none."""
    word = words[at]
    if word in _NUMERALS:
        return _NUMERALS[word], 1
    if word in _ORDINALS:
        return _ORDINALS[word], 1
    if len(word) > 2 and word[:-2].isdigit() and word[-2:] in ("st", "nd", "rd", "th"):
        return f"#{int(word[:-2])}", 1
    if word[0].isdigit() and word.replace(".", "", 1).isdigit():
        return _plain(word), 1
    ordinal = word == "第"
    end = at + ordinal
    while end < len(words) and words[end] in HAN_NUMERAL:
        end += 1
    digits = words[at + ordinal : end]
    if ordinal and not digits and end < len(words) and words[end].isdigit():
        return f"#{int(words[end])}", 2
    if not digits:
        return "", 0
    if not ordinal and (end >= len(words) or words[end] not in _MEASURES) and len(digits) < 2:
        return "", 0
    value = han_value("".join(digits))
    return (f"#{value}" if ordinal else str(value)), end - at


def _plain(number: str) -> str:
    """One spelling for one value: 12.50 and 12.5, 007 and 7 stay what they are when they are codes (leading zero)."""
    if number.startswith("0") and not number.startswith("0."):
        return number
    return number.rstrip("0").rstrip(".") if "." in number else number


def han_value(digits: str) -> int:
    """The value of a Chinese numeral: 二十三 is 23, 二〇二四 is 2024."""
    if not any(sign in _HAN_POWERS for sign in digits):
        return int("".join(str(HAN_DIGITS[sign]) for sign in digits))
    total = section = digit = 0
    for sign in digits:
        if sign in HAN_DIGITS:
            digit = HAN_DIGITS[sign]
        elif _HAN_POWERS[sign] < 10000:
            section += (digit or 1) * _HAN_POWERS[sign]
            digit = 0
        else:
            total += (section + digit or 1) * _HAN_POWERS[sign]
            section = digit = 0
    return total + section + digit
