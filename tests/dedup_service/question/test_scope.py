"""The scope of a question, as a dictionary of clauses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.question.scope import asked, scope

ASKED = [
    # a story beside the question
    ("I've lost page 9, so I'd like to know: what figure is carried over?", "what figure is carried over"),
    ("My brother paid 40 in May. How much is due?", "How much is due"),
    ("It never rained in 2020, I think. What's the lowest bar?", "What's the lowest bar"),
    ("How much is it? I need it for my tax return.", "How much is it"),
    ("我上周丢了2张票，这张的座位号是多少？", "这张的座位号是多少"),
    ("前天等了3个钟头也没人来，票上写的几点发车？", "票上写的几点发车"),
    # greetings
    ("Hi there! What is the total?", "What is the total"),
    ("您好，帮我看下日期", "帮我看下日期"),
    # what is set aside
    ("Not the date, the total: how much?", "the total, how much"),
    ("The seller's name, not the buyer's.", "The seller's name"),
    ("Give me the gross weight rather than the net weight", "Give me the gross weight "),
    ("Not the first row but the last one", " the last one"),
    ("不是卖方，是买方，叫什么？", "是买方, 叫什么"),
    ("要单价，不要总价", "要单价"),
    ("是第3行不是第4行", "是第3行"),
]

WHOLE = [
    "is there no cat",
    "Which items are not ticked?",
    "哪个不是水果",
    "不要辣的菜有哪些",
    "没有签字的是哪几页",
    "On page 3, what is the total?",
    "第3行，写了什么？",
    "If the rate were 5%, how much tax is due?",
    "如果税率是5%，税额是多少？",
    "There is a red car. What brand is it?",
    "图里有3个人，左边那个穿什么？",
    "Excluding VAT, what's the total?",
    "what does my balance say",
]


@pytest.mark.parametrize(("text", "part"), ASKED)
def test_the_asking_clause_is_found(text: str, part: str) -> None:
    """Stories, greetings and what is set aside are not asked about."""
    assert scope(text).asked == part


@pytest.mark.parametrize("text", WHOLE)
def test_what_belongs_to_the_question_stays(text: str) -> None:
    """A negation that is meant, a topic, a supposition and what is put before the question are part of it."""
    assert asked(text) == text


def test_a_contrast_keeps_both_sides_apart() -> None:
    """What is set aside is known as such."""
    assert scope("The seller's name, not the buyer's.").aside == "not the buyer's"
    assert scope("My brother paid 40. How much is due?").context == "My brother paid 40"


def test_quoted_text_is_no_punctuation() -> None:
    """Marks within quotes cut nothing."""
    assert asked('what does "Stop. Go, now" mean') == 'what does "Stop. Go, now" mean'


@given(st.text(max_size=60))
def test_something_is_always_asked(text: str) -> None:
    """Any text has a part that is asked, unless it is empty."""
    assert scope(text).asked or not text


@given(st.text(alphabet="abc 我不要是问,.?，。？:;what not", max_size=40))
def test_nothing_is_invented(text: str) -> None:
    """Every word of the three parts stands in the text."""
    parts = scope(text)
    for piece in (parts.asked, parts.context, parts.aside):
        assert all(word in text for part in piece.split(", ") for word in part.split())
