"""Questions about goods are answered from the row that they name and the column that they ask for."""

from __future__ import annotations

import pytest

from inference_service.reader.answering import reply
from inference_service.reader.document import study
from inference_service.reader.page import Page
from tests.inference_service.reader.pages import page

TABLE = page("""
Description                 Quantity    Unit price    Amount
Steel ruler 30 cm             4           2.50        10.00
Drawing board A3              1           18.00       18.00
Ruler case                    2           3.00        6.00
Subtotal                                              34.00
""")
LIST = page("""
CORNER SHOP LTD
Brown bread              3.20
Oat biscuits             2.10
Total                    5.30
""")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("unit price of the drawing board", "18.00"),
        ("How many steel rulers were bought?", "4"),
        ("What is the amount on the third line of the table?", "6.00"),
        ("第二行的单价是多少", "18.00"),
        ("How many items are listed?", "3"),
        ("What did the drawing board cost?", "18.00"),
        ("What is the last item?", "Ruler case"),
    ],
)
def test_a_row_and_a_column_have_one_value(question: str, answer: str) -> None:
    """Rows are found by every word of a question or by their number."""
    assert reply(study(TABLE), question).text == answer


@pytest.mark.parametrize(
    "question",
    [
        "unit price of the ruler",  # two rows hold the word
        "price of the steel ruler",  # one or all four?
        "quantity of the pencil",
        "amount on the fifth line",
        "How many brown breads were bought?",
    ],
)
def test_what_can_t_be_told_is_not_answered(question: str) -> None:
    """Two rows, no row, or a price that could be the unit's or the row's."""
    assert not reply(study(TABLE), question).answered
    assert not reply(study(LIST), "How many brown breads were bought?").answered


def test_a_receipt_s_lines_have_a_price() -> None:
    """A name and one amount in a row, above the total."""
    assert reply(study(LIST), "What did the oat biscuits cost").text == "2.10"
    assert not reply(study(LIST), "What did the white bread cost").answered


RECKONED = page("""
CITY HARDWARE SDN BHD
TAX INVOICE
PILLAR SINK TAP          *S
FZ02
9072351      2 X 23.90       47.80
SPONGE KOREA             *S
AR62
9064017      4 X  3.00       12.00
Item(s) : 2         Qty(s) : 6
TOTAL                    59.80
""")
WRAPPED = page("""
Description        Qty    Price    Amount
(B03) JASMINE GREEN  2.0    2.30     4.60
TEA (HOT)
(R05) ROAST PORK     1.0   11.90    11.90
Total                              16.50
""")


@pytest.mark.parametrize(
    ("on", "question", "answer"),
    [
        (RECKONED, "How many sponges?", "4"),
        (RECKONED, "unit price of the pillar sink tap", "23.90"),
        (RECKONED, "How much altogether for the sponges?", "12.00"),
        (RECKONED, "number of different items", "2"),
        (RECKONED, "total quantity", "6"),
        (RECKONED, "Which item is the most expensive?", "PILLAR SINK TAP *S FZ02"),
        (WRAPPED, "How much is one jasmine green tea?", "2.30"),
        (page("Tea\n1 x  3.00  3.00\nCoffee\n2 x  4.50  9.00\nTOTAL  12.00"), "coffee price", None),
        (page("Tea\n1 x  3.00  3.00\nCoffee\n2 x  4.50  9.00\nTOTAL  12.00"), "coffee unit price", "4.50"),
    ],
)
def test_goods_that_are_reckoned_below_their_name(on: Page, question: str, answer: str | None) -> None:
    """How often times how much, under the name or behind it; a price of which the row has two is not told."""
    said = reply(study(on), question)
    assert (said.text if said.answered else None) == answer


def test_goods_are_all_there_when_they_add_up() -> None:
    """A list is complete when its amounts make the sum, so that its rows can be counted; not otherwise."""
    assert reply(study(LIST), "How many items are listed?").text == "2"
    short = page("CORNER SHOP LTD\nBrown bread  3.20\nTotal  5.30")
    assert not reply(study(short), "How many items are listed?").answered


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many drawing boards did they buy?", "1"),
        ("number of steel rulers", "4"),
        ("What does one steel ruler cost?", "2.50"),
        ("How much were the steel rulers in total?", "10.00"),
        ("What was charged for the drawing board?", "18.00"),
        ("how many lines does the table have", "3"),
        ("What was the last item bought?", "Ruler case"),
        ("Which item has the highest unit price?", "Drawing board A3"),
        ("单价最高的是哪个", "Drawing board A3"),
        ("steel ruler多少钱一个", "2.50"),
        ("drawing board一共多少钱", "18.00"),
        ("小票上有几样商品", "3"),
        ("第一样东西是什么", "Steel ruler 30 cm"),
    ],
)
def test_goods_are_asked_for_in_many_ways(question: str, answer: str) -> None:
    """What is bought, charged and listed, one and all of it, the dearest and the last."""
    assert reply(study(TABLE), question).text == answer


def test_goods_may_be_called_like_a_field() -> None:
    """The calibration service is a row, not the page's kind of service."""
    table = page("Description   Qty   Price   Amount\nCalibration service   1   185.00   185.00\nTotal   185.00")
    assert reply(study(table), "How much is the calibration service?").text == "185.00"
