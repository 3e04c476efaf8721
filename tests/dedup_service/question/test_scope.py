"""The scope of a question, as a dictionary of clauses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.question.scope import asked, scope, unfronted

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


@pytest.mark.parametrize(
    ("fronted", "plain"),
    [
        ("On page 2, who signed?", "Who signed on page 2?"),
        ("In the second table, what is the total?", "What is the total in the second table?"),
        ("for the flight back, is there a seat number", "is there a seat number for the flight back"),
    ],
)
def test_what_stands_before_a_question_belongs_to_it(fronted: str, plain: str) -> None:
    """A phrase before the question is asked with it, not told beside it, and may stand behind it as well."""
    assert scope(fronted).asked.casefold() == scope(plain).asked.casefold()
    assert scope(fronted).context == ""


@pytest.mark.parametrize(
    "text",
    [
        "For that I have a form, what is the date?",
        "In the table, not in the text, what is the total?",
        "Not on the left, where is it?",
        "On page 2, 3, what is the total?",
        "In short: who signed?",
        "In the list, name the first item.",
    ],
)
def test_anything_else_before_the_comma_stays_where_it_is(text: str) -> None:
    """A clause of its own, a contrast, a list or a request is no such phrase."""
    assert unfronted(text) == text
