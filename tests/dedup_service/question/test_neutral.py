"""Answers that need no translation."""

import pytest

from dedup_service.question.neutral import is_neutral


@pytest.mark.parametrize(
    "answer",
    [
        "RM 138.90",
        "138.90",
        "2019-05-01",
        "01/05/2019",
        "14:30",
        "INV-2024-0017",
        "¥35.00",
        "13%",
        "5 kg",
        "+60 3-1234 5678",
        "3.",
        "12A",
    ],
)
def test_figures_and_codes_are_neutral(answer: str) -> None:
    """Amounts, dates in figures, times, codes, shares and measures say the same to everybody."""
    assert is_neutral(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        "是",
        "3 May 2019",
        "5月3日",
        "138.90元",
        "It is RM 138.90",
        "Tan Chay Yee",
        "three",
        "",
        "OK",
        "1 cat",
        "12 " * 30,
        "上海 200001",
    ],
)
def test_words_are_not(answer: str) -> None:
    """Whatever holds a word of a language would have to be said anew."""
    assert not is_neutral(answer)
