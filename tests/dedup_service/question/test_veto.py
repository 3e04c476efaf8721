"""Vetoes, as a dictionary of traps and of harmless variation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.question.veto import Veto, differences, vetoes

TRAPS = [
    ("What happened in 2002?", "What happened in 1992?", "DATE"),
    ("发票是2023年的吗", "发票是2024年的吗", "DATE"),
    ("is 2+2 right", "is 2+3 right", "NUMBER"),
    ("第一行写了什么", "第二行写了什么", "NUMBER"),
    ("what is in the first row", "what is in the 2nd row", "OPPOSITE|NUMBER"),
    ("how many kg does it weigh", "how many pounds does it weigh", "UNIT"),
    ("is there a cat?", "is there no cat?", "NEGATION"),
    ("图里有猫吗", "图里没有猫吗", "NEGATION"),
    ("what is the amount before tax?", "what is the amount after tax?", "OPPOSITE"),
    ("含税金额是多少", "不含税金额是多少", "OPPOSITE"),
    ("what's on the left", "what's on the right", "OPPOSITE"),
    ("谁是买方", "谁是卖方", "OPPOSITE"),
    ("最高的柱子是哪个", "最低的柱子是哪个", "OPPOSITE"),
    ("收款日期是哪天", "付款日期是哪天", "OPPOSITE|FIELD"),
    ("大写金额是多少", "小写金额是多少", "OPPOSITE"),
    ("how many people are on the left", "how many people are there", "OPPOSITE"),
    ("where is the red car", "where is the blue car", "COLOUR"),
    ("红色的是什么", "蓝色的是什么", "COLOUR"),
    ("how old is Angela", "how old is Marta", "ENTITY"),
    ("这是 Toyota 吗", "这是 Honda 吗", "ENTITY"),
    ("what is part A12", "what is part B7", "ENTITY"),
    ('what does "Total" mean', 'what does "Tax" mean', "QUOTED"),
    ("list the items", "list the items in JSON", "OUTPUT_FORMAT"),
    ("translate it into French", "translate it into German", "OUTPUT_LANGUAGE"),
    ("描述这张图", "用英文描述这张图", "OUTPUT_LANGUAGE"),
    ("how many items are there", "list the items", "INTERROGATIVE"),
    ("发票日期", "发票金额", "FIELD|ANSWER_KIND"),
    ("what is the invoice number", "what is the due date", "FIELD|ANSWER_KIND"),
    ("who bought it", "when was it bought", "INTERROGATIVE|ANSWER_KIND"),
    ("什么时候买的", "在哪里买的", "INTERROGATIVE|ANSWER_KIND"),
    ("is there a dog", "is there a horse", "OBJECT"),
    ("how many people are there", "how many women are there", "OBJECT"),
    ("how far is it from Ipoh to Penang", "how far is it from Penang to Ipoh", "WORD_ORDER"),
]

HARMLESS = [
    ("请问有几个人", "有多少个人？"),
    ("what is the total?", "Could you please tell me the total amount?"),
    ("is there a dog?", "do you see any dogs in the picture?"),
    ("有没有狗", "图里有狗吗"),
    ("what is the amout due", "what is the amount due"),
    ("总金额", "一共花了多少钱"),
    ("How much battery is left?", "What is the battery level?"),
    ("what colour is it", "what color is it"),
    ("第一行写了什么", "第1行写的是什么"),
    ("what is three plus 4", "what is 3 plus four"),
    ("Is it going up or down?", "What is the trend?"),
    ("谁卖的", "销售方是谁"),
    ("when was it issued", "what is the date of issue"),
]


ABSOLUTE = [
    ("What happened in 2002?", "What happened in 1992?"),
    ("what is in row 3", "what is in row 4"),
    ("第一行写了什么", "第二行写了什么"),
    ('what does "Total" mean', 'what does "Tax" mean'),
    ("how old is Angela", "how old is Marta"),
    ("what is part A12", "what is part B7"),
    ("is there a cat?", "is there no cat?"),
    ("谁是买方", "谁是卖方"),
    ("list the items", "list the items in JSON"),
    ("用十句话总结", "用五句话总结"),
]
"""Content that is asked for, or all that two questions differ in."""

WEIGHED = [
    ("Not the date, the total please", "what is the total"),
    ("I was there 3 times. What does lunch cost?", "what does lunch cost"),
    ("是不是一个人都没有", "图里有人吗"),
    ("念一遍表头", "读出表头"),
    ("how many guests are there", "total guests"),
    ("is it open or not", "is it open"),
    ("那一行写的什么", "这行写了什么"),
]
"""What may differ between two wordings of one question."""


@pytest.mark.parametrize(("one", "other"), ABSOLUTE)
def test_asked_content_is_absolute(one: str, other: str) -> None:
    """A number, a date, a name or a quoted string that one side asks about and the other does not forbids reuse; so
    does whatever two otherwise equal questions exclude each other in."""
    assert vetoes(one, other)
    assert vetoes(other, one)


@pytest.mark.parametrize(("one", "other"), WEIGHED)
def test_what_a_paraphrase_may_change_is_weighed(one: str, other: str) -> None:
    """Context, contrast, idioms and tags may be found to differ, but never forbid reuse by themselves."""
    assert vetoes(one, other) == ()
    assert vetoes(other, one) == ()


def test_a_contrast_that_is_swapped_is_found() -> None:
    """ "A, not B" and "B, not A" have the same words and ask for different things."""
    assert vetoes("The doctor's name, not the patient's.", "The patient's name, not the doctor's.")
    assert vetoes("要医生的名字，不要病人的", "要病人的名字，不要医生的")


@pytest.mark.parametrize(("one", "other", "kinds"), TRAPS)
def test_trap_is_vetoed(one: str, other: str, kinds: str) -> None:
    """Questions that differ in what no paraphrase changes are vetoed, whichever comes first."""
    assert {veto.kind for veto in differences(one, other)} & set(kinds.split("|"))
    assert {veto.kind for veto in differences(other, one)} & set(kinds.split("|"))


@pytest.mark.parametrize(("one", "other"), HARMLESS)
def test_harmless_variation_passes(one: str, other: str) -> None:
    """Politeness, slips, listed synonyms and spelled-out numbers are no reason for a veto."""
    assert vetoes(one, other) == ()
    assert vetoes(other, one) == ()


def test_a_veto_names_both_spans() -> None:
    """The words that differ are named, as they were written, each on its side."""
    assert vetoes("amount before tax?", "amount after tax?") == (Veto("OPPOSITE", "before tax", "after tax", True),)
    assert vetoes("is there no cat", "is there a cat") == (Veto("NEGATION", "no", "", True),)


def test_protected_terms_are_the_policys_own() -> None:
    """A term that the policy protects may not be on one side only; whole words count, in any width and case."""
    assert vetoes("what is the SKU of it", "what is the code of it", ["sku"])[0] == Veto(
        "PROTECTED_TERM", "sku", "", True
    )
    assert vetoes("总额", "花费", ["花费"])[0] == Veto("PROTECTED_TERM", "", "花费", True)
    assert vetoes("is it a car", "is it a cart", [""]) == vetoes("is it a car", "is it a cart")
    assert "PROTECTED_TERM" not in {veto.kind for veto in vetoes("is it carved", "is it made", ["car"])}


@given(st.text(max_size=40))
def test_no_question_vetoes_itself(text: str) -> None:
    """A question, whatever it is, is not different from itself."""
    assert vetoes(text, text) == ()


@given(st.sampled_from(TRAPS), st.sampled_from(HARMLESS))
def test_vetoes_are_symmetric(trap: tuple[str, str, str], harmless: tuple[str, str]) -> None:
    """Whether two questions are vetoed does not depend on which is asked first."""
    for one in trap[:2]:
        for other in harmless:
            assert bool(vetoes(one, other)) == bool(vetoes(other, one))
