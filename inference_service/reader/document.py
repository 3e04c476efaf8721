"""A page with the fields that were found on it: what follow-up questions are answered from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from inference_service.reader.fields import FINDERS, Field, worth
from inference_service.reader.items import Column, Items, read_items
from inference_service.reader.labels import RIDE, ZERO, read_labels
from inference_service.reader.page import Page
from inference_service.reader.vat import is_vat_invoice, read_vat_invoice

SUMS = (Field.TOTAL, Field.SUBTOTAL, Field.FARE)
"""Amounts that are never nothing: a zero there is what a stamp or a fold left of another number."""


NO_ITEMS = Items((), False)


@dataclass(frozen=True, slots=True)
class Document:
    """One page, its fields and its goods."""

    page: Page
    fields: Mapping[Field, str]
    """Values as they are printed; a field that was not found for certain is absent."""
    items: Items = NO_ITEMS
    two_parties: bool = False
    """Whether the form has a buyer and a seller with the same fields, so that a question must say whose it wants."""

    @property
    def size(self) -> int:
        """Bytes that the document takes in memory, roughly."""
        goods = sum(200 + 4 * len(value) for item in self.items.rows for value in item.cells.values())
        return self.page.size + sum(100 + 4 * len(value) for value in self.fields.values()) + goods


def study(page: Page) -> Document:
    """Finds the fields of a page. A form whose layout is known is read by its layout alone."""
    labelled = read_labels(page)
    found: dict[Field, str]
    if is_vat_invoice(page):
        found = read_vat_invoice(page)
    elif is_ride(page):
        found = {field: labelled[field] for field in RIDE if field in labelled} | {
            field: value
            for field, shape in ((Field.DATE, r"20\d\d-\d\d-\d\d"), (Field.PHONE, r"\d{8}|0\d{2,3}-?\d{8}"))
            if (value := FINDERS[field](page)) and re.fullmatch(shape, value)
        }
        if total := paid(page, labelled):
            found[Field.TOTAL] = total
    else:
        found = {field: value for field, finder in FINDERS.items() if (value := finder(page))} | labelled
    items = read_items(page)
    rates = {item.cells.get(Column.TAX_RATE) for item in items.rows}
    if len(rates) == 1 and (rate := rates.pop()):
        found[Field.TAX_RATE] = rate
    kept = {field: value for field, value in found.items() if not (field in SUMS and ZERO.fullmatch(value))}
    return Document(page, kept, items, two_parties=is_vat_invoice(page))


def is_ride(page: Page) -> bool:
    """Whether the page is a taxi's receipt."""
    text = "".join(page.texts)
    return ("里程" in text and ("等候" in text or "单价" in text)) or "出租汽车" in text


def paid(page: Page, ride: Mapping[Field, str]) -> str | None:
    """What was paid for a ride: a whole amount beside its label, at most a rounding away from fare and fees."""
    if Field.FARE not in ride:
        return None
    due = sum(worth(ride[field]) for field in (Field.FARE, Field.FUEL_SURCHARGE, Field.CALL_FEE) if field in ride)
    for row in page.rows:
        for line, beside in pairwise(row):
            if re.match(r"实收|合计|total", line.text.strip(), re.IGNORECASE) and re.fullmatch(
                r"[¥￥]?\s?[1-9]\d*\.\d{2}(?:元)?", beside.text.strip()
            ):
                return beside.text.strip() if abs(worth(beside.text) - due) <= 1 else None
    return None
