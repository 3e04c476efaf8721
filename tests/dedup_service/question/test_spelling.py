"""Slips of the pen."""

import pytest

from dedup_service.question.spelling import corrected


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("adress", "address"),
        ("recipt", "receipt"),
        ("invocie", "invoice"),
        ("ammount", "amount"),
        ("tempreature", "temperature"),
    ],
)
def test_slips_are_read_as_the_words_they_stand_for(word: str, meant: str) -> None:
    """One letter too many, missing, wrong or swapped is read over."""
    assert corrected(word) == meant


@pytest.mark.parametrize("word", ["form", "from", "ipoh", "toyota", "net", "发票", "a1b2", "dialog"])
def test_words_names_and_codes_stay(word: str) -> None:
    """Words of the dictionary, short words, names far from any listed word, and other scripts are left alone."""
    assert corrected(word) == word


def test_after_how_it_is_many() -> None:
    """ "meny" may be a menu; "how meny" is not."""
    assert corrected("meny", "how") == "many"
