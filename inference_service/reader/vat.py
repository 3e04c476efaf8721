"""Reads the Chinese VAT invoice, paper or electronic: who is who by where it stands, what is what by its shape.

A value is taken only when it stands in its party's block or its own row and has the shape that it must have; sums are
taken only where they add up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from inference_service.reader.fields import Field, amounts_in, worth
from inference_service.reader.page import Line, Page

MARKS = (
    "价税合计",
    "纳税人识别号",
    "开票日期",
    "销售方",
    "购买方",
    "税额",
    "税率",
    "货物或应税劳务",
    "项目名称",
    "发票联",
)
"""Words of the form; a page with four of them is one."""

HEAD = re.compile(r"规格型号|规格型|单\s*价|金\s*额|税\s*率|税\s*一?额|数\s*量")
SUMS = re.compile(r"合\s*计?$|计$")
TAX_ID = re.compile(r"(?<![0-9A-Z])(?:[0-9A-HJ-NP-RT-UW-Y]{18}|\d{15}|\d{20})(?![0-9A-Z])")
PHONE = re.compile(r"(?<!\d)(?:0\d{2,3}[-\s]?\d{7,8}|1[3-9]\d{9}|[2-9]\d{6,7})\s*$")
PLACE = re.compile(r"省|市|区|县|路|街|村|镇|号|楼|室|层|大厦")
BANK = re.compile(r"银行|支行|分行|信用社|营业部|[农工建中商招]行")
NAMED = re.compile(r"[\u4e00-\u9fff（）()]{4,}")
ACCOUNT = re.compile(r"\d[\d-]{9,}$")
DATE = re.compile(r"20\d\d\s?年\s?(?:1[0-2]|0?[1-9])\s?月\s?(?:3[01]|[12]\d|0?[1-9])\s?日")
PERSON = re.compile(r"[\u4e00-\u9fff]{2,4}|[A-Z][A-Za-z .]{2,20}")
NO_PERSON = re.compile(r"收款|复核|开票|销售|购买|管理$|发票|章|备注")
FIRM = re.compile(r"[\u4e00-\u9fff（）()\w·.]{4,}")
PEOPLE = {Field.PAYEE: "收款人", Field.REVIEWER: r"复\s*核(?:人)?", Field.DRAWER: "开票人"}


def is_vat_invoice(page: Page) -> bool:
    """Whether the page is a VAT invoice."""
    text = re.sub(r"\s", "", "".join(page.texts))
    return sum(mark in text for mark in MARKS) >= 4


def read_vat_invoice(page: Page) -> dict[Field, str]:
    """The fields of a VAT invoice that can be told for certain."""
    found: dict[Field, str] = {}
    head = next((number for number, text in enumerate(page.texts) if len(HEAD.findall(text)) >= 3), None)
    if head is None:  # no head was read: the goods end with the row of sums
        head = next((number - 1 for number, row in enumerate(page.rows) if SUMS.match(row[0].text.strip())), None)
    foot = next((number for number, text in enumerate(page.texts) if re.search(r"价\s*税\s*合\s*计", text)), None)
    _numbers(page, head, found)
    _sums(page, head, foot, found)
    for buyer, lines in _blocks(page, head, foot):
        _party(lines, buyer, found)
    for field, label in PEOPLE.items():
        if name := _person(page, label):
            found[field] = name
    return found


def _numbers(page: Page, head: int | None, found: dict[Field, str]) -> None:
    """Code, number, date, machine and check code, all of which stand above the table or carry a label."""
    top = [line for row in page.rows[: head if head is not None else len(page.rows)] for line in row]
    texts = [line.text.strip() for line in top]
    numbers = {match[1] for text in texts if (match := re.fullmatch(r"N[o0°][.:：]?\s*(\d{8})", text))}
    numbers |= {match[1] for text in texts if (match := re.search(r"发票号码?[:：]?\s*(\d{20}|\d{8})$", text))}
    bare = {text for text in texts if re.fullmatch(r"\d{8}", text)}
    if len(numbers) == 1 and (not bare or bare == numbers):
        found[Field.INVOICE_NUMBER] = numbers.pop()
    marked = {match[1] for text in texts if (match := re.search(r"发票代码[:：]?\s*(\d{10}|\d{12})$", text))}
    codes = marked or {text for text in texts if re.fullmatch(r"\d{10}|\d{12}", text)} - _machine(page)
    if len(codes) == 1:
        found[Field.INVOICE_CODE] = codes.pop()
    if len(machine := _machine(page)) == 1:
        found[Field.MACHINE_NUMBER] = next(iter(machine))
    dates = {
        re.sub(r"\s", "", match.group())
        for text in page.texts
        if "开票日期" in text and (match := DATE.search(text[text.index("开票日期") :]))
    }
    if len(dates) == 1:
        found[Field.DATE] = dates.pop()
    checks = {
        match[1].strip()
        for line in page.lines
        if (match := re.search(r"校\s*验\s*码[:：]?\s*([\d ]{20,})$", line.text))
        and len(re.sub(r"\D", "", match[1])) == 20
    }
    if len(checks) == 1:
        found[Field.CHECK_CODE] = checks.pop()


def _machine(page: Page) -> set[str]:
    """The machine's number: twelve digits behind its label or below it."""
    for number, row in enumerate(page.rows):
        for place, line in enumerate(row):
            if "机器编号" in line.text:
                near = [line.text, *(each.text for each in row[place + 1 : place + 2])]
                near += (
                    [each.text for each in page.rows[number + 1] if each.left < line.right]
                    if number + 1 < len(page.rows)
                    else []
                )
                near += [
                    each.text for below in page.rows[number + 1 : number + 3] for each in below if line.above(each)
                ]
                return {match.group() for text in near[:6] if (match := re.search(r"(?<!\d)\d{12}(?!\d)", text))}
    return set()


def _sums(page: Page, head: int | None, foot: int | None, found: dict[Field, str]) -> None:
    """The amount, the tax and both together; none of them where they don't add up."""
    total = None
    if foot is not None:
        for text in page.texts[foot - 1 if foot else 0 : foot + 2]:
            if not re.search(r"小\s*写|价\s*税\s*合\s*计", text):
                continue
            amounts = amounts_in(text)
            if amounts and worth(amounts[-1]) > 0:
                total = amounts[-1]
    pair = None
    if head is not None and foot is not None:
        for row in page.rows[head + 1 : foot]:
            sum_row = SUMS.match(row[0].text.strip()) is not None
            marked = [
                line.text
                for line in row
                if amounts_in(line.text) and (sum_row or re.match(r"[¥￥]", line.text.strip()))
            ]
            if len(marked) == 2:
                pair = marked[0].strip(), marked[1].strip()
    if pair and total:
        if abs(worth(pair[0]) + worth(pair[1]) - worth(total)) > 0.015:
            return
        found[Field.SUBTOTAL], found[Field.TAX], found[Field.TOTAL] = *pair, total
    elif total:
        found[Field.TOTAL] = total


def _blocks(page: Page, head: int | None, foot: int | None) -> Iterable[tuple[bool, list[list[Line]]]]:
    """The rows of the buyer (True) and of the seller (False)."""
    if head is None or foot is None:
        return
    top = [list(row) for row in page.rows[:head]]
    bottom = [list(row) for row in page.rows[foot + 1 :]]
    names = [row for row in top if sum(bool(re.match(r"名?\s*称\s*[:：]", line.text)) for line in row) == 2]
    if names:  # both side by side
        middle = page.width / 2
        yield True, [[line for line in row if line.left < middle] for row in top]
        yield False, [[line for line in row if line.left >= middle] for row in top]
        return
    yield True, top
    yield False, bottom


def _party(rows: Sequence[Sequence[Line]], buyer: bool, found: dict[Field, str]) -> None:
    """Name, tax number, address, telephone and bank of one party."""
    name, tax_id, phone, address, bank, account = (
        (Field.BUYER, Field.BUYER_TAX_ID, Field.BUYER_PHONE, Field.BUYER_ADDRESS, Field.BUYER_BANK, Field.BUYER_ACCOUNT)
        if buyer
        else (Field.COMPANY, Field.TAX_ID, Field.PHONE, Field.ADDRESS, Field.BANK, Field.ACCOUNT)
    )
    for row in rows:
        text = " ".join(line.text for line in row)
        for place, line in enumerate(row):
            matched = re.search(r"(?:名\s*|^\s*)称\s*[:：]?\s*(?P<name>[^:：]*)$", line.text)
            if matched and name not in found:
                near = [matched["name"], *(each.text for each in row[place + 1 : place + 2])]
                named = next((each.strip() for each in near if FIRM.fullmatch(each.strip())), None)
                if named and "密" not in named:
                    found[name] = named
        if re.search(r"识\s*别\s*号|信用代码", text) and tax_id not in found:
            numbers = {match.group() for line in row for match in TAX_ID.finditer(line.text)}
            if len(numbers) == 1:
                found[tax_id] = numbers.pop()
    places: dict[str, tuple[str, str]] = {}
    banks: dict[str, str] = {}
    for row in rows:
        for place, line in enumerate(row):
            text = re.sub(r"^.*?(?:地址、?\s*电话|开户行及账号)\s*[:：]?\s*", "", line.text).strip()
            if not BANK.search(text) and PLACE.search(text) and (number := PHONE.search(text)):
                places[text] = text[: number.start()].strip(), number.group().strip()
            if BANK.search(text) and "：" not in text:
                beside = [each.text.strip() for each in row[place + 1 : place + 2]]
                whole = next(
                    (part for part in (text, *(text + " " + each for each in beside)) if ACCOUNT.search(part)), ""
                )
                digits = ACCOUNT.search(whole)
                if digits and NAMED.match(whole) and digits.group() != found.get(tax_id):
                    banks[whole.replace(" ", "")] = digits.group()
    if len(places) == 1:
        found[address], found[phone] = next(iter(places.values()))
    if len(banks) == 1:
        found[bank], found[account] = next(iter(banks.items()))


def _person(page: Page, label: str) -> str | None:
    """The name behind a label in the last row."""
    names = set()
    for line in page.lines:
        matched = re.search(rf"{label}\s*[:：]\s*(?P<name>[^:：]*)$", line.text)
        if matched and PERSON.fullmatch(name := matched["name"].strip()) and not NO_PERSON.search(name):
            names.add(name)
    return names.pop() if len(names) == 1 else None
