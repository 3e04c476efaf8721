"""Fields of receipts and invoices."""

from __future__ import annotations

import pytest

from inference_service.reader.answering import reply
from inference_service.reader.document import study
from inference_service.reader.fields import AMOUNT, DATE, Field
from tests.inference_service.reader.pages import CHART, INVOICE_ZH, RECEIPT, SCREEN, page


def test_an_english_receipt() -> None:
    """Every field is found as it is printed; the total is the one after rounding, not the summary's."""
    assert study(RECEIPT).fields == {
        Field.TOTAL: "19.48",
        Field.SUBTOTAL: "18.40",
        Field.TAX: "1.10",
        Field.TAX_RATE: "6%",
        Field.DATE: "12/03/2018",
        Field.TIME: "17:05",
        Field.COMPANY: "BIG RIVER TRADING SDN BHD",
        Field.ADDRESS: "No. 12, Jalan Mawar 3/2, Taman Bunga, 40000 Shah Alam.",
        Field.INVOICE_NUMBER: "BR-00981",
        Field.TAX_ID: "000123456789",
        Field.PHONE: "03-5512 8890",
        Field.CASH: "50.00",
        Field.CHANGE: "30.52",
        Field.TENDERED: "50.00",
        Field.CASHIER: "Aminah",
        Field.ROUNDING: "-0.02",
    }


def test_a_chinese_invoice() -> None:
    """The seller is not the buyer, the total includes tax, and of two tax numbers none is "the" tax number."""
    found = study(INVOICE_ZH).fields
    assert found[Field.TOTAL] == "¥5763.00"
    assert (found[Field.SUBTOTAL], found[Field.TAX]) == ("¥5100.00", "¥663.00")
    assert found[Field.COMPANY] == "杭州云杉办公设备有限公司"
    assert found[Field.BUYER] == "宁波启航软件有限公司"
    assert (found[Field.INVOICE_NUMBER], found[Field.INVOICE_CODE]) == ("12345678", "033001900211")
    assert found[Field.DATE] == "2019年04月09日"
    assert not reply(study(INVOICE_ZH), "税号是多少？").answered


@pytest.mark.parametrize("other", [SCREEN, CHART])
def test_other_pages_have_no_seller_and_no_total(other: object) -> None:
    """A screen or a chart is not mistaken for a receipt."""
    found = study(other).fields  # type: ignore[arg-type]
    assert not {Field.TOTAL, Field.COMPANY, Field.ADDRESS, Field.DATE} & set(found)


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("Total Sales (Inclusive GST)    RM 14.38\nRounding Adjustment  RM .02\nRounding  RM 14.40", "RM 14.40"),
        ("Subtotal   90.00\nTotal Qty   3.00\nTOTAL   95.00", "95.00"),
        ("Total discount   5.00\nAmount due   $45.00", "$45.00"),
        ("Total   1, 234 .50", "1,234.50"),
        ("合计   ¥12.00\n应付金额   ¥10.00", "¥10.00"),
        ("实付款：   ¥280.00", "¥280.00"),
        ("Total:\n         88.10", "88.10"),
        ("Total items   3\nThank you", None),
        ("total", None),
    ],
)
def test_the_total_is_what_has_to_be_paid(text: str, total: str | None) -> None:
    """Sums that only look like it (before tax, of quantities, of discounts, before rounding) are not the total."""
    assert study(page(text)).fields.get(Field.TOTAL) == total


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-18",
        "18/3/2026",
        "03/18/2026",
        "18.03.26",
        "2026年3月18日",
        "18 March 2026",
        "18-Mar-26",
        "Mar 18, 2026",
    ],
)
def test_dates_in_every_usual_form(text: str) -> None:
    """A date is found whole, as it is printed, also when a time is glued to it."""
    matched = DATE.search(f"Date {text} 10:22")
    assert matched is not None
    assert matched.group() == text
    glued = DATE.search("25/12/201811:41")
    assert glued is not None
    assert glued.group() == "25/12/2018"


@pytest.mark.parametrize("text", ["10.24.8.117", "5.12.3", "45/67/2018", "00123456789", "12-34/56"])
def test_other_numbers_are_no_dates(text: str) -> None:
    """Versions, addresses and serial numbers are left alone."""
    assert DATE.search(text) is None


@pytest.mark.parametrize(
    ("text", "amounts"), [("6%", []), ("RM9", ["RM9"]), ("12.5 kg", []), ("-3.20", ["-3.20"]), ("35元", ["35元"])]
)
def test_amounts_of_money(text: str, amounts: list[str]) -> None:
    """An amount has two decimals, grouped thousands or a currency; shares and weights have not."""
    assert [found.group() for found in AMOUNT.finditer(text)] == amounts


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("Tax Invoice No: BAT0220180312 12/03/18", Field.INVOICE_NUMBER, "BAT0220180312"),
        ("Tel: 1-300-80", Field.PHONE, None),
        ("Tel: 03-5512 8890", Field.PHONE, "03-5512 8890"),
        ("Payment Type    Amount", Field.PAYMENT_METHOD, None),
    ],
)
def test_what_stands_beside_a_value_is_not_part_of_it(text: str, field: Field, value: str | None) -> None:
    """A date behind a number, a number cut short, and the next column's head are no values."""
    assert study(page(text)).fields.get(field) == value


@pytest.mark.parametrize(
    ("text", "tax"),
    [
        ("TAX AMT (S) 6%   RM 13.30\nGST-6%   RM 0.80\nTOTAL   14.10", "RM 0.80"),  # the first is what is taxed
        ("Total   8.60\nCode   Amount   Tax\nSR @ 6%   8.12   0.48", "0.48"),
        ("Total   77.20\nGST Analysis   Goods   Tax\nS = 6%   50.47   3.03\nZ = 0%   23.70   0.00", "3.03"),
        ("Total   30.00\nGST Summary   Amount   Tax\nA 6%   10.00   0.60\nB 5%   18.48   0.92", None),  # which?
        ("Subtotal   100.00\nTax   90.00\nTotal   100.00", None),  # no tax is as much
        ("Total   107.00\nTax   7.00", "7.00"),
    ],
)
def test_a_tax_is_small_beside_the_total(text: str, tax: str | None) -> None:
    """What is taxed is not the tax; a summary by rate counts when it adds up to the total and one rate has a tax."""
    assert study(page(text)).fields.get(Field.TAX) == tax


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("Total   30.30\nCash   50.00\nChange   30.30   19.70", "19.70"),
        ("Total   30.30\nChange   19.70", "19.70"),
        ("Total   30.30\nChange   30.30   19.70", None),
    ],
)
def test_the_change_is_what_the_cash_leaves(text: str, change: str | None) -> None:
    """Of two amounts beside "change" the one counts that cash and total give; without cash neither."""
    assert study(page(text)).fields.get(Field.CHANGE) == change


def test_a_balance_due_is_not_the_total() -> None:
    """Where a part is paid already, the total is the total."""
    fields = study(page("Total   100.00\nDeposit   40.00\nBalance due   60.00")).fields
    assert fields[Field.TOTAL] == "100.00"
