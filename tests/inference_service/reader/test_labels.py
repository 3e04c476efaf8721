"""A value beside a label counts only with the shape that it must have."""

from __future__ import annotations

import pytest

from inference_service.reader.answering import reply
from inference_service.reader.document import study
from tests.inference_service.reader.pages import page

RIDE = """
北京市出租汽车专用发票
111001999999
12345678
车号    B.T1234
日期    2020-01-02
时间    09:10-09:25
单价    2.30
里程    5.6
等候    00:01:02
金额    ¥20.40
燃油附加费    ¥0.00
实收金额    {paid}
"""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("几点上的车", "09:10"),
        ("drop-off time", "09:25"),
        ("里程多少公里", "5.6"),
        ("plate number of the taxi", "B.T1234"),
        ("invoice code", "111001999999"),
        ("实收多少钱？", "¥20.00"),
        ("metered fare (not the total)", "¥20.40"),
        ("What was the price per km?", "2.30"),
    ],
)
def test_a_taxi_s_receipt_is_read_by_its_labels(question: str, answer: str) -> None:
    """Each label of the form has its value; the ride's two times are told apart."""
    assert reply(study(page(RIDE.replace("{paid}", "¥20.00"))), question).text == answer


@pytest.mark.parametrize("paid", [".00", "0.00", "¥0.00", "720.00", "20"])
def test_a_total_that_can_t_be_is_not_answered(paid: str) -> None:
    """Nothing, a part, or an amount that fare and fees don't lead to is what a stamp left of another."""
    assert not reply(study(page(RIDE.replace("{paid}", paid))), "实收金额是多少").answered


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("To:    Dr Ada Lane\nTracking No: AB 1234 5678", "tracking number", "AB 1234 5678"),
        ("To:    Dr Ada Lane\nTracking No: AB 1234 5678", "Who is the recipient?", "Dr Ada Lane"),
        ("Tracking No: see overleaf", "tracking number", None),
        ("有效期至：    2030年05月", "什么时候过期？", "2030年05月"),
        ("有效期至：    见瓶底", "什么时候过期？", None),
        ("用法用量：    口服，一次2片，一日3次", "一次吃几片？", "2片"),
        ("Weight:    heavy", "weight?", None),
        ("Cashier: Ada\nCashier: Bob", "who was the cashier?", None),
    ],
)
def test_a_value_must_have_its_label_s_shape(text: str, question: str, answer: str | None) -> None:
    """A word where a number must stand, or two values for one label, is no evidence."""
    said = reply(study(page(text)), question)
    assert (said.text if said.answered else None) == answer
