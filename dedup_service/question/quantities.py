"""What an answer measures: amounts with their unit in one base, times of day, codes, and the words that turn a number
around."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from dedup_service.question.numerals import HAN_NUMERAL, han_value

_UNITS: Mapping[str, tuple[str, str]] = {
    word: (kind, factor)
    for kind, factor, words in (
        ("length", "0.001", "mm millimetre millimetres millimeter millimeters 毫米"),
        ("length", "0.01", "cm centimetre centimetres centimeter centimeters 厘米 公分"),
        ("length", "1", "m metre metres meter meters 米"),
        ("length", "1000", "km kilometre kilometres kilometer kilometers 公里 千米"),
        ("length", "500", "里"),
        ("length", "0.0254", "in inch inches 英寸"),
        ("length", "0.3048", "ft foot feet 英尺"),
        ("length", "1609.344", "mi mile miles 英里"),
        ("mass", "0.000000001", "µg μg mcg ug 微克"),
        ("mass", "0.000001", "mg milligram milligrams 毫克"),
        ("mass", "0.001", "g gram grams 克"),
        ("mass", "1", "kg kgs kilo kilogram kilograms 公斤 千克"),
        ("mass", "0.5", "斤"),
        ("mass", "1000", "t tonne tonnes 吨"),
        ("mass", "0.45359237", "lb lbs pound pounds 磅"),
        ("mass", "0.028349523125", "oz ounce ounces 盎司"),
        ("volume", "0.001", "ml millilitre millilitres milliliter milliliters 毫升"),
        ("volume", "1", "l litre litres liter liters 升"),
        ("time", "1", "s sec secs second seconds 秒 秒钟"),
        ("time", "60", "min mins minute minutes 分钟"),
        ("time", "3600", "h hr hrs hour hours 小时"),
        ("time", "86400", "day days 天"),
        ("time", "604800", "week weeks 周 星期"),
        ("speed", "1.609344", "mph"),
        ("speed", "1", "km/h kph kmh"),
        ("area", "1", "m² ㎡ 平方米 平米"),
        ("space", "1", "m³ 立方米"),
        ("celsius", "1", "°c ℃ 摄氏度"),
        ("fahrenheit", "1", "°f ℉ 华氏度"),
        ("%", "1", "% percent"),
        ("‰", "1", "‰"),
        ("USD", "1", "us$ usd dollar dollars 美元 美金"),
        ("$", "1", "$"),
        ("$", "0.01", "cent cents"),
        ("AUD", "1", "a$ aud 澳元"),
        ("HKD", "1", "hk$ hkd 港元 港币"),
        ("TWD", "1", "nt$ twd 新台币 台币"),
        ("CNY", "1", "¥ cny rmb yuan 元 块 人民币"),
        ("CNY", "0.1", "角 毛"),
        ("CNY", "0.01", "分"),
        ("JPY", "1", "jpy 日元"),
        ("EUR", "1", "€ eur euro euros 欧元"),
        ("GBP", "1", "£ gbp 英镑"),
        ("CHF", "1", "chf"),
        ("MYR", "1", "rm myr ringgit"),
    )
    for word in words.split()
}
_CASED = {
    "Kb": "kbit",
    "kb": "kbit",
    "Mb": "mbit",
    "Gb": "gbit",
    "kB": "kbyte",
    "KB": "kbyte",
    "MB": "mbyte",
    "GB": "gbyte",
}
"""Units whose case is all that tells them apart."""
_SCALES = {
    "k": 3, "thousand": 3, "million": 6, "m": 6, "bn": 9, "billion": 9, "千": 3, "万": 4, "百万": 6, "千万": 7, "亿": 8,
}  # fmt: skip
_LONGEST = sorted(_UNITS, key=len, reverse=True)
_UNIT = "|".join(re.escape(word) for word in _LONGEST)
_PREFIX = r"us\$|a\$|hk\$|nt\$|\$|¥|€|£|rm|chf|usd|eur|gbp|cny|人民币|百分之"
_AMOUNT = re.compile(
    rf"(?P<sign>minus\s+|negative\s+|负|零下|[-−+](?=[\d.$¥€£]))?(?P<before>{_PREFIX})?\s*(?P<inner>[-−])?"
    r"(?P<number>\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?|\d+/\d+|\d*\.\d+|\d+)"
    r"(?:\s?(?P<scale>thousand|million|billion|bn|千万|百万|万|亿)|(?P<short>k|m)(?![a-z²³/]))?"
    rf"\s*(?P<unit>{_UNIT})?(?![a-z²³]|\.\d|/\d)"
)
_HAN_AMOUNT = re.compile(f"[{''.join(HAN_NUMERAL)}]+")
_CLOCK = re.compile(
    r"(?P<part>上午|早上|凌晨|下午|晚上|傍晚|中午|半夜|夜里)?\s*(?P<hour>\d{1,2})\s*(?:[:：点时]\s*(?P<minute>\d刻|\d{1,2}|半)?分?)?\s*(?P<half>a\.?m\.?|p\.?m\.?)?(?![\d.])"
)
_HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_MONTH_DAY = re.compile(r"(?<![年\d/-])(\d{1,2})月(\d{1,2})[日号]")
_TURNS: tuple[tuple[str, str], ...] = (
    (
        "up",
        r"\b(?:at least|no less than|over|more than|above|from|minimum|exceed\w*)\b"
        r"|至少|不少于|不低于|以上|超过|高于|多于",
    ),
    (
        "down",
        r"\b(?:at most|up to|no more than|under|less than|below|within|maximum)\b|至多|最多|不超过|以下|以内|低于|少于",
    ),
    ("gain", r"\b(?:profit|gain|rise|rose|increase\w*|grew)\b|盈利|上涨|增长|增加|上升|涨"),
    ("loss", r"\b(?:loss|lost|fall|fell|decrease\w*|decline\w*|drop\w*)\b|亏损|下跌|下降|减少|跌"),
    ("span", r"\d\s*(?:-|–|—|to|至|到)\s*\d"),
    ("both", r"\d\s*(?:and|or|和|或|、)\s*\d|\d,\s+\d{1,2}(?!\d)|[章天]\s*[和或]\s*第?\d"),
    ("lunar", r"农历|初[一二三四五六七八九十]"),
)


def is_measure(word: str) -> bool:
    """Whether a word, or a Chinese character of one, names a unit, a scale or a numeral."""
    return (
        word in _UNITS
        or word in _SCALES
        or word in HAN_NUMERAL
        or any(len(word) == 1 and word in unit for unit in _UNITS)
    )


@dataclass(frozen=True)
class Amount:
    """A number as an answer gives it: ``value`` in the base unit of ``kind`` (a dimension or a currency; empty without
    a unit), and ``plain``, the number as it stands."""

    value: Decimal
    kind: str
    plain: Decimal


def amounts(text: str) -> tuple[Amount, ...]:
    """The amounts in an answer, in order. Any text is accepted."""
    found = []
    for cased, unit in ((match[2], match[1]) for match in re.finditer(r"([\d.,]+)\s?([KkMG][bB])(?![a-zA-Z])", text)):
        number = Decimal(unit.replace(",", "").strip(".") or "0")
        found.append(Amount(number, _CASED.get(cased, cased), number))
    if found:
        return tuple(found)
    read = tuple(_read(_prepared(text)))
    if len(read) > 1 and {amount.kind for amount in read} <= {"time"}:  # an hour and thirty minutes
        whole = sum((amount.value for amount in read), Decimal(0))
        return (Amount(whole, "time", whole),)
    return read


def _prepared(text: str) -> str:
    """The text in small letters and half width, Chinese numerals as digits."""
    plain = "".join(unicodedata.normalize("NFKC", sign) if "\uff00" <= sign <= "\uffef" else sign for sign in text)
    plain = re.sub(r"(?<=[\d万亿])块(\d)(?!\d)", r".\1块", plain.casefold().replace("per cent", "percent"))
    plain = plain.replace("廿", "二十").replace("卅", "三十")

    def digits(match: re.Match[str]) -> str:
        run = match[0]
        before = plain[match.start() - 1 : match.start()]
        if before.isdigit() or before == "." or (len(run) == 1 and run in "千百十" and not before):
            return run
        if run in ("万", "亿", "千") or (run == "零" and plain[match.end() : match.end() + 1] == "下"):
            return run
        short = re.fullmatch(r"(.*[百千万])([一二三四五六七八九])", run)
        if short is not None and "零" not in run:  # 三百六 is 360
            return str(han_value(short[1]) + han_value(short[2]) * (han_value("一" + short[1][-1]) // 10))
        return str(han_value(run))

    plain = _HAN_AMOUNT.sub(digits, plain)
    plain = re.sub(r"(\d+)\s*个半(?=小时|月)", r"\1.5", plain).replace("半小时", "0.5小时").replace("半天", "0.5天")
    plain = re.sub(r"每小时\s*([\d.]+)\s*(?:公里|千米)", r"\1km/h", plain)
    return re.sub(r"\b(?:km|kilomet(?:re|er)s?) per hour", "km/h", re.sub(r"\bmiles per hour", "mph", plain))


def _read(text: str) -> Iterator[Amount]:
    for match in _AMOUNT.finditer(text):
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        before, sign = text[start - 1 : start], (match["sign"] or "").strip()
        joined = before.isalnum() and sign in ("-", "−", "+")  # the second of a range: 6-12
        if before.isalnum() and before.isascii() and not joined:
            continue
        raw = match["number"].replace(",", "").replace(" ", "")
        if "/" in raw:
            top, bottom = raw.split("/")
            if top.startswith("0") or not 0 < int(bottom) <= 64:  # a date or a code
                continue
            number = Decimal(top) / Decimal(bottom)
        else:
            number = Decimal(raw)
        number = number.scaleb(_SCALES.get(match["scale"] or match["short"] or "", 0))
        if not joined and (sign or match["inner"] or "") not in ("", "+"):
            number = -number
        word = match["before"] or match["unit"] or ""
        word = "%" if word == "百分之" else word
        if word.startswith("pound") and "sterling" in text[match.end() :]:
            word = "gbp"
        kind, factor = _UNITS.get(word, ("", "1"))
        if match["before"] == "人民币" or (match["before"] and match["unit"] == "元"):
            kind, factor = _UNITS[match["before"]]
        yield Amount(number * Decimal(factor), kind, number)


def compare_amounts(a: str, b: str) -> Literal["same", "different", "unsure"] | None:
    """Whether two answers with one amount each give the same; None when they don't have one each, or one of them has
    no unit that would tell."""
    one, other = amounts(a), amounts(b)
    if len(one) != 1 or len(other) != 1:
        return None
    (mine,), (theirs,) = one, other
    if mine.kind and theirs.kind:
        kinds = {mine.kind, theirs.kind}
        if len(kinds) == 1:
            return "same" if mine.value == theirs.value else "different"
        if kinds == {"$", "USD"}:
            return "same" if mine.value == theirs.value else "different"
        if ("$" in kinds and kinds & {"AUD", "HKD", "TWD"}) or (kinds == {"CNY", "JPY"} and "¥" in a + b):
            return "unsure" if mine.value == theirs.value else "different"
        return "different"
    if mine.kind or theirs.kind:
        return None if mine.plain == theirs.plain else "different"
    return "same" if mine.plain == theirs.plain else "different"


def turned(a: str, b: str) -> Literal["different", "unsure"] | None:
    """Whether words turn one number and not the other, or the other way: at least and at most, a profit and a loss,
    from three to five and three or five. None when they agree."""
    one, other = (frozenset(name for name, words in _TURNS if re.search(words, text.casefold())) for text in (a, b))
    if one == other:
        return None
    for left, right in (("up", "down"), ("gain", "loss"), ("span", "both")):
        if (left in one and right in other) or (right in one and left in other):
            return "different"
    return "unsure"


@dataclass(frozen=True)
class Clock:
    """A time of day in minutes; ``sure`` unless it may be in either half of the day."""

    minutes: int
    sure: bool


def clock(text: str) -> Clock | None:
    """The one time of day that a short answer is; None when it is something else."""
    plain = _prepared(text).strip(" .。")
    plain = re.sub(r"\bnoon\b", "12pm", re.sub(r"12(?::00)? noon", "12pm", plain)).replace("midnight", "12am")
    spoken = re.fullmatch(r"(half|(?:a )?quarter) (past|to) (\w+)", plain)
    if spoken is not None and spoken[3] in _HOURS:
        minutes = (30 if spoken[1] == "half" else 15) * (1 if spoken[2] == "past" else -1)
        return Clock((_HOURS.index(spoken[3]) * 60 + 60 + minutes) % 720, False)
    match = _CLOCK.fullmatch(plain)
    if match is None or not (match["part"] or match["half"] or ":" in plain or "点" in plain):
        return None
    minute = {"半": 30, "1刻": 15, "3刻": 45}.get(match["minute"] or "")
    hour, minutes = int(match["hour"]), minute if minute is not None else int(match["minute"] or 0)
    half = (match["half"] or "").replace(".", "")
    part = match["part"] or ""
    if hour > 24 or minutes > 59:
        return None
    sure = bool(half or part or hour > 12 or hour == 0 or re.match(r"0\d", match["hour"]))
    if hour < 12 and (half == "pm" or part in ("下午", "晚上", "傍晚")):
        hour += 12
    if hour == 12 and (half == "am" or part in ("半夜", "夜里", "凌晨")):
        hour = 0
    return Clock((hour % 24) * 60 + minutes, sure)


def compare_clocks(a: str, b: str) -> Literal["same", "different"] | None:
    """Whether two answers are the same time of day; None when either is something else."""
    one, other = clock(a), clock(b)
    if one is None or other is None:
        return None
    day = 1440 if one.sure and other.sure else 720
    return "same" if one.minutes % day == other.minutes % day else "different"


_CODE = re.compile(r"[A-Za-z0-9_./@:#+\u2070-\u2089²³¹-]*[A-Za-z0-9\u2070-\u2089²³¹]")


def codes(text: str) -> frozenset[str]:
    """What in an answer has to be copied to the letter: runs of mixed letters and digits, numbers that begin with 0,
    addresses, raised and lowered figures. An amount with its unit is none."""
    plain = "".join(unicodedata.normalize("NFKC", sign) if "\uff00" <= sign <= "\uffef" else sign for sign in text)
    found = set()
    for run in (run.lstrip(":") for run in _CODE.findall(plain)):
        digits, letters = any(c.isdecimal() for c in run), any(c.isalpha() for c in run)
        amount = re.fullmatch(rf"[$¥€£+-]?[\d.,/]+(?:{_UNIT}|k|m|st|nd|rd|th|am|pm)?", run.casefold())
        raised = re.search(r"[\u2070-\u2089²³¹]", run) and not amount
        zero = re.fullmatch(r"0\d+", run)
        if (digits and letters and not amount) or "://" in run or "@" in run or zero or raised:
            found.add(run)
    return frozenset(found)


def compare_codes(a: str, b: str) -> Literal["same", "different", "unsure"] | None:
    """Whether two answers hold the same code; None when either holds none. Long runs of digits are compared without
    their spaces, hyphens and brackets."""
    numbers = [re.sub(r"[\s()\-+]", "", text.strip(" .。")) for text in (a, b)]
    if all(number.isdecimal() and len(number) >= 7 for number in numbers):
        return "same" if numbers[0] == numbers[1] else "different"
    one, other = codes(a), codes(b)
    if not one or not other or one == other:
        return None
    if {code.casefold() for code in one} == {code.casefold() for code in other}:
        plain = all(code.upper() == code or code.lower() == code for code in one | other)
        return "unsure" if plain else "different"
    return "different" if len(one) == len(other) == 1 else "unsure"


def month_days(text: str) -> frozenset[tuple[int, int]]:
    """Days of the year that a text names without a year, in Chinese."""
    return frozenset((int(month), int(day)) for month, day in _MONTH_DAY.findall(_prepared(text)))
