"""Answers from the lines of a page."""

from __future__ import annotations

import pytest

from inference_service.reader.answering import NAMES_ZH, Reply, reply, reply_about
from inference_service.reader.document import study
from inference_service.reader.fields import Field
from inference_service.reader.page import Page, arrange
from tests.inference_service.reader.pages import CHART, INVOICE_ZH, RECEIPT, SCREEN, page

ORDER = page("""
收货人：      周文静
运单号：      FY7730518846
运费：        ¥12.00
""")


def ask(on: Page, question: str, language: str = "") -> Reply:
    """One answer."""
    return reply(study(on), question, language)


@pytest.mark.parametrize(
    ("on", "question", "answer"),
    [
        (RECEIPT, "What is the total?", "19.48"),
        (RECEIPT, "总金额是多少？", "19.48"),
        (RECEIPT, "Who is the cashier?", "Aminah"),
        (RECEIPT, "How much is the notebook a5?", "12.40"),
        (RECEIPT, "What are the date and the total?", "date: 12/03/2018; total: 19.48"),
        (INVOICE_ZH, "税额和总金额分别是多少？", "税额：¥663.00；总金额：¥5763.00"),
        (SCREEN, "What is the firmware version?", "5.12.3"),
        (SCREEN, "what does hostname say", "lumen-gw-07"),
        (CHART, "What is the value for Q3?", "1735"),
        (CHART, "How many units were sold in Q2?", "1460"),
        (ORDER, "收货人是谁", "周文静"),
        (ORDER, "运费是多少钱？", "¥12.00"),
        (page("Tracking No: SP 4471"), "What is the tracking number?", "SP 4471"),
        (page("Firmwara version: 5.1"), "What is the firmware version?", "5.1"),
        (page("2025年各部门用电量\n生产部   9360"), "生产部的用电量是多少？", "9360"),
    ],
)
def test_answers(on: Page, question: str, answer: str) -> None:
    """An answer is the printed value; words are added where two values are asked for, in the question's tongue."""
    assert ask(on, question) == Reply(answer)


@pytest.mark.parametrize(
    ("on", "question"),
    [
        (RECEIPT, "What is the due date?"),
        (RECEIPT, "What is the total quantity?"),
        (RECEIPT, "What colour is the logo?"),
        (RECEIPT, "How much was not paid in cash?"),
        (RECEIPT, "Is the total 19.48?"),
        (RECEIPT, "How much is the red pen?"),
        (CHART, "What is the value for Q5?"),
        (CHART, "Which month had the highest sales?"),
        (CHART, "Which quarter had the second highest sales?"),
        (INVOICE_ZH, "税号是多少？"),
        (SCREEN, "What is the description?"),
        (page("Gate: 4\nGate: 7"), "What is the gate?"),
    ],
)
def test_says_plainly_when_it_can_not_answer(on: Page, question: str) -> None:
    """No value, two values, another item, a picture's colours, a comparison: it says so and never guesses."""
    assert not ask(on, question).answered


def test_says_so_in_the_language_of_the_question_or_the_one_asked_for() -> None:
    """Added words follow the question; a language code wins."""
    assert "找不到到期日" in ask(RECEIPT, "到期日是哪天？").text
    assert "can't find the due date" in ask(RECEIPT, "What is the due date?").text
    assert "找不到到期日" in ask(RECEIPT, "What is the due date?", "zh-CN").text
    assert "can't find the due date" in ask(RECEIPT, "到期日是哪天？", "en").text


def test_a_page_without_text() -> None:
    """A photo without text has no answers, and the reader says why."""
    said = ask(arrange(10, 10, []), "What is the total?")
    assert said == Reply("I can't read any text in this image.", answered=False)


def test_the_whole_text() -> None:
    """All rows, one a line."""
    assert ask(SCREEN, "Read all the text").text.splitlines()[1] == "Hostname: lumen-gw-07"


@pytest.mark.parametrize(
    ("pages", "question", "answer"),
    [
        ((RECEIPT, SCREEN), "What is the firmware version?", Reply("5.12.3")),
        ((RECEIPT, RECEIPT), "What is the total?", Reply("19.48")),
        ((RECEIPT, INVOICE_ZH), "总金额是多少？", Reply("第1页：19.48\n第2页：¥5763.00")),
        ((RECEIPT, INVOICE_ZH), "What is the total?", Reply("Page 1: 19.48\nPage 2: ¥5763.00")),
        ((SCREEN,), "What is the firmware version?", Reply("5.12.3")),
    ],
)
def test_several_pages(pages: tuple[Page, ...], question: str, answer: Reply) -> None:
    """What pages say alike is said once, what they say differently page by page; a silent page is left out."""
    assert reply_about([study(on) for on in pages], question) == answer


def test_no_page_has_an_answer() -> None:
    """Where no page says anything the reader says that it can't answer."""
    assert not reply_about([study(RECEIPT), study(CHART)], "What is the hostname?").answered


@pytest.mark.parametrize(
    "question",
    [
        "When was the invoice paid?",  # its own date is another one
        "how much cash was returned",
        "cashier phone",  # of the two neither is the other's
        "收银员电话",
        "date the goods were delivered",
    ],
)
def test_what_stands_beside_is_not_an_answer(question: str) -> None:
    """Another event's day, the opposite direction, and a thing of a thing are not what the page says."""
    assert not reply(study(RECEIPT), question).answered


BARS = page("""
各部门用电量
研发部      4820
生产部      9360
行政部      1780
""")
TRAIN = page("""
NORTH LINE
Passenger:   Ana Vogel     Departs:   08:57
From:        Norwich       Seat:      42A
To:          Ely           Price:     £18.40
""")
PARCEL = page("""
From:        Harlow Prints
To:          Dr Priya Nair
Weight:      2.35 kg
""")
BISTRO = page("""
THE LANTERN CAFE
Soup of the day          6.00
Lemon tart               4.50
Subtotal                10.50
Service charge 10%       1.05
Tip                      2.00
Rounding                 0.05
Total                   13.60
""")


@pytest.mark.parametrize(
    ("on", "question", "answer"),
    [
        (CHART, "Which quarter had the highest sales?", "Q3"),
        (CHART, "What is the lowest value?", "820"),
        (CHART, "How many quarters are shown in the chart?", "4"),
        (BARS, "哪个部门用电最多？", "生产部"),
        (BARS, "用电量最低的是哪个部门", "行政部"),
        (BARS, "图中有几个部门", "3"),
        (BISTRO, "most expensive item?", "Soup of the day"),
        (BISTRO, "最便宜的菜是什么", "Lemon tart"),
        (BISTRO, "How much was the service charge?", "1.05"),
        (BISTRO, "小费多少？", "2.00"),
        (BISTRO, "What was the rounding?", "0.05"),
        (BISTRO, "second item and its price", "Lemon tart 4.50"),
        (BISTRO, "第一个菜是什么，多少钱？", "Soup of the day 6.00"),
        (SCREEN, "Which firmware?", "5.12.3"),
        (TRAIN, "Where does it leave from?", "Norwich"),
        (TRAIN, "What is the destination?", "Ely"),
        (TRAIN, "几点发车？", "08:57"),
        (TRAIN, "How much was the ticket?", "£18.40"),
        (PARCEL, "Who is it for?", "Dr Priya Nair"),
        (PARCEL, "Who sent it?", "Harlow Prints"),
        (page("Payment by bank transfer. IBAN: GB29 NWBK 6016 1331 9268 19"), "IBAN?", "GB29 NWBK 6016 1331 9268 19"),
        (page("Payment by bank transfer within 30 days"), "How do we pay?", "bank transfer"),
        (page("价税合计（大写）    柒拾捌圆整    (小写)    ¥78.00"), "大写金额是多少", "柒拾捌圆整"),
    ],
)
def test_tickets_charts_and_what_is_added_to_a_bill(on: Page, question: str, answer: str) -> None:
    """Largest and smallest, number of bars, a journey's places and times, charges, tips, and a label by its part."""
    assert ask(on, question).text == answer


@pytest.mark.parametrize(
    ("on", "question"),
    [
        (page("Apples  3\nPears  3\nPlums  1"), "which product has the most?"),
        (page("商品金额：  ¥268.00"), "买的是什么商品？"),
        (page("规格：  0.3g"), "价格"),
        (page("Net weight:  200 g"), "gross weight"),
        (PARCEL, "sender address"),
        (TRAIN, "What time does it arrive?"),
        (BISTRO, "How much before the service charge?"),
    ],
)
def test_a_neighbour_of_what_is_asked_is_no_answer(on: Page, question: str) -> None:
    """A tie, a label that says more, another weight, another's address: nothing is said."""
    assert not ask(on, question).answered


def test_every_field_has_a_name_in_both_languages() -> None:
    """What can't be found is named in the asker's language."""
    assert set(NAMES_ZH) == set(Field)
    assert ask(RECEIPT, "谁是乘客？").text == "在图片的文字里找不到乘客。"
