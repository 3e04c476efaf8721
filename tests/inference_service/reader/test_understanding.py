"""What a question asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.reader.fields import Field
from inference_service.reader.understanding import NOTHING, understand


@pytest.mark.parametrize(
    ("question", "fields"),
    [
        ("What is the total?", [Field.TOTAL]),
        ("WHAT IS THE TOTAL AMOUNT DUE", [Field.TOTAL]),
        ("Ｈｏｗ ｍｕｃｈ ｉｓ ｉｔ？", [Field.TOTAL]),
        ("Could you please tell me the grand total on this receipt?", [Field.TOTAL]),
        ("What is the amount before tax?", [Field.SUBTOTAL]),
        ("How much is the VAT?", [Field.TAX]),
        ("What is the tax rate?", [Field.TAX_RATE]),
        ("When was the invoice issued?", [Field.DATE]),
        ("When is the payment due?", [Field.DUE_DATE]),
        ("What are the total and the tax?", [Field.TOTAL, Field.TAX]),
        ("Which store issued this receipt?", [Field.COMPANY]),
        ("What is the phone number of the store?", [Field.PHONE]),
        ("invoice no", [Field.INVOICE_NUMBER]),
        ("how much change was given?", [Field.CHANGE]),
        ("总金额是多少？", [Field.TOTAL]),
        ("總金額是多少", [Field.TOTAL]),
        ("请问这张发票的不含税金额是多少？", [Field.SUBTOTAL]),
        ("税额和总金额分别是多少？", [Field.TAX, Field.TOTAL]),
        ("开票日期是哪天", [Field.DATE]),
        ("商店的地址在哪里？", [Field.ADDRESS]),
        ("购买方是谁？", [Field.BUYER]),
        ("发票号码", [Field.INVOICE_NUMBER]),
    ],
)
def test_fields_by_name(question: str, fields: list[Field]) -> None:
    """Both languages, any case, width and script; the more telling name wins."""
    assert list(understand(question).fields) == fields


@pytest.mark.parametrize(
    ("question", "label", "number"),
    [
        ("What is the firmware version?", "firmware version", False),
        ("How much is the almond croissant?", "almond croissant", True),
        ("What is the value for Q3?", "q3", True),
        ("What does Coach say?", "coach", False),
        ("What is the total quantity?", "total quantity", False),
        ("洗衣液多少钱？", "洗衣液", True),
    ],
)
def test_labels_to_look_up(question: str, label: str, number: bool) -> None:
    """What is no field is looked up by the name that the question gives it."""
    wish = understand(question)
    assert (wish.fields, wish.label, wish.number) == ((), label, number)


@pytest.mark.parametrize(
    "question", ["Read all the text", "What does this label say?", "图片上写了什么？", "识别图中的文字"]
)
def test_everything(question: str) -> None:
    """The whole text can be asked for."""
    assert understand(question).everything


@pytest.mark.parametrize(
    "question", ["Is the total 9.00?", "Does it include tax?", "这张发票有没有税额？", "总金额是100吗？", "?", "   "]
)
def test_what_asks_for_a_verdict_is_not_understood(question: str) -> None:
    """Yes or no is more than reading: the reader does not guess."""
    assert understand(question) == NOTHING


@pytest.mark.parametrize(
    "question", ["How much was not paid in cash?", "What is the total without the pens?", "没有税的金额是多少"]
)
def test_a_negation_is_never_dropped(question: str) -> None:
    """A question with a word that nothing accounts for does not become the question without it."""
    assert understand(question).fields == ()


@given(st.text(max_size=200))
def test_nothing_breaks_it(question: str) -> None:
    """Any text is understood or not, in bounded time, without an error."""
    understand(question)
