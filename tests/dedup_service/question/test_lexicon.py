"""The word lists: consistent, and readable as a dictionary."""

import pytest

from dedup_service.question.lexicon import LexiconError, build, shipped
from dedup_service.question.words import units


@pytest.mark.parametrize(
    ("expression", "sense"),
    [
        ("grand total", "total"),
        ("总金额", "total"),
        ("VAT rate", "tax-rate"),
        ("税率", "tax-rate"),
        ("开票日期", "invoice-date"),
        ("due date", "due-date"),
        ("left-hand side", "left"),
        ("右手边", "right"),
        ("before tax", "without-tax"),
        ("价税合计", "with-tax"),
        ("cheapest", "cheap"),
        ("gray", "grey"),
        ("puppy", "dog"),
        ("公斤", "kilogram"),
        ("in one sentence", "one-sentence"),
        ("用英文", "in-english"),
        ("how many", "count"),
        ("为什么", "why"),
    ],
)
def test_dictionary(expression: str, sense: str) -> None:
    """An expression stands for the sense under which it is listed, in either language."""
    assert shipped().phrases[units(expression)] == (sense,)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("left", "right", "OPPOSITE"),
        ("highest", "lowest", "OPPOSITE"),
        ("buyer", "seller", "OPPOSITE"),
        ("with-tax", "without-tax", "OPPOSITE"),
        ("total", "tax-amount", "FIELD"),
        ("date", "amount-field", "FIELD"),
        ("red", "blue", "COLOUR"),
        ("kilogram", "gram", "UNIT"),
        ("monday", "friday", "DATE"),
        ("as-json", "as-table", "OUTPUT_FORMAT"),
        ("in-english", "in-chinese", "OUTPUT_LANGUAGE"),
        ("left", "red", ""),
        ("value-field", "number-field", ""),
    ],
)
def test_which_senses_exclude_each_other(one: str, other: str, kind: str) -> None:
    """Senses of one table exclude each other under the table's kind; senses of different tables do not."""
    assert shipped().kind_of_clash(one, other) == kind
    assert shipped().kind_of_clash(other, one) == kind


def test_one_expression_has_one_meaning() -> None:
    """A list that gives an expression two meanings is refused, and the message names it."""
    with pytest.raises(LexiconError, match="'big'"):
        build({"one": {"size": {"large": ["big"], "huge": ["big"]}}})


def test_a_sense_is_defined_once() -> None:
    """Two lists may not define one sense."""
    with pytest.raises(LexiconError, match="large is defined twice"):
        build({"one": {"size": {"large": ["big"]}}, "two": {"size": {"large": ["vast"]}}})


def test_types_name_known_senses() -> None:
    """A type given to a sense that no list defines is a slip of the pen, and refused."""
    with pytest.raises(LexiconError, match="lagre"):
        build({"one": {"types": {"amount": ["lagre"]}, "size": {"large": ["big"]}}})


def test_expansions_name_known_senses() -> None:
    """An expression can only be expanded into senses that exist."""
    with pytest.raises(LexiconError, match="no sense is called count"):
        build({"one": {"expand": [{"words": ["headcount"], "to": ["count"]}]}})
