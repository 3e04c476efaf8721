"""The normal form: what the exact tier holds to be one question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.question.normal import detect_language, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the TOTAL?", "what is the total"),
        ("What’s the total??", "what's the total"),
        ("總金額是多少？", "总金额是多少"),
        ("税额 是 １３％ 吗", "税额是13%吗"),
        ("Ｔｏｔａｌ：", "total"),
        ("  total\n amount ", "total amount"),
        ("「红楼梦」是谁写的", "“红楼梦”是谁写的？"),
    ],
)
def test_spelling_is_folded(one: str, other: str) -> None:
    """Width, case, script variant, punctuation and space do not make another question."""
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("is it -5 degrees", "is it 5 degrees"),
        ("is it 12.50", "is it 1250"),
        ("does it cost $5", "does it cost ¥5"),
        ("is it 5%", "is it 5"),
        ("is C++ shown", "is C shown"),
        ('how often does "A" appear', 'how often does "a" appear'),
    ],
)
def test_signs_that_bear_meaning_stay(one: str, other: str) -> None:
    """Signs of currency and number, and the case of quoted letters, keep two questions apart."""
    assert normalise(one) != normalise(other)


@given(st.text(max_size=80))
def test_normal_form_is_stable(text: str) -> None:
    """Any text has a normal form, and the normal form of a normal form is itself."""
    once = normalise(text)
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is it?", "en"),
        ("这是什么？", "zh"),
        ("LOGO 是什么颜色", "zh"),
        ("これは何", "other"),
        ("сколько", "other"),
        ("", "other"),
    ],
)
def test_language_by_script(text: str, language: str) -> None:
    """Han letters make a question Chinese, Latin ones English; anything else is said to be other."""
    assert detect_language(text) == language
