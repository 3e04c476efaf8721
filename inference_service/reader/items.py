"""The rows of a page that name goods: a table with column heads, or a receipt's lines with a price at their end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from inference_service.reader.fields import AMOUNT, amounts_in, find_subtotal, find_total, tidy, worth
from inference_service.reader.page import Line, Page


class Column(Enum):
    """What a column holds."""

    NAME = "name"
    SPECIFICATION = "specification"
    UNIT = "unit"
    QUANTITY = "quantity"
    UNIT_PRICE = "unit price"
    AMOUNT = "amount"
    TAX_RATE = "tax rate"
    TAX = "tax"


HEADS = {
    Column.NAME: r"description|items?|products?|particulars?|goods|article|item\s*name"
    r"|(?:商品|货品|菜品|项目|品名)(?:名称)?|名称|.*服务名称|品项",
    Column.SPECIFICATION: r"规格型号|规格型|规格|型号|specification|model",
    Column.UNIT: r"单\s*位|unit|uom",
    Column.QUANTITY: r"数\s*量|qty|quantity|units?|pcs",
    Column.UNIT_PRICE: r"单\s*价|unit\s*price|u\.?\s*/?\s*price|price\s*/?\s*unit|price|rate|@|s/price",
    Column.AMOUNT: r"金\s*额|小\s*计|amount|total|line total|amt"
    r"|(?:amount|total|amt|price)\s*\(?(?:rm|myr|\$|usd|£|gbp)\)?",
    Column.TAX_RATE: r"税\s*率|tax rate|vat rate",
    Column.TAX: r"税\s*一?额|tax amount|vat amount",
}
"""What heads say; a head must be one of these as a whole."""

SHAPES = {
    Column.QUANTITY: re.compile(r"\d{1,4}(?:\.\d{1,3})?(?:\s?(?:x|pcs?|kg|l))?", re.IGNORECASE),
    Column.UNIT_PRICE: re.compile(r"(?:RM|[$£€¥￥])?\s?\d[\d,]*(?:\.\d+)?"),
    Column.AMOUNT: re.compile(r"(?:RM|[$£€¥￥])?\s?-?\d[\d,]*\.\d{2}"),
    Column.TAX: re.compile(r"[¥￥]?\d[\d,]*\.\d{2}"),
    Column.TAX_RATE: re.compile(r"\d{1,2}(?:\.\d)?\s?%"),
    Column.UNIT: re.compile(r"[\u4e00-\u9fff]{1,2}|[a-z]{1,4}", re.IGNORECASE),
    Column.SPECIFICATION: re.compile(r"\S.*"),
    Column.NAME: re.compile(r"(?=.*[^\W\d_]).{2,}"),
}

END = re.compile(
    r"^(?:合|合\s*计|小\s*计|计|sub\s*-?\s*total|total|grand|round|cash|change|vat|gst|tax|sst|amount due|balance"
    r"|discount|total|tender|exc\b|excl|incl|service|svc|item"
    r"|优惠|应付|实付"
    r"|价\s*税\s*合\s*计|运费|总计|amount)",
    re.IGNORECASE,
)
"""A row that begins so ends the goods."""


@dataclass(frozen=True, slots=True)
class Item:
    """One row of goods; a column that can't be told for certain is absent."""

    name: str
    cells: dict[Column, str]


@dataclass(frozen=True, slots=True)
class Items:
    """The goods of a page in their order."""

    rows: tuple[Item, ...]
    complete: bool
    """Whether the rows are known to be all: they stand between column heads and a sum and each has its amount, or their
    amounts add up to the page's sum."""


def read_items(page: Page) -> Items:
    """The goods of a page; none where there is no table and no list with prices."""
    for number, row in enumerate(page.rows):
        heads: dict[Column, Line] = {}
        for line in row:
            column = next(
                (each for each, pattern in HEADS.items() if re.fullmatch(pattern, line.text.strip(), re.I)), None
            )
            if column is not None and column not in heads:
                heads[column] = line
        if len(heads) >= 3 or (len(heads) == 2 and Column.AMOUNT in heads and Column.NAME in heads):
            found = _table(page, number, heads)
            if found.rows:
                return found
    return _whole(page, _reckoned(page) or _list(page))


def _table(page: Page, head: int, heads: dict[Column, Line]) -> Items:
    items: list[Item] = []
    complete = False
    for row in page.rows[head + 1 : head + 60]:
        goods = [line for line in row if not _stray(line, page)]
        if goods and END.match(goods[0].text.strip()):
            complete = True
            break
        marked = [line for line in goods if re.match(r"[¥￥]", line.text.strip())]
        if len(marked) == 2 and Column.TAX in heads:
            complete = True
            break
        cells: dict[Column, str] = {}
        spoilt: set[Column] = set()
        ordered = sorted(heads, key=lambda each: heads[each].left)
        whole = len(goods) == len(heads)  # a cell for every head: they belong together in their order
        for place, line in enumerate(goods):
            column = ordered[place] if whole else min(heads, key=lambda each: _distance(line, heads[each]))
            reach = 1.2 * max(line.height, heads[column].height) + _slack(column, page)
            if not whole and _distance(line, heads[column]) > reach:
                continue
            if column in cells:
                if column is not Column.NAME:
                    spoilt.add(column)
                continue
            cells[column] = line.text.strip()
        cells = {
            column: tidy(value)
            for column, value in cells.items()
            if column not in spoilt and SHAPES[column].fullmatch(tidy(value))
        }
        name = cells.get(Column.NAME, "")
        if name and (Column.AMOUNT in cells or Column.UNIT_PRICE in cells):
            items.append(Item(name, _checked(cells)))
        elif name and items and set(cells) == {Column.NAME} and len(goods) == 1:
            items[-1] = Item(f"{items[-1].name} {name}", items[-1].cells)  # the name goes on in the next row
    return Items(tuple(items), complete and all(Column.AMOUNT in item.cells for item in items))


def _stray(line: Line, page: Page) -> bool:
    """Whether a line is printed along the form's edge, as imprints are."""
    return bool(re.search(r"税总函|第[一二三]联|印刷|印钞|安全", line.text)) or line.left > 0.95 * page.width


def _distance(line: Line, head: Line) -> float:
    """Pixels between two lines across, 0 where they overlap."""
    overlap = min(line.right, head.right) - max(line.left, head.left)
    return max(0.0, -overlap) - (0.001 * overlap if overlap > 0 else 0.0)


def _slack(column: Column, page: Page) -> float:
    """Names begin anywhere left of the next head; numbers stand close to theirs."""
    return 0.3 * page.width if column is Column.NAME else 0.02 * page.width


def _checked(cells: dict[Column, str]) -> dict[Column, str]:
    """The cells, without quantity and unit price where they don't give the amount."""
    if {Column.QUANTITY, Column.UNIT_PRICE, Column.AMOUNT} <= cells.keys():
        quantity, price, amount = (_number(cells[each]) for each in (Column.QUANTITY, Column.UNIT_PRICE, Column.AMOUNT))
        if abs(quantity * price - amount) > max(0.02, 0.002 * amount):
            return {
                column: value for column, value in cells.items() if column not in (Column.QUANTITY, Column.UNIT_PRICE)
            }
    if {Column.UNIT_PRICE, Column.AMOUNT} <= cells.keys() and Column.QUANTITY not in cells:
        price, amount = _number(cells[Column.UNIT_PRICE]), _number(cells[Column.AMOUNT])
        times = amount / price if price else 0.0
        if round(times) < 1 or abs(times - round(times)) > 0.01:
            return {column: value for column, value in cells.items() if column is not Column.UNIT_PRICE}
    return cells


def _number(text: str) -> float:
    found = re.search(r"-?\d[\d,]*(?:\.\d+)?", text)
    return float(found.group().replace(",", "")) if found else 0.0


PRICE = r"(?:RM|[$£€¥￥])?\s?(?P<price>\d[\d,]*\.\d{2,4})"
RECKONED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\d.])(?P<count>\d{{1,4}}(?:\.\d{{1,3}})?)\s?(?:pcs?|kg|l)?\s?[x×*@]\s?{PRICE}",
        rf"{PRICE}\s?[x×*@]\s?(?P<count>\d{{1,4}})(?![\d.])",
    )
)
"""A quantity times a price, as receipts print it below or behind a name."""


def _reckoned(page: Page) -> Items | None:
    """Goods whose rows say how often times how much: the name stands before it in the row, or in the rows above."""
    found: list[tuple[int, str, dict[Column, str]]] = []
    for number, text in enumerate(page.texts):
        matched = next((match for each in RECKONED if (match := each.search(text))), None)
        amounts = amounts_in(text[matched.end() :]) if matched else []
        if matched is None or not amounts:
            continue
        count, price = matched["count"], matched["price"]
        if abs(_number(count) * _number(price) - _number(amounts[0])) > max(0.02, 0.002 * _number(amounts[0])):
            continue
        cells = {Column.QUANTITY: count, Column.UNIT_PRICE: price, Column.AMOUNT: amounts[0]}
        before = text[: matched.start()].strip()
        found.append((number, before if re.search(r"[^\W\d_]{3}|[\u4e00-\u9fff]{2}", before) else "", cells))
    if not found:
        return None
    gaps = [after[0] - one[0] for one, after in pairwise(found)]
    above = min([*gaps, 3]) - 1  # so many rows of its own has each of the goods above its numbers
    rows = []
    for number, name, cells in found:
        names = (
            [name] if name else [text for text in page.texts[max(0, number - above) : number] if not END.match(text)]
        )
        if whole := " ".join(names).strip():
            rows.append(Item(whole, cells))
    return Items(tuple(rows), False) if len(rows) == len(found) else None


def _whole(page: Page, items: Items) -> Items:
    """The same, known to be all where the amounts add up to a sum of the page."""
    sums = [worth(each) for each in (find_subtotal(page), find_total(page)) if each]
    paid = sum(_number(item.cells.get(Column.AMOUNT, "")) for item in items.rows)
    return Items(items.rows, bool(items.rows) and any(abs(paid - each) < 0.011 for each in sums))


def _list(page: Page) -> Items:
    """A receipt's lines: a name and one price in its row, above the first sum."""
    items: list[Item] = []
    ended = False
    for row, text in zip(page.rows, page.texts, strict=True):
        if END.match(text.strip()) or re.search(r"\btotal\b", text, re.IGNORECASE):
            ended = bool(items)
            if ended:
                break
            continue
        amounts = [line for line in row[1:] if AMOUNT.fullmatch(tidy(line.text.strip()))]
        name = row[0].text.strip()
        priced = len(row) == 2 and len(amounts) == 1 and len(amounts_in(text)) == 1
        if priced and re.search(r"[^\W\d_]{3}|[\u4e00-\u9fff]{2}", name) and not re.search(r"[:：]$", name):
            items.append(Item(name, {Column.AMOUNT: tidy(amounts[0].text.strip())}))
    return Items(tuple(items) if ended else (), False)
