"""Answers a question from what was read on a page, or says that it can't."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from inference_service.reader.document import Document
from inference_service.reader.fields import Field, amounts_in
from inference_service.reader.items import Column
from inference_service.reader.page import Line, Page
from inference_service.reader.understanding import (
    FILLER_EN,
    PARTY_FIELDS,
    ItemWish,
    Wish,
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
    if value is None and wish.label and not (wish.item and document.items.rows):
        value = look_up(document.page, wish)
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


def from_items(document: Document, wish: ItemWish) -> str | None:
    """What is asked of the goods; None where the row or the value can't be told for certain."""
    rows = document.items.rows
    if wish.count:
        return str(len(rows)) if document.items.complete else None
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
    cells = chosen[0].cells
    doubtful = wish.column is Column.AMOUNT and wish.either and Column.UNIT_PRICE in cells
    if doubtful and cells.get(Column.AMOUNT) != cells[Column.UNIT_PRICE]:
        return None
    return cells.get(wish.column)


def called(name: str, words: tuple[str, ...]) -> bool:
    """Whether an item's name holds every word by which a question calls it."""
    plain = normal(name)
    tokens = {word.rstrip("s") for word in re.findall(r"[a-z0-9][a-z0-9.-]*", plain)}
    return all(word in plain if is_chinese(word) else word.rstrip("s") in tokens for word in words)


def name(field: Field, chinese: bool) -> str:
    """What a field is called."""
    return NAMES_ZH.get(field, field.value) if chinese else field.value


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
    """The "X" of "Y in X" or "X的Y" when the page itself speaks of Y, as a chart does in its title; else nothing."""
    text = normal(" ".join(page.texts))
    if is_chinese(label):
        part, _, whole = label.rpartition("的")
        return part if whole and whole in text else ""
    matched = re.fullmatch(r"(?P<whole>.+) (?:in|for|of|at) (?:the )?(?P<part>[^ ]+(?: [^ ]+)?)", label)
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
