"""Amounts, times of day, codes, and the words that turn a number around."""

import pytest

from dedup_service.question.answers import compare_answers
from dedup_service.question.quantities import amounts, clock, compare_codes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 m", "300 cm"),
        ("1.2 kg", "1200 g"),
        ("2.5万", "25000"),
        ("3 million", "3,000,000"),
        ("¥300", "300元"),
        ("75 cents", "$0.75"),
        ("四点三刻", "4:45"),
        ("晚上8点", "20:00"),
        ("7 pm", "19:00"),
        ("两个半小时", "150分钟"),
        ("1 hour 15 minutes", "75 minutes"),
        ("百分之二十", "20%"),
        ("(020) 7946 0018", "020 7946 0018"),
        ("The bag weighs 4 kg.", "4 kg"),
        (".25", "1/4"),
    ],
)
def test_one_quantity_in_two_forms(one: str, other: str) -> None:
    """A unit, a scale, a half of the day and a grouping of digits may be written in several ways."""
    assert compare_answers(one, other).verdict == "same"
    assert compare_answers(other, one).verdict == "same"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 m", "3 km"),
        ("4 lb", "4 kg"),
        ("7升", "7毫升"),
        ("C$5", "US$6"),
        ("60港元", "60元"),
        ("1.5万", "1.5亿"),
        ("100 Mb", "100 MB"),
        ("7 am", "7 pm"),
        ("上午9点", "晚上9点"),
        ("4月2日", "2月4日"),
        ("minus 3", "3"),
        ("零下7度", "7度"),
        ("at least 4", "at most 4"),
        ("不超过6个", "超过6个"),
        ("涨了3%", "跌了3%"),
        ("pQ7x", "PQ7x"),
        ("v2.3", "v2.30"),
        ("0071", "071"),
        ("x³", "x⁴"),
        ("020 7946 0018", "020 7946 0081"),
    ],
)
def test_two_quantities_that_look_alike(one: str, other: str) -> None:
    """Another unit, scale, half of the day, sign, direction or letter makes another answer."""
    assert compare_answers(one, other).verdict == "different"
    assert compare_answers(other, one).verdict == "different"


def test_the_same_number_about_something_else_is_no_agreement() -> None:
    """Equal numbers with other words around them may tell two things."""
    assert compare_answers("3 adults and a dog", "3 children and a dog").verdict != "same"
    assert compare_answers("12 Hill Road, York", "12 Hill Road").verdict == "unsure"


def test_what_is_no_quantity() -> None:
    """A word, a date and a code are no amounts; a time needs its mark."""
    assert amounts("a red car") == ()
    assert amounts("B12") == ()
    assert clock("12") is None
    assert clock("Room 3") is None
    assert compare_codes("red", "blue") is None
