"""What a question asks for."""

from __future__ import annotations

import tomllib
from pathlib import Path

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
        ("What does Voltage say?", "voltage", False),
        ("What is the reorder level?", "reorder level", False),
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


WORDINGS = tomllib.loads(Path(__file__).with_name("wordings.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("field", [field for field in WORDINGS if field != "none"])
def test_a_field_is_known_by_many_wordings(field: str) -> None:
    """Whole questions, fragments and what is only implied ("what do we owe?") all mean the one field."""
    for question in (*WORDINGS[field]["en"], *WORDINGS[field]["zh"]):
        assert [each.name for each in understand(question).fields] == [field], question


@pytest.mark.parametrize("question", [*WORDINGS["none"]["en"], *WORDINGS["none"]["zh"]])
def test_what_is_beside_a_field_is_not_that_field(question: str) -> None:
    """A comparison, a reason, a condition, or another's date and number: no field is meant."""
    assert understand(question).fields == ()


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ("Hi there! Could you tell me what the total is, please?", Field.TOTAL),
        ("Good morning, what's the VAT?", Field.TAX),
        ("I don't want the rate, I want the amount of tax.", Field.TAX),
        ("The invoice number, not the order number?", Field.INVOICE_NUMBER),
        ("I need the net amount rather than the gross one.", Field.SUBTOTAL),
        ("We were there with friends. What was the total?", Field.TOTAL),
        ("您好，能帮我看看税率是多少吗？", Field.TAX_RATE),
        ("要总金额，不要税额", Field.TOTAL),
        ("不是问税率，是税额多少", Field.TAX),
        ("把发票号码读出来", Field.INVOICE_NUMBER),
    ],
)
def test_courtesy_contrast_and_stories_are_set_aside(question: str, field: Field) -> None:
    """Greetings, thanks, what is said not to be meant, and a story without numbers change nothing."""
    assert understand(question).fields == (field,)


@pytest.mark.parametrize(
    "question",
    [
        "How much, not counting the tip, is it?",
        "If we get 10 % off, what is the total?",
        "There is a 10 % tip on top. What is the total then, with it?",
        "不算运费，一共多少钱？",
        "打九折以后总价是多少？",
    ],
)
def test_a_condition_is_no_courtesy(question: str) -> None:
    """What changes the answer is never set aside."""
    assert understand(question).fields == ()
