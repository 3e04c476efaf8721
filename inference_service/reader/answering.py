"""Answers a question from what was read on a page, or says that it can't."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from inference_service.reader.document import Document
from inference_service.reader.fields import BUSINESS, Field, amounts_in, worth
from inference_service.reader.items import Column
from inference_service.reader.page import Line, Page
from inference_service.reader.understanding import (
    FILLER_EN,
    PARTY_FIELDS,
    Extreme,
    ItemWish,
    Wish,
    content,
    is_chinese,
    normal,
    understand,
)

ALIKE = 90.0
"""Least similarity, 0 to 100, of a label with what a question calls it: room for one misread letter in ten."""

NAMES_ZH = {
    Field.TOTAL: "总金额",
    Field.SUBTOTAL: "税前金额",
    Field.TAX: "税额",
    Field.TAX_RATE: "税率",
    Field.DATE: "日期",
    Field.DUE_DATE: "到期日",
    Field.TIME: "时间",
    Field.COMPANY: "商家",
    Field.BUYER: "购买方",
    Field.ADDRESS: "地址",
    Field.INVOICE_NUMBER: "发票号码",
    Field.INVOICE_CODE: "发票代码",
    Field.TAX_ID: "税号",
    Field.PHONE: "电话",
    Field.CASH: "现金",
    Field.CHANGE: "找零",
    Field.TITLE: "标题",
    Field.BUYER_TAX_ID: "购买方税号",
    Field.BUYER_PHONE: "购买方电话",
    Field.BUYER_ADDRESS: "购买方地址",
    Field.BUYER_BANK: "购买方开户行",
    Field.BUYER_ACCOUNT: "购买方账号",
    Field.BANK: "开户行",
    Field.ACCOUNT: "账号",
    Field.PAYEE: "收款人",
    Field.REVIEWER: "复核人",
    Field.DRAWER: "开票人",
    Field.MACHINE_NUMBER: "机器编号",
    Field.CHECK_CODE: "校验码",
    Field.CASHIER: "收银员",
    Field.DISCOUNT: "优惠",
    Field.PAYMENT_METHOD: "支付方式",
    Field.ORDER_NUMBER: "订单号",
    Field.TRACKING_NUMBER: "运单号",
    Field.SHIPPING_FEE: "运费",
    Field.GOODS_AMOUNT: "商品金额",
    Field.WEIGHT: "重量",
    Field.BATCH_NUMBER: "批号",
    Field.EXPIRY: "有效期",
    Field.PRODUCTION_DATE: "生产日期",
    Field.STORAGE: "贮藏",
    Field.MANUFACTURER: "生产企业",
    Field.DOSAGE: "用法用量",
    Field.STRENGTH: "规格",
    Field.RECIPIENT: "收件人",
    Field.SENDER: "寄件人",
    Field.COURIER: "快递公司",
    Field.SERVICE: "服务类型",
    Field.IBAN: "IBAN",
    Field.DELIVERY_DATE: "送达日期",
    Field.ORDER_TIME: "下单时间",
    Field.SOURCE: "来源",
    Field.TABLE_NUMBER: "桌号",
    Field.PLATE: "车牌号",
    Field.CERTIFICATE: "证号",
    Field.PRICE_PER_KM: "每公里单价",
    Field.DISTANCE: "里程",
    Field.WAITING: "等候时间",
    Field.FARE: "车费",
    Field.FUEL_SURCHARGE: "燃油附加费",
    Field.CALL_FEE: "叫车服务费",
    Field.CARD_BALANCE: "卡余额",
    Field.TENDERED: "付的现金",
    Field.FAX: "传真",
    Field.DOSE: "每次用量",
    Field.FREQUENCY: "每日次数",
    Field.START_TIME: "上车时间",
    Field.END_TIME: "下车时间",
    Field.SERVICE_CHARGE: "服务费",
    Field.TIP: "小费",
    Field.ROUNDING: "舍入金额",
    Field.QUANTITY_TOTAL: "总数量",
    Field.ITEM_COUNT: "品种数",
    Field.AMOUNT_IN_WORDS: "大写金额",
    Field.ORIGIN: "出发地",
    Field.DESTINATION: "目的地",
    Field.DEPARTURE: "出发时间",
    Field.ARRIVAL: "到达时间",
    Field.SEAT: "座位号",
    Field.COACH: "车厢",
    Field.PASSENGER: "乘客",
    Field.PLATFORM: "站台",
}
DIGITS = re.compile(r"[-+]?(?:[$€£¥￥]|RM)?\s?\d[\d,]*(?:\.\d+)?\s?(?:%|[kKmM]\b|元|万|亿)?")
KEY_VALUE = re.compile(r"^\s*(?P<key>[^:：]{1,40})[:：]\s*(?P<value>.*)$")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's text, and whether it is one."""

    text: str
    answered: bool = True


def reply(document: Document, question: str, language: str = "") -> Reply:
    """Answers `question` from `document`; words that are added are in `language`, or else in the question's."""
    chinese = language.lower().startswith("zh") or (not language and is_chinese(question))
    if not document.page.lines:
        return Reply(
            "图片中没有可以辨认的文字。" if chinese else "I can't read any text in this image.", answered=False
        )
    wish = understand(question)
    if wish.everything:
        return Reply("\n".join(document.page.texts))
    value = None
    if wish.item is not None:
        value = from_items(document, wish.item)
    if value is None and wish.fields:
        return from_fields(document, wish, chinese)
    if wish.extreme is not None:
        value = from_extremes(document, wish.extreme)
    if value is None and wish.label and not (wish.item and document.items.rows):
        value = look_up(document.page, wish) or by_part_of_a_label(document.page, wish)
    if value is not None:
        return Reply(value)
    return Reply(
        "我只能引用图片中的文字，其中找不到这个问题的答案。"
        if chinese
        else "I can only quote the text in this image, and I can't find an answer to this question in it.",
        answered=False,
    )


def reply_about(documents: Sequence[Document], question: str, language: str = "") -> Reply:
    """Answers `question` from one page or several.

    What the pages say alike is said once; what they say differently is said page by page; a page without an answer says
    nothing unless no page has one.
    """
    replies = [reply(document, question, language) for document in documents]
    found = [(number, each) for number, each in enumerate(replies, 1) if each.answered]
    if not found:
        return replies[0]
    if len({each.text for _, each in found}) == 1:
        return found[0][1]
    chinese = language.lower().startswith("zh") or (not language and is_chinese(question))
    mark = "第{}页：{}" if chinese else "Page {}: {}"
    return Reply("\n".join(mark.format(number, each.text) for number, each in found))


def from_fields(document: Document, wish: Wish, chinese: bool) -> Reply:
    """The values of fields; one missing value, or one that two parties have, makes the answer none."""
    fields = wish.fields
    if len(fields) == 1 and not wish.party and fields[0] not in document.fields:
        fields = (INSTEAD.get(fields[0], fields[0]),)
    common = PARTY_FIELDS if document.two_parties and not wish.party else {}
    missing = [field for field in fields if field not in document.fields or field in common]
    if missing:
        names = ("、" if chinese else " or ").join(name(field, chinese) for field in missing)
        text = f"在图片的文字里找不到{names}。" if chinese else f"I can't find the {names} in the text of this image."
        return Reply(text, answered=False)
    if len(fields) == 1:
        return Reply(document.fields[fields[0]])
    if chinese:
        return Reply("；".join(f"{name(field, True)}：{document.fields[field]}" for field in fields))
    return Reply("; ".join(f"{name(field, False)}: {document.fields[field]}" for field in fields))


INSTEAD = {
    Field.BUYER: Field.RECIPIENT,
    Field.COMPANY: Field.SENDER,
    Field.DEPARTURE: Field.START_TIME,
    Field.ARRIVAL: Field.END_TIME,
    Field.TENDERED: Field.CASH,
}
"""What is meant where the first is not on the page: whom a parcel is for, when a taxi's ride began."""


def from_items(document: Document, wish: ItemWish) -> str | None:
    """What is asked of the goods; None where the row or the value can't be told for certain."""
    rows = document.items.rows
    if wish.count:
        return str(len(rows)) if document.items.complete else document.fields.get(Field.ITEM_COUNT)
    if wish.ordinal:
        if not document.items.complete or abs(wish.ordinal) > len(rows):
            return None
        chosen = [rows[wish.ordinal - 1 if wish.ordinal > 0 else -1]]
    elif wish.words:
        chosen = [item for item in rows if called(item.name, wish.words)]
    else:
        if not document.items.complete or len(rows) != 1 or wish.column in (Column.AMOUNT, Column.TAX):
            rates = {item.cells.get(wish.column) for item in rows}
            return rates.pop() if wish.column is Column.TAX_RATE and len(rates) == 1 else None
        chosen = list(rows)
    if len(chosen) != 1:
        return None
    cells = {Column.NAME: chosen[0].name, **chosen[0].cells}
    if wish.priced:
        return f"{chosen[0].name} {cells[Column.AMOUNT]}" if Column.AMOUNT in cells else None
    doubtful = wish.column is Column.AMOUNT and wish.either and Column.UNIT_PRICE in cells
    if doubtful and cells.get(Column.AMOUNT) != cells[Column.UNIT_PRICE]:
        return None
    return cells.get(wish.column)


def called(name: str, words: tuple[str, ...]) -> bool:
    """Whether an item's name holds every word by which a question calls it."""
    plain = normal(name)
    tokens = {singular(word) for word in re.findall(r"[a-z0-9][a-z0-9.]*", plain)}
    return all(
        word in plain if is_chinese(word) else all(singular(part) in tokens for part in word.split("-"))
        for word in words
    )


def singular(word: str) -> str:
    """A word without the ending of its plural, roughly: "wrenches", "loaves" and "boxes" as well."""
    if re.search(r"(?:[sxz]|ch|sh)es$", word):
        return word[:-2]
    return re.sub(r"(?<=[a-z]{2})s$", "", re.sub(r"ves$", "f", re.sub(r"(?<=[a-z]{2})ies$", "y", word)))


def name(field: Field, chinese: bool) -> str:
    """What a field is called."""
    return NAMES_ZH[field] if chinese else field.value


def from_extremes(document: Document, wish: Extreme) -> str | None:
    """The largest or smallest of a chart's values or of the goods' prices, or what has it; None where two share it."""
    pairs = readings(document.page)
    if wish.goods or not pairs:
        if not wish.goods or not document.items.complete:
            return None
        pairs = [
            (item.name, item.cells.get(Column.UNIT_PRICE, item.cells[Column.AMOUNT])) for item in document.items.rows
        ]
    if wish.kind and not all(re.fullmatch(LIKE[wish.kind], label, re.IGNORECASE) for label, _ in pairs):
        return None
    if wish.count:
        return str(len(pairs))
    ordered = sorted(pairs, key=lambda pair: worth(pair[1]), reverse=wish.largest)
    if len(ordered) < 2 or worth(ordered[0][1]) == worth(ordered[1][1]):
        return None
    return ordered[0][1 if wish.value else 0]


LIKE = {
    "quarter": r"q\s?[1-4]|.*quarter|第?[一二三四1-4]季度?",
    "month": r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?|[一二三四五六七八九十\d]{1,2}月",
    "year": r"(?:19|20)\d\d\s?年?",
}
"""What labels look like that are parts of a year, or years."""


def readings(page: Page) -> list[tuple[str, str]]:
    """A chart's labels with their values: rows of a label and a number, or a row of labels below their numbers."""
    rows = [(row[0].text.strip(), row[-1].text.strip()) for row in page.rows if len(row) in (2, 3)]
    bars = [
        (label, value)
        for label, value in rows
        if re.search(r"[^\W\d_]", label)
        and not re.search(r"[:：]$", label)
        and re.fullmatch(r"\d[\d,]*(?:\.\d+)?%?", value)
    ]
    if len(bars) >= 3 and not BUSINESS.search(" ".join(page.texts)):
        return bars
    for number, row in enumerate(page.rows):
        labels = [line for line in row if re.search(r"[^\W\d_]", line.text)]
        if len(labels) < 3 or len(labels) != len(row):
            continue
        found = [
            (line.text.strip(), near)
            for place, line in enumerate(row)
            if (near := number_near(page, number, place, line)) is not None
        ]
        if len(found) == len(row) and all(re.fullmatch(r"\d[\d,]*(?:\.\d+)?%?", value) for _, value in found):
            return found
    return []


KIND = re.compile(r"\b(?:version|address|name|type|level|id|guest)\b|版本|类型")
"""Words of a label that only say what kind of value it has: who asks for the firmware means its version."""


def by_part_of_a_label(page: Page, wish: Wish) -> str | None:
    """The value of the only label that holds all words of what is asked for and, besides, at most its kind of value."""
    words = content(wish.label)
    if any(is_chinese(word) and len(word) < 2 for word in words):
        return None
    found = set()
    for row in page.rows:
        for place, line in enumerate(row):
            matched = KEY_VALUE.match(line.text)
            if words and matched and called(matched["key"], words) and not unsaid(matched["key"], words):
                behind = matched["value"].strip() or " ".join(each.text for each in row[place + 1 :][:1])
                found.add(fitting(behind, wish.number))
    return found.pop() if len(found) == 1 else None


def unsaid(label: str, words: tuple[str, ...]) -> bool:
    """Whether a label says more than the words and the kind of value."""
    plain = KIND.sub(" ", normal(label))
    for word in words:
        plain = plain.replace(singular(word), " ", 1)
    return re.search(r"[^\W_]{2}", plain) is not None


def look_up(page: Page, wish: Wish) -> str | None:
    """The value beside the one label that the wish names; None when there is none, or more than one."""
    for label, number in (
        (wish.label, wish.number),
        (part_of(page, wish.label), True),
    ):  # a part of a chart is a number
        values = beside(page, compact(label), number)
        priced = wish.item is None or wish.item.column is Column.AMOUNT
        if not values and wish.number and label == wish.label and priced:
            values = priced_rows(page, label)
        if values:
            return values[0] if len(set(values)) == 1 else None
    return None


def beside(page: Page, wanted: str, digits: bool) -> list[str]:
    """The values of all labels that are the wanted one."""
    if len(wanted) < (1 if is_chinese(wanted) or wanted.isdigit() else 2):
        return []
    places = ((number, place, line) for number, row in enumerate(page.rows) for place, line in enumerate(row))
    found = (value_at(page, number, place, line, wanted, digits) for number, place, line in places)
    return [value for value in found if value]


def part_of(page: Page, label: str) -> str:
    """The "X" of "Y in X", "X Y" or "X的Y" when the page itself speaks of Y, as a chart's title does; else nothing."""
    text = normal(" ".join(page.texts))
    if is_chinese(label):
        part, _, whole = label.rpartition("的")
        return part if whole and whole in text else ""
    matched = re.fullmatch(r"(?P<whole>.+) (?:in|for|of|at) (?:the )?(?P<part>[^ ]+(?: [^ ]+)?)", label)
    if matched is None:
        matched = re.fullmatch(r"(?P<part>[^ ]+) (?P<whole>.+)", label)
    if matched is None:
        return ""
    known = {word.rstrip("s") for word in re.findall(r"[a-z]+", text)}
    words = {word.rstrip("s") for word in re.findall(r"[a-z]+", matched["whole"]) if word not in FILLER_EN}
    return matched["part"] if words and words <= known else ""


def compact(text: str) -> str:
    """A label without case, width, spaces and punctuation, with one word for "number"."""
    short = re.sub(r"\b(?:number|num)\b|#", "no", normal(text))
    return re.sub(r"[\W_]+", "", short)


def alike(wanted: str, label: str) -> bool:
    """Whether a printed label is the wanted one. Digits must be equal: "Q1" is not "Q2"."""
    found = compact(label)
    if not found or re.sub(r"\D", "", wanted) != re.sub(r"\D", "", found):
        return False
    return wanted == found or (len(wanted) >= 6 and fuzz.ratio(wanted, found) >= ALIKE)


def value_at(page: Page, number: int, place: int, line: Line, wanted: str, digits: bool) -> str | None:
    """The value of a line whose label is the wanted one."""
    row = page.rows[number]
    matched = KEY_VALUE.match(line.text)
    if matched and alike(wanted, matched["key"]):
        behind = matched["value"].strip() or " ".join(each.text for each in row[place + 1 :][:1])
        return fitting(behind, digits)
    if not alike(wanted, line.text):
        return None
    right = row[place + 1].text if len(row) == 2 and place == 0 else ""
    if right and (value := fitting(right, digits)):
        return value
    if digits:
        return number_near(page, number, place, line)
    if len(row) >= 3 and number + 1 < len(page.rows):  # the head of a table with one row
        under = [each.text for each in page.rows[number + 1] if line.above(each)]
        more = [each for each in page.rows[number + 2 : number + 3] if any(line.above(cell) for cell in each)]
        return under[0] if len(under) == 1 and not more and not KEY_VALUE.match(under[0]) else None
    return None


def fitting(text: str, digits: bool) -> str | None:
    """`text` when it can be the value; with `digits`, it must hold a number."""
    text = text.strip()
    return text if text and (not digits or re.search(r"\d", text)) else None


def number_near(page: Page, number: int, place: int, line: Line) -> str | None:
    """The number right of a label in its row when the row has just one, else the nearest number in its column."""
    right = [each.text for each in page.rows[number][place + 1 :] if DIGITS.fullmatch(each.text.strip())]
    if len(right) == 1 and place == 0:
        return right[0]
    column = [
        each for each in page.lines if each is not line and line.above(each) and DIGITS.fullmatch(each.text.strip())
    ]
    column.sort(key=lambda each: abs(each.middle - line.middle))
    return column[0].text.strip() if column else None


def priced_rows(page: Page, label: str) -> list[str]:
    """Amounts of the rows that hold every word of `label`, such as an item on a receipt: the last amount of each."""
    words = set(normal(label).split()) if not is_chinese(label) else {normal(label)}
    values: list[str] = []
    for text in page.texts:
        plain = normal(text)
        tokens = set(re.findall(r"[a-z0-9]+", plain))
        held = all(word in plain for word in words) if is_chinese(label) else words <= tokens
        if held and (amounts := amounts_in(text)):
            values.append(amounts[-1])
    return values
