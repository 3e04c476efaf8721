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
    "个只张条辆位名台件项种本棵支朵根双杯瓶盏扇把行列次处块样笔页匹头艘架栋座层口家栏步盘颗片道款间段元角分岁年月日号点时天周季度秒米斤升吨克楼期代级等排组对套批人遍篇章节句字词站路折倍行份克瓦伏餐顿服剂贴粒滴桌柜集课单瓶袋箱"
)


# Of these a lone "one" is a figure: 一月, 一号, 一楼.
_COUNTED = frozenset("年月日号点楼层")
_POINTING = frozenset("这那每同某哪另任")


_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_TEENS = ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

# "One" is a pronoun more often than a figure.
_NUMERALS = {word: str(value) for value, word in enumerate(_UNITS + _TEENS) if value != 1} | {
    word: str(10 * value) for value, word in enumerate(_TENS, start=2)
}


_POWERS = {"hundred": 100, "thousand": 1000, "million": 1000000}
_BEFORE_ONE = frozenset(
    ["", "be", "is", "at", "for", "of", "in", "a", "per", "the", "with", "and", "to", "my", "as", "on", "does", "do"]
)


_ORDINALS = {
    word: f"#{value}"
    for value, word in enumerate(
        ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"]
        + [f"{word}th" for word in _TEENS],
        start=2,
    )
} | {f"{word[:-1]}ieth": f"#{10 * value}" for value, word in enumerate(_TENS, start=2)}


def numeral(words: Sequence[str], at: int) -> tuple[str, int]:
    """A numeral written out, as digits, with how many units it took; ("", 0) if there is none, ("", 1) for a "one" that
    counts nothing: "one column" says which as little as "a column" does."""
    word = words[at]
    if word in _POWERS:
        return str(_POWERS[word]), 1
    if word in _NUMERALS and (words[at + 1 : at + 2] or [""])[0] in _POWERS:
        return str(int(_NUMERALS[word]) * _POWERS[words[at + 1]]), 2
    if word in _NUMERALS:
        return _NUMERALS[word], 1
    if word in _ORDINALS:
        return _ORDINALS[word], 1
    if len(word) > 2 and word[:-2].isdigit() and word[-2:] in ("st", "nd", "rd", "th"):
        return _ordinal(int(word[:-2])), 1
    if word == "1" and _idle(words, at):
        return "", 1
    if word[0].isdigit() and word.replace(".", "", 1).isdigit():
        return _plain(word), 1
    ordinal = word == "第"
    end = at + ordinal
    while end < len(words) and words[end] in HAN_NUMERAL:
        end += 1
    digits = words[at + ordinal : end]
    if ordinal and not digits and end < len(words) and words[end].isdigit():
        return _ordinal(int(words[end])), 2
    if not digits:
        return "", 0
    if not ordinal and (end >= len(words) or words[end] not in _MEASURES) and len(digits) < 2:
        return "", 0
    after, before = (words[end : end + 1] or [""])[0], words[at - 1] if at else ""
    if list(digits) == ["一"] and not ordinal and (after not in _COUNTED or before in _POINTING):
        return "", 1
    value = han_value("".join(digits))
    return (_ordinal(value) if ordinal else str(value)), end - at


def _idle(words: Sequence[str], at: int) -> bool:
    """Tells whether a digit one counts nothing: before a measure word, or before a noun and after a word of the
    grammar."""
    after, before = (words[at + 1 : at + 2] or [""])[0], words[at - 1] if at else ""
    if not after.isascii():
        return after in _MEASURES - _COUNTED
    return after.isalpha() and len(after) > 2 and before in _BEFORE_ONE


def _ordinal(value: int) -> str:
    """The token of a place in an order; "first" has a sense of its own, which stands against "last"."""
    return "earliest" if value == 1 else f"#{value}"


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
