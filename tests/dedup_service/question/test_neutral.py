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
        "KEDAI BUKU WARISAN",
        "NO 27, LORONG KENANGA 4/2, 81100 JOHOR BAHRU",
        "Northwind Paper Co., Ltd.",
        "Acme Hardware Sdn. Bhd.",
        "苏州晨光文具有限公司",
        "北京云山（上海）科技有限责任公司",
    ],
)
def test_names_and_addresses_as_they_are_printed_are_neutral(answer: str) -> None:
    """Capitals throughout with a word that no dictionary knows, or a legal form: a model that speaks writes neither."""
    assert is_neutral(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "NO PARKING",
        "CREDIT CARD",
        "NOT VISIBLE ON THE PAGE",
        "YES",
        "The seller is Acme Hardware Sdn Bhd",
        "Limited",
        "卖方是苏州晨光文具有限公司",
        "有限公司",
        "晨光文具店",
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
