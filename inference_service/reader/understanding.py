"""What a question asks of a page, in English and Chinese.

Every word of a question must be accounted for: by the name of a field, as filler, or as part of a label to look up. A
question with a word left over (a colour, a comparison, a negation) is not understood, and then nothing is answered.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from opencc import OpenCC

from inference_service.reader.fields import Field
from inference_service.reader.items import Column

NAMES = tomllib.loads(resources.files(__package__).joinpath("names.toml").read_text(encoding="utf-8"))
FILLER_EN = frozenset(NAMES["filler"]["en"])
FILLER_ZH = re.compile("|".join(sorted(NAMES["filler"]["zh"], key=len, reverse=True)))


def written_out(pattern: str) -> str:
    """A name with every `<part>` in it replaced by what that stands for."""
    while (whole := re.sub(r"<([a-z]+)>", lambda found: f"(?:{NAMES['part'][found[1]]})", pattern)) != pattern:
        pattern = whole
    return pattern


PATTERNS = tuple(
    (field, re.compile(rf"(?<![a-z])(?:{written_out(pattern)})(?![a-z])"))
    for field in Field
    for pattern in (*NAMES[field.name]["en"], *NAMES[field.name]["zh"])
)
"""Each way to name a field by itself, so that the longest match wins."""
READ_ALL = re.compile(
    r"(?:read|transcribe|extract|list|give|show)\b.*\b(?:all|every\w*|whole|full)?\s*(?:the )?(?:text|words|writing)\b"
    r"|what (?:text|words|writing)\b.*|what(?: is|'s) (?:written|printed)(?: (?:on|in|here).*)?|transcribe.*"
    r"|what (?:does|do) (?:it|this|(?:the|this) (?:image|picture|page|label|sign|screenshot)) say"
    r"|.*(?:所有|全部|哪些|什么)(?:的)?(?:文字|文本|字|内容).*|.*(?:写了|写着|写的是?)什么|识别.*文字|读出.*文字"
)
READ_WORDS = re.compile(
    r"\b(?:transcribe|extract|list|all|every\w*|entire|text|words?|writing|sign|everything)\b|所有|全部|哪些|什么|文字|文本|内容|识别|读出|列出|字|写了|写着|写的"
)
"""What asks for all text, filler aside."""
YES_NO = re.compile(r"(?:is|are|was|were|does|do|did|has|have|should|will)\b|.*(?:吗|是不是|有没有|是否|对不对)")
GREETING = re.compile(
    r"(?:(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|excuse me|ok(?:ay)?|so|well|and|um+|uh+|er+|hmm+)\b"
    r"(?: there\b)?[ ,.!:-]*|(?:您好|你好|嗨|喂|嗯|那个|就是)[呀啊吧,.!…。， ]*)+"
)
POLITE = re.compile(
    r"(?:(?:please|kindly|possibly|(?:can|could|would|will|may) (?:you|i|we)|ask|tell me|let me know|know|see|check"
    r"|find out|find|look up|say|give me|show me|copy out|copy|read (?:off|out|me)|read"
    r"|write down|pull out|extract|state|report|provide) )+"
)
POLITE_ZH = re.compile(
    r"(?:请问|请|麻烦)?(?:能不能|可不可以|能否|可否|能|可以|麻烦)(?:请)?(?:您|你)?(?:帮忙|帮我?|给我)?"
    r"(?=告诉|看|说|查|读|找|把|念|报|讲)(?P<ask>.+?)(?:吗|么)?"
    r"|(?P<say>.+?)[,，]?(?:行吗|好吗|可以吗|好不好|行不行|谢谢|拜托了?)"
)
THANKS = re.compile(
    r"[ ,]*(?:please|pls|plz|thanks|thank you|if you (?:can|could|would|don't mind)|if possible|if you'd be so kind)$"
)
CONTRAST = re.compile(
    r"(?:^|(?<=[,.;:!?，。；：])) *(?:(?:and |but )?not(?! (?:counting|including|considering|taking|adding|with))"
    r"|rather than|instead of|i don't (?:want|need|mean)|(?:我)?(?:问的|要的)?不是问?|(?:我)?不要|别给我|别报|而不是)"
    r"[^,.;:!?，。；：]*(?:[,.;:!?，。；：]|$)"
    r"|[,，] *[^,，。]{1,12}的?不要$"
    r"|(?<=[a-z]) (?:rather than|instead of|and not) (?:the |that |those )?[a-z' ]+$"
)
"""What a question says that it does not mean: a clause of its own beginning with "not"."""
SENTENCE = re.compile(r"(?<=[^\W\d])[.!;。！；](?= |[^\W\da-z])")
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
class ItemWish:
    """A question about goods: which row, and what of it."""

    column: Column
    ordinal: int = 0
    """The row by number, from 1; -1 for the last; 0 where words name it."""
    words: tuple[str, ...] = ()
    """What the question calls the row, normalised; none where the only row or `ordinal` is meant."""
    count: bool = False
    """Whether the number of rows is asked for."""
    either: bool = False
    """Whether the question says "price": the amount of the row, if it can't be confused with a unit price."""
    priced: bool = False
    """Whether the name is wanted with its price."""


@dataclass(frozen=True, slots=True)
class Extreme:
    """A question about the largest or smallest of a chart's values or of the goods' prices, or about their number."""

    largest: bool = True
    value: bool = False
    """Whether the value itself is wanted, not what has it."""
    goods: bool = False
    """Whether it is about goods and their prices."""
    count: bool = False
    """Whether only the number of a chart's values is wanted."""
    kind: str = ""
    """What the labels must be: "quarter", "month" or "year"; empty for anything."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a question asks for: fields, goods, one label to look up, or all text; nothing when not understood."""

    fields: tuple[Field, ...] = ()
    party: bool = False
    """Whether the question says whose fields it wants, the buyer's or the seller's."""
    item: ItemWish | None = None
    label: str = ""
    """The label whose value is wanted, normalised; empty for none."""
    number: bool = False
    """Whether the value behind `label` must be a number."""
    everything: bool = False
    extreme: Extreme | None = None


NOTHING = Wish()
LONGEST = 600
"""Characters of a question beyond which it is more than the name of a value."""
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
    if len(question) > LONGEST:
        return NOTHING
    text = ASIDE.sub(" ", normal(question)).strip()
    if greeting := GREETING.match(text):
        text = trimmed(text[greeting.end() :]) or text
    if not text:
        return NOTHING
    if READ_ALL.fullmatch(text) and not leftover(READ_WORDS.sub(" ", text)):
        return Wish(everything=True)
    text = plainly(text)
    if YES_NO.match(text):
        return NOTHING
    if extreme := extreme_of(text):
        return Wish(extreme=extreme)
    fields, rest = named(text)
    item = item_wish(text)
    if item is not None and (item.ordinal or item.count):
        return Wish(item=item)
    if len(fields) > 1 and not JOINED.search(rest):
        if item is not None and item.words and leftover(rest):
            return Wish(item=item)  # goods whose name holds a field's: "the calibration service"
        return NOTHING  # of two things at once, or one of the other: not both were asked for
    if {Field.DATE, Field.TIME} & set(fields) and ELSEWHEN.search(text):
        return NOTHING  # the day of the document is not that of the payment
    if fields and not leftover(rest):
        return Wish(
            fields=fields,
            party=PARTY.search(text) is not None,
            item=item if item is not None and not item.words else None,
        )
    if item is not None:
        label = look_up(text)
        return Wish(item=item, label=label.label, number=label.number)
    return look_up(text)


MEASURED = (
    r"(?:sales?|sold|selling|values?|figure|number|units?|amount|consumption|usage|used?|bar|revenue|output|production)"
)
KINDS = (
    r"(?:quarter|month|year|week|day|department|region|city|country|shop|store|product|category|team|bar|group|section)"
)
GOODS = r"(?:item|product|article|thing|dish|line)"
WHERE = r"(?: ?(?:(?:shown |listed )?(?:in|on|of) )(?:the|this) (?:chart|graph|figure|diagram|picture))?"
KINDS_ZH = r"(?:部门|季度|月份?|年份?|地区|城市|产品|类别|组|店)"
WHICH_ZH = rf"(?:(?:哪个|哪一?个?|什么){KINDS_ZH}?)"
GOODS_ZH = r"(?:商品|东西|菜|货物|产品)"
WHICH_GOODS_ZH = rf"(?:(?:哪个|哪一?[个件样种项]|什么){GOODS_ZH}?)"


def _extremes() -> Iterator[tuple[str, Extreme]]:
    for largest, most, most_zh, dear, dear_zh in (
        (
            True,
            r"(?:highest|most|largest|biggest|greatest|best|top|maximum|max|strongest|busiest)",
            "最(?:高|多|大|好)",
            r"(?:most expensive|dearest|priciest|costliest)",
            "最贵",
        ),
        (
            False,
            r"(?:lowest|least|smallest|fewest|minimum|min|weakest|worst)",
            "最(?:低|少|小|差)",
            r"(?:least expensive|cheapest)",
            "最便宜",
        ),
    ):
        one, value, goods = Extreme(largest), Extreme(largest, value=True), Extreme(largest, goods=True)
        yield rf"(?:(?:which|what) (?:is|was) )?(?:the )?{dear}(?: {GOODS})?", goods
        yield rf"(?:which|what) {GOODS} (?:is|was|costs?) (?:the )?(?:{dear}|{most})", goods
        yield rf"(?:(?:which|what) )?{GOODS} (?:has|had|with) (?:the )?{most} (?:unit )?(?:price|cost)", goods
        yield (
            rf"(?:哪个|哪一?[个件样种项]|什么)?{GOODS_ZH}?的?(?:单价|价格|价钱){most_zh}的?{GOODS_ZH}?(?:是)?{WHICH_GOODS_ZH}?",
            goods,
        )
        yield rf"{WHICH_GOODS_ZH}?{dear_zh}的?{GOODS_ZH}?(?:是)?{WHICH_GOODS_ZH}?", goods
        yield (
            rf"(?:in )?(?:which|what) {KINDS} (?:has|had|have|is|was|shows?|saw|sold|used|consumed|records?|recorded)?"
            rf" ?(?:the )?{most}(?: {MEASURED})*{WHERE}",
            one,
        )
        yield rf"(?:the )?{KINDS} with (?:the )?{most}(?: {MEASURED})*{WHERE}", one
        yield rf"(?:(?:what|how (?:high|large|big|much)) (?:is|was) )?(?:the )?{most}(?: {MEASURED})+{WHERE}", value
        yield rf"{WHICH_ZH}的?[\u4e00-\u9fff]{{0,6}}{most_zh}", one
        yield rf"[\u4e00-\u9fff]{{0,6}}{most_zh}的(?:是)?{WHICH_ZH}", one
        yield rf"(?:图表?[中里]?)?的?{most_zh}的?(?:数值|值|数字|数据)(?:是|为)?(?:多少|几)?", value
    count = Extreme(count=True)
    yield (
        rf"how many (?:{KINDS}s|categories|bars) (?:are |were )?(?:there ?)?(?:(?:shown|listed|compared) ?)?{WHERE}",
        count,
    )
    yield rf"(?:图表?[中里上]?)?(?:一共|总共|共)?(?:有|列了|显示了?|比较了?)?(?:几|多少)个{KINDS_ZH}", count


EXTREMES = tuple((re.compile(pattern), extreme) for pattern, extreme in _extremes())
"""Each way to ask for a largest or smallest."""


def extreme_of(text: str) -> Extreme | None:
    """The question about a largest or smallest that a text may be."""
    found = next((extreme for pattern, extreme in EXTREMES if pattern.fullmatch(text)), None)
    kinds = {"quarter": r"quarter|季度", "month": r"month|月", "year": r"\byears?\b|年份"}
    named_kind = next((kind for kind, pattern in kinds.items() if re.search(pattern, text)), "")
    return replace(found, kind=named_kind) if found is not None else None


def plainly(text: str) -> str:
    """A question without courtesy, without what it says that it does not mean, and without the story before it."""
    text = re.sub(r"\b(what|who|where|when|how|it|that|there|which)'s\b", r"\1 is", text)
    sentences = [each for each in SENTENCE.split(text) if each.strip()]
    if len(sentences) > 1 and not any(re.search(r"\d", each) or named(each)[0] for each in sentences[:-1]):
        text = sentences[-1].strip()
    text = trimmed(CONTRAST.sub(" ", text)) or text
    text = trimmed(THANKS.sub("", text)) or text
    if found := POLITE_ZH.fullmatch(text):
        text = found["ask"] or found["say"]
    polite = POLITE.match(text)
    return (trimmed(text[polite.end() :]) or text) if polite else text


def trimmed(text: str) -> str:
    """Single spaces, without the punctuation around it."""
    return re.sub(r"\s+", " ", text).strip(" ?!.,;:。？！，；：")


ELSEWHEN = re.compile(
    r"\b(?:pay|paid|payment|settled|shipped|sent|delivered|received)\b|付款|支付|付的|发货|交货|收到|到货"
)
"""Events other than the document's own."""
ASIDE = re.compile(r"\((?:not |no |without |不要|不是|非)[^()]*\)")
"""What a question says that it does not mean."""

PARTY = re.compile(
    r"\b(?:buy\w*|customer|purchas\w+|bill\w*|sell\w*|suppl\w+|vendor|issu\w+|merchant|store|shop|company)\b"
    r"|购|买|客户|销|卖|商家|开票方|公司|店|出租|单位"
)
"""Words for one of the two parties."""

PARTY_FIELDS = {
    Field.TAX_ID: Field.BUYER_TAX_ID,
    Field.PHONE: Field.BUYER_PHONE,
    Field.ADDRESS: Field.BUYER_ADDRESS,
    Field.BANK: Field.BUYER_BANK,
    Field.ACCOUNT: Field.BUYER_ACCOUNT,
}
"""Fields that the seller and the buyer both have."""

COLUMNS: tuple[tuple[Column, re.Pattern[str]], ...] = tuple(
    (column, re.compile(pattern))
    for column, pattern in (
        (
            Column.UNIT_PRICE,
            r"unit (?:price|cost)(?: of| for)?|price per (?:piece|unit|item|pack|pc)"
            r"|price (?:of )?(?:one|each)(?: (?:pack|piece|unit|bottle|box) of)?"
            r"|(?:how much|what) (?:is|was|are|were|does|did) (?:one|each|a single)(?: (?:pack|piece|unit|bottle|box))?"
            r"(?: of)?"
            r"|(?:price|cost) (?:each|apiece|per item)"
            r"|单价|每[个件把支瓶盒片台套袋箱包本张块条双只份杯]多少钱|一[个件把支瓶盒片台套袋箱包本张块条双只份杯]多少钱"
            r"|多少钱一[个件把支瓶盒片台套袋箱包本张块条双只份杯]",
        ),
        (
            Column.QUANTITY,
            r"quantity(?: of| for)?|qty(?: of)?|how many(?: units| pieces| packs| pcs)?(?: of)?|number of|数量"
            r"|买了多少$"
            r"|(?:几|多少)[个件把支瓶盒片台套袋箱包本张块条双只份杯]",
        ),
        (Column.TAX_RATE, r"(?:tax|vat) rate(?: of| for| on)?|税率"),
        (Column.TAX, r"(?:tax|vat|gst)(?: amount)?(?: of| for| on)?|税额"),
        (Column.SPECIFICATION, r"specifications?(?: of)?|model(?: number)?(?: of)?|规格型号|规格|型号"),
        (Column.UNIT, r"计量单位|什么单位"),
        (
            Column.AMOUNT,
            r"how much (?:is|was|are|were|did|does|do|for)|what (?:is|was) charged for"
            r"|(?:line )?(?:amount|total)(?: of| for| on)?"
            r"|金额|总价|小计",
        ),
        (
            Column.AMOUNT,
            r"(?:what (?:did|does|do) )|prices?(?: of| for)?|costs?(?: of)?|多少钱|价格|价钱|怎么卖",
        ),
    )
)
PRICE_WORDS = re.compile(r"prices?|costs?|what (?:did|does|do) |价格|价钱|怎么卖|how much (?:is|are)|多少钱")

ORDINALS = {
    name: number
    for number, names in enumerate(
        ("first 1st 一 1", "second 2nd 二 2 两", "third 3rd 三 3", "fourth 4th 四 4", "fifth 5th 五 5",
         "sixth 6th 六 6",
         "seventh 7th 七 7", "eighth 8th 八 8", "ninth 9th 九 9", "tenth 10th 十 10"),
        1,
    )
    for name in names.split()
}  # fmt: skip
ORDINAL = re.compile(
    r"(?P<en>first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|\d{1,2}(?:st|nd|rd|th)|last) "
    r"(?:items?|rows?|lines?|products?|entry|goods|article|things?)"
    r"(?: of (?:the |this )?(?:table|list|invoice|receipt|bill|goods|items))?"
    r"|(?:item|row|line) (?:number |no\.? )?(?P<nr>\d{1,2})\b"
    r"|第(?P<zh>[一二三四五六七八九十\d])(?:行|项|个|件|种|条|样)(?:商品|货物|物品|东西|项目|服务|菜品?)?"
    r"|(?P<last>最后一?(?:行|项|个|件|种|条|样)(?:商品|货物|物品|东西|项目|菜品?)?)"
)
COUNT = re.compile(
    r"(?:how many|number of|count of) (?:different |distinct )?"
    r"(?:items|products|rows|lines|line items|articles|goods|kinds of (?:goods|items|products))"
    r"(?: (?:are|were) (?:there|listed|on (?:the|this) \w+|bought|sold|billed))?"
    r"(?: on (?:the|this) \w+)?(?: in (?:the|this) \w+)?(?: does (?:the|this) \w+ (?:have|list|show))?"
    r"|(?:(?:小票|发票|收据|单子|表格|表)(?:上|里|中)?)?(?:一共|总共|共)?(?:有|列了|买了|卖了)?(?:几|多少)(?:行|种|项|样)(?:商品|货物|物品|东西|项目|明细)?"
)


WHOLE = re.compile(r"\b(?:in total|in all|altogether|all together)\b|(?<!^)(?:一共|总共|合计)")
"""What says that the amount of the whole row is meant."""
BOTH = re.compile(
    r",? (?:and|with) (?:its|the) (?:price|amount|cost)|,? (?:and )?(?:what|how much) (?:does|did) it cost"
    r"|(?<=什么)[,，]?(?:价格|价钱)?(?:是)?多少钱?|(?:和|及|以及)(?:它的?|其)?(?:价格|价钱|金额)(?:分别)?"
)
"""What asks for the price beside a name."""


def item_wish(text: str) -> ItemWish | None:
    """The question about goods that a text may be."""
    if COUNT.fullmatch(text):
        return ItemWish(Column.NAME, count=True)
    ordinal = 0
    text, both = BOTH.subn(" ", text)
    text, whole = WHOLE.subn(" ", text)
    text = trimmed(text)
    matched = ORDINAL.search(text)
    rest = text
    if matched:
        ordinal = (
            -1
            if matched["last"] or matched["en"] == "last"
            else ORDINALS.get(matched["en"] or matched["nr"] or matched["zh"], 0)
        )
        rest = text[: matched.start()] + " " + text[matched.end() :]
        if not ordinal:
            return None
    column = None
    for each, pattern in COLUMNS:
        if found := pattern.search(rest):
            column, either = each, each is Column.AMOUNT and bool(PRICE_WORDS.search(found.group()))
            rest = rest[: found.start()] + " " + rest[found.end() :]
            break
    if column is None:
        bare = " ".join(word for word in rest.split() if word not in ITEM_FILLER_EN)
        return ItemWish(Column.NAME, ordinal, priced=bool(both)) if ordinal and not leftover(bare) else None
    words = content(rest)
    if ordinal and words:
        return None
    return ItemWish(column, ordinal, words, either=either and not whole and column is Column.AMOUNT)


def content(rest: str) -> tuple[str, ...]:
    """The words of a question that are no filler."""
    if is_chinese(rest):
        rest = ITEM_FILLER_ZH.sub(" ", FILLER_ZH.sub(" ", rest))
        words = re.findall(r"[\u4e00-\u9fff]+|[a-z0-9][a-z0-9.-]*", rest)
        return tuple(word for word in words if word not in FILLER_EN | ITEM_FILLER_EN)
    return tuple(word for word in re.findall(r"[a-z0-9][a-z0-9'.-]*", rest) if word not in FILLER_EN | ITEM_FILLER_EN)


ITEM_FILLER_EN = frozenset(
    [
        "bought",
        "sold",
        "ordered",
        "purchased",
        "billed",
        "line",
        "row",
        "item",
        "items",
        "table",
        "cost",
        "costs",
        "unit",
        "units",
        "one",
        "each",
        "per",
        "altogether",
        "charge",
        "did",
        "does",
        "do",
        "s",
        "had",
        "pack",
        "piece",
        "pieces",
        "of",
        "how",
        "buy",
        "buys",
        "get",
        "order",
        "purchase",
    ]
)
ITEM_FILLER_ZH = re.compile(
    r"那一?行|这一?行|那一?项|这一?项|一共|总共|买了?|卖了?|订了?|要了?|花了?|每|单个|一个|需要|收费|价"
)


def named(text: str) -> tuple[tuple[Field, ...], str]:
    """The fields that a question names, in its order, and what is left of it. The longest of overlapping names wins."""
    matches: list[tuple[int, int, Field]] = []
    for field, pattern in PATTERNS:
        matched = pattern.search(text)
        while matched:
            if matched.end() > matched.start():
                matches.append((matched.start(), matched.end(), field))
            matched = pattern.search(text, matched.start() + 1)
    chosen: list[tuple[int, int, Field]] = []
    for match in sorted(matches, key=lambda match: (match[0] - match[1], match[0])):
        if all(match[1] <= begin or match[0] >= end for begin, end, _ in chosen):
            chosen.append(match)
    found: list[Field] = []
    rest: list[str] = []
    position = 0
    for begin, end, field in sorted(chosen, key=lambda match: match[0]):
        rest += [text[position:begin], " "]
        position = end
        if field not in found:
            found.append(field)
    rest.append(text[position:])
    return merged(found, "".join(rest)), "".join(rest)


def merged(found: list[Field], rest: str) -> tuple[Field, ...]:
    """Drops names that only lead to another, and gives what both parties have to the one that is named."""
    fields = list(found)
    parties = [field for field in fields if field in (Field.BUYER, Field.COMPANY)]
    common = [field for field in fields if field in PARTY_FIELDS]
    if len(parties) == 1 and common and not JOINED.search(rest):
        buyer = parties[0] is Field.BUYER
        fields = [PARTY_FIELDS[field] if buyer and field in PARTY_FIELDS else field for field in fields]
        fields.remove(parties[0])
    if {Field.BANK, Field.ACCOUNT} <= set(fields) and not JOINED.search(rest):
        fields.remove(Field.BANK)
    for narrow, wide in NARROWER:
        if narrow in fields and wide in fields and not JOINED.search(rest):
            fields.remove(wide)
    return tuple(fields)


NARROWER = (
    (Field.DUE_DATE, Field.DATE),
    (Field.EXPIRY, Field.DATE),
    (Field.PRODUCTION_DATE, Field.DATE),
    (Field.DELIVERY_DATE, Field.DATE),
    (Field.ORDER_TIME, Field.DATE),
    (Field.ORDER_TIME, Field.TIME),
    (Field.SUBTOTAL, Field.TOTAL),
    (Field.SUBTOTAL, Field.TAX),
    (Field.TAX, Field.TOTAL),
    (Field.TAX_RATE, Field.TOTAL),
    (Field.GOODS_AMOUNT, Field.SHIPPING_FEE),
    *((field, Field.TOTAL) for field in (Field.CASH, Field.CHANGE, Field.DISCOUNT, Field.SHIPPING_FEE, Field.FARE,
      Field.FUEL_SURCHARGE, Field.CALL_FEE, Field.CARD_BALANCE, Field.GOODS_AMOUNT, Field.DISTANCE, Field.WEIGHT)),
    (Field.SERVICE_CHARGE, Field.SERVICE),
    (Field.TENDERED, Field.CASH),
    *((field, Field.TOTAL) for field in (Field.SERVICE_CHARGE, Field.TIP, Field.ROUNDING, Field.QUANTITY_TOTAL,
      Field.TENDERED, Field.DUE_DATE, Field.PAYMENT_METHOD)),
    *((field, Field.COMPANY) for field in (Field.ADDRESS, Field.PHONE, Field.TAX_ID, Field.DATE, Field.TOTAL,
      Field.TIME,
      Field.INVOICE_NUMBER, Field.COURIER, Field.MANUFACTURER, Field.PAYMENT_METHOD, Field.ORDER_NUMBER)),
)  # fmt: skip
"""Pairs of fields of which a question that names both means the first: "total" in "total tax", "when" in "when is it
due", "store" in "address of the store"."""


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
