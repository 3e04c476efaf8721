"""When two wordings ask about the same, as far as the word lists can prove it."""

from __future__ import annotations

import math

import pytest

from dedup_service.question.content import content
from dedup_service.question.lexicon import shipped
from dedup_service.question.reading import read
from dedup_service.question.score import Calibration, gather


def proven(a: str, b: str) -> bool:
    """Whether a system without labels or a judge takes the two for one question."""
    evidence = gather(a, b, math.nan)
    mirrored = gather(b, a, math.nan)
    assert evidence.same_content == mirrored.same_content, "symmetric"
    return evidence.same_content or evidence.agrees


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Could you give me the tax ID of the buyer here?", "the tax ID that they have for the buyer"),
        ("What does it say, um, for the invoice number?", "Which invoice number would that be"),
        ("The due date, not the date of issue: what is it?", "due date on the statement"),
        ("I have to book it by noon, so what is the subtotal?", "subtotal"),
        ("the account number on my card", "account number?"),
        ("我想知道票上的税率到底写的多少", "税率"),
        ("那个，卡上的有效期写的是哪天来着", "有效期"),
        ("只要卖方税号，不要买方的", "卖方的税号是什么"),
    ],
)
def test_function_words_carriers_and_asides_prove_nothing_different(a: str, b: str) -> None:
    """Persons, fillers, verbs of asking, what carries the text, what is set aside: none of it is asked about."""
    assert proven(a, b)


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ("What is the seller's tax ID?", "What is the buyer's tax ID?", "another party"),
        ("What is the subtotal?", "What is the subtotal for the wine?", "one part only"),
        ("Who signed?", "When was it signed?", "another kind of answer"),
        ("What is the highest bar?", "How high is the highest bar?", "its name, its height"),
        ("What is the total on the receipt?", "What is the total on the invoice?", "another carrier"),
        ("How many columns are there?", "How many rows are there?", "another thing is counted"),
        ("the weight without the packaging", "the weight", "without"),
        ("What is the previous reading of the meter?", "What is the reading of the meter?", "previous"),
        ("What is on the table?", "What is in the table?", "one word for another"),
        ("What is your phone number?", "What is my phone number?", "another person"),
        ("I am 3 years old. What dosage do I take?", "I am 60 years old. What dosage do I take?", "another story"),
        ("上期余额是多少", "余额是多少", "上 is part of a word"),
        ("税率是多少", "哪项税率最高", "the highest of several"),
        ("列出全部站名", "一共几站", "names, a number"),
        ("有几个人", "站着的有几个人", "those who stand"),
        ("谁的电话", "电话多少", "whose, which"),
        ("How many dishes have a higher percentage?", "Which dishes have a higher percentage?", "a number, names"),
        ("有几种商品的税率更高？", "哪种商品的税率更高？", "a number, a name"),
    ],
)
def test_what_may_matter_proves_a_difference(a: str, b: str, why: str) -> None:
    """A word of any kind that may tell two questions apart refuses: unsure means different."""
    assert not proven(a, b), why


def test_a_long_sentence_is_never_proven() -> None:
    """Where most words are in no list, the lists know too little: order and unknown words decide there."""
    a = "The choir of Lima toured with the band from Quito in the year of the flood, and sang the hymn of Oslo"
    b = "The band from Quito toured with the choir of Lima in the year of the flood, and sang the hymn of Oslo"
    assert not proven(a, b)


def test_a_vague_word_is_left_out_beside_the_field_that_it_stands_for() -> None:
    """ "The number" beside "invoice number" says nothing more; alone it is what is asked."""
    lexicon = shipped()
    assert content(read("the number in the invoice number field"), lexicon) == ("invoice-number",)
    assert "number-field" in content(read("What is the number?"), lexicon)


def test_the_score_says_so_and_serves() -> None:
    """The proof is a reason of its own, and enough for the shipped policy; a difference overrules it."""
    wordings = "what would be their account number then, on my card", "account number"
    found = Calibration.prior().score(gather(*wordings, 0.5))
    assert (found.reason, found.probability >= 0.95) == ("SAME_CONTENT", True)
    protected = gather(*wordings, 0.5, protected_terms=["card"])
    assert Calibration.prior().score(protected).probability < 0.5


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is, um, the total amount?", "what is the total uh amount"),
        ("Good morning! Who is the buyer? Thanks in advance", "Who is the buyer?"),
        ("下午好，嗯这张发票的税率呃是多少，辛苦了", "这张发票的税率是多少"),
        ("On the second page, what is the subtotal?", "What is the subtotal on the second page?"),
    ],
)
def test_sounds_greetings_and_a_phrase_put_in_front_change_nothing(a: str, b: str) -> None:
    """They are gone before words are read together, wherever they stand."""
    assert proven(a, b)
