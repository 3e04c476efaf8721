"""Units of a question."""

import pytest

from dedup_service.question.words import is_misspelling, is_plural, lemma, units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What’s the total?", ("what", "be", "the", "total")),
        ("5kg of A12", ("5", "kg", "of", "a12")),
        ("1,234.50", ("1234.50",)),
        ("税额是12.5%吗", ("税", "额", "是", "12.5", "%", "吗")),
        ("the car's doors", ("the", "car", "'s", "door")),
        ("the 2nd row", ("the", "2nd", "row")),
    ],
)
def test_units(text: str, expected: tuple[str, ...]) -> None:
    """Words come in their base form, Chinese by the character, numbers whole and without thousands separators."""
    assert units(text) == expected


@pytest.mark.parametrize(
    ("word", "base"),
    [("invoices", "invoice"), ("paid", "pay"), ("wearing", "wear"), ("does", "do"), ("highest", "highest")],
)
def test_base_forms(word: str, base: str) -> None:
    """Inflection goes, what it may not blur (comparison) stays."""
    assert lemma(word) == base


@pytest.mark.parametrize(
    ("word", "plural"), [("cars", True), ("car", False), ("glass", False), ("people", True), ("is", False)]
)
def test_plural(word: str, plural: bool) -> None:
    """Plural nouns are told from words that merely end in s."""
    assert is_plural(word) is plural


@pytest.mark.parametrize(
    ("one", "other", "slip"),
    [
        ("amout", "amount", True),
        ("reciept", "receipt", True),
        ("form", "from", False),
        ("buyer", "buyre", True),
        ("causal", "casual", False),
        ("12345", "12346", False),
        ("cat", "cta", False),
    ],
)
def test_slips_of_the_pen(one: str, other: str, slip: bool) -> None:
    """A slip is only forgiven in a long word, and never between two words of the dictionary or in a number."""
    assert is_misspelling(one, other) is slip
    assert is_misspelling(other, one) is slip
