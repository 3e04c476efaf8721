"""What a question asks of a page, in English and Chinese.

Every word of a question must be accounted for: by the name of a field, as filler, or as part of a label to look up. A
question with a word left over (a colour, a comparison, a negation) is not understood, and then nothing is answered.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources

from opencc import OpenCC

from inference_service.reader.fields import Field

NAMES = tomllib.loads(resources.files(__package__).joinpath("names.toml").read_text(encoding="utf-8"))
FILLER_EN = frozenset(NAMES["filler"]["en"])
FILLER_ZH = re.compile("|".join(NAMES["filler"]["zh"]))
PATTERNS = tuple(
    (field, re.compile(rf"(?<![a-z])(?:{'|'.join(NAMES[field.name]['en'] + NAMES[field.name]['zh'])})(?![a-z])"))
    for field in Field
)
READ_ALL = re.compile(
    r"(?:read|transcribe|extract|list|give|show)\b.*\b(?:all|every\w*|whole|full)?\s*(?:the )?(?:text|words|writing)\b"
    r"|what (?:text|words|writing)\b.*|what(?: is|'s) (?:written|printed)(?: (?:on|in|here).*)?|transcribe.*"
    r"|what (?:does|do) (?:it|this|(?:the|this) (?:image|picture|page|label|sign|screenshot)) say"
    r"|.*(?:所有|全部|哪些|什么)(?:的)?(?:文字|文本|字|内容).*|.*(?:写了|写着|写的是?)什么|识别.*文字|读出.*文字"
)
YES_NO = re.compile(r"(?:is|are|was|were|does|do|did|has|have|should|will)\b|.*(?:吗|是不是|有没有|是否|对不对)")
POLITE = re.compile(
    r"(?:hi|hello|hey)?[ ,]*(?:please |kindly )?(?:(?:can|could|would|will) you )?(?:please )?"
    r"(?:tell me |let me know )?"
)
PRICE_EN = re.compile(
    r"(?:how much (?:is|was|are|were|does|did|do)|(?:what (?:is|was) the )?(?:price|cost|amount) (?:of|for))"
    r" (?:the |a |an )?(?P<target>.+?)(?: costs?)?"
)
ASK_EN = re.compile(
    r"(?:what (?:is|was|are|were|does)|what's|which|who is|who's|who was|how many|give|show|find|read)?\s*(?:me )?"
    r"(?:the |a |an )?"
    r"(?:(?:value|number|figure|amount|text) (?:of|for|in|at|next to|beside|after|behind|under) (?:the )?)?"
    r"(?P<target>.+?)(?: (?:say|says|show|shows|read))?"
)
NUMERIC_EN = re.compile(r"how (?:many|much)|\b(?:value|number|figure|amount|price|cost)\b")
TAIL_EN = re.compile(
    r"\s+(?:is |are )?(?:(?:shown|printed|written|stated|given) )?(?:on|in|of|for|from) (?:the|this|that|it)"
    r"(?: (?:\w+ )?(?:receipt|invoice|bill|ticket|document|page|image|picture|photo|screenshot|chart|graph|label|menu"
    r"|screen|table|form|parcel|package|order|product))?$"
)
ASK_ZH = re.compile(
    r"(?:请问|请告诉我|告诉我|请)?(?:(?:这|那|该|本)[张个份家]?)?(?:图片|图表|图|发票|收据|小票|账单|截图|标签|页面)?(?:中|上|里)?的?"
    r"(?P<target>.+?)的?(?P<price>价格|单价|数值|值|数量)?(?:一?共)?(?:是|为|有|等于|写着|写的是|显示)?"
    r"(?P<ask>什么|多少钱?|几|哪个|谁|什么时候|何时|哪天|多久)?(?:呢|啊)?"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a question asks for: fields by name, one label to look up, or all text; nothing when not understood."""

    fields: tuple[Field, ...] = ()
    label: str = ""
    """The label whose value is wanted, normalised; empty for none."""
    number: bool = False
    """Whether the value behind `label` must be a number."""
    everything: bool = False


NOTHING = Wish()
JOINED = re.compile(r"\band\b|[,&和与及、，]")


@cache
def simplifier() -> OpenCC:
    """Traditional to simplified characters."""
    return OpenCC("t2s")


def is_chinese(text: str) -> bool:
    """Whether a text holds a Chinese character."""
    return any("\u4e00" <= char <= "\u9fff" for char in text)


def normal(text: str) -> str:
    """Half width, lower case, simplified, single spaces, without the punctuation around it."""
    text = unicodedata.normalize("NFKC", text).lower()
    if is_chinese(text):
        text = simplifier().convert(text)
    return re.sub(r"\s+", " ", text).strip(" ?!.,;:。？！，；：\"'“”「」")


def understand(question: str) -> Wish:
    """What `question` asks for. Never raises; a question that is not understood gives an empty wish."""
    text = normal(question)
    if not text:
        return NOTHING
    if READ_ALL.fullmatch(text):
        return Wish(everything=True)
    if YES_NO.match(text):
        return NOTHING
    text = POLITE.sub("", text, count=1).strip() or text
    fields, rest = named(text)
    if fields and not leftover(rest):
        return Wish(fields=fields)
    return look_up(text)


def named(text: str) -> tuple[tuple[Field, ...], str]:
    """The fields that a question names, in its order, and what is left of it. The longest name at a place wins."""
    found: list[Field] = []
    rest: list[str] = []
    position = 0
    while position < len(text):
        best: tuple[int, Field] | None = None
        for field, pattern in PATTERNS:
            matched = pattern.match(text, position)
            if matched and matched.end() > position and (best is None or matched.end() > best[0]):
                best = matched.end(), field
        if best is None:
            rest.append(text[position])
            position += 1
        else:
            position, field = best
            if field not in found:
                found.append(field)
            rest.append(" ")
    return merged(found, text), "".join(rest)


def merged(found: list[Field], text: str) -> tuple[Field, ...]:
    """Drops a name that only leads to another: "total" in "total tax", "when" in "when is it due", "store" in "address
    of the store"."""
    fields = list(found)
    if Field.DUE_DATE in fields and Field.DATE in fields:
        fields.remove(Field.DATE)
    for leading in (Field.TOTAL, Field.COMPANY):
        if len(fields) == 2 and leading in fields and not JOINED.search(text):
            fields.remove(leading)
    return tuple(fields)


def leftover(rest: str) -> bool:
    """Whether words are left that nothing accounts for."""
    if is_chinese(rest):
        rest = FILLER_ZH.sub(" ", rest)
    return any(word not in FILLER_EN for word in re.findall(r"[a-z']+|\d+|[^\sa-z\d,;:.?!，。？！()]", rest))


def look_up(text: str) -> Wish:
    """The label that a question asks the value of."""
    if is_chinese(text):
        matched = ASK_ZH.fullmatch(text)
        if matched is None:
            return NOTHING
        number = bool(matched["price"]) or (matched["ask"] or "").startswith(("多少", "几"))
        return Wish(label=matched["target"].strip(" \"'“”「」"), number=number)
    shorter = TAIL_EN.sub("", text)
    number = NUMERIC_EN.search(text) is not None
    matched = PRICE_EN.fullmatch(shorter) or ASK_EN.fullmatch(shorter)
    if matched is None:
        return NOTHING
    return Wish(label=matched["target"].strip(" \"'“”"), number=number)
