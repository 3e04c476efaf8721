"""Comparing two answers, and how telling an agreement is."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup_service.question.answer_frequency import ENTANGLEMENT, RELIABILITY, AnswerFrequency
from dedup_service.question.answers import compare_answers, understand


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("RM 138.90", "138.90", "same"),
        ("RM 1,138.90", "The total is RM1138.90.", "same"),
        ("¥100", "$100", "different"),
        ("13%", "13", "same"),
        ("12.50", "12.5", "same"),
        ("138.90", "139.80", "different"),
        ("2024年1月2日", "Jan 2, 2024", "same"),
        ("2024-01-02", "2 January 2024", "same"),
        ("2024-01-02", "2024-01-03", "different"),
        ("03/04/2024", "2024-04-03", "unsure"),
        ("yes", "是的，有一只狗", "same"),
        ("No", "Yes, there is", "different"),
        ("没有", "有的", "different"),
        ("yes, 3", "yes, 4", "different"),
        ("red, blue and green", "green, red, blue", "same"),
        ("红色、蓝色和绿色", "绿色、红色、蓝色", "same"),
        ("red and blue", "red and green", "unsure"),
        ("blue", "The car is blue.", "same"),
        ("blue", "The car is not blue.", "unsure"),
        ("red", "blue", "different"),
        ("A man", "A woman", "different"),
        ("three", "3", "same"),
        ("3个人", "三个人", "same"),
        ("ＡＢＣ Trading", "abc trading", "same"),
        ("无法识别", "5", "unsure"),
        ("I can't tell.", "I can't tell.", "unsure"),
        ("", "5", "unsure"),
    ],
)
def test_two_answers(one: str, other: str, verdict: str) -> None:
    """Form does not matter, content does, and what can't be decided gives no label, whichever answer comes first."""
    assert compare_answers(one, other).verdict == verdict
    assert compare_answers(other, one).verdict == verdict


LONG = "The photo shows a busy street market where several vendors sell fruit and vegetables under wide umbrellas"
CLOSE = "A busy street market, where several vendors sell vegetables and fruit under wide umbrellas, is what it shows"


def test_long_answers_need_equal_numbers() -> None:
    """Long answers that differ in a number are never the same, however near their vectors."""

    def near(texts: object) -> NDArray[np.float32]:
        return np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)

    assert compare_answers(LONG, CLOSE, embed=near).verdict == "same"
    assert compare_answers(LONG + " and 3 dogs", CLOSE + " and 4 dogs", embed=near).verdict == "different"
    assert compare_answers(LONG, CLOSE + " in 2019", embed=near).verdict == "unsure"


def test_log_odds_follow_the_stated_formula() -> None:
    """ln A / (E + (1 - E) f) with Laplace smoothing among answers of one kind."""
    frequency = AnswerFrequency()
    for answer in ["yes"] * 6 + ["no"] * 2:
        frequency.add(answer)
    f = (6 + 1) / (8 + 3)
    assert frequency.frequency("Yes.") == pytest.approx(f)
    expected = math.log(RELIABILITY / (ENTANGLEMENT + (1 - ENTANGLEMENT) * f))
    assert frequency.log_odds_same("yes") == pytest.approx(expected)
    chance = (6 * 6 + 2 * 2) / 64
    assert frequency.log_odds_different("yes") == pytest.approx(
        math.log((1 - RELIABILITY) / ((1 - ENTANGLEMENT) * (1 - min(0.5, chance))))
    )


def test_a_rare_answer_tells_more_than_a_common_one() -> None:
    """An agreement on a sum outweighs one on a small count, which outweighs one on a plain yes."""
    frequency = AnswerFrequency()
    for answer in ["yes", "no", "1", "2", "3", "4", "5", "RM 12.00", "RM 138.90"] * 10:
        frequency.add(answer)
    rare = frequency.log_odds_same("RM 977.35")
    assert rare > frequency.log_odds_same("2") > frequency.log_odds_same("yes") >= 0.0
    assert rare < math.log(RELIABILITY / ENTANGLEMENT)
    assert frequency.log_odds_different("2") < -2.0


def test_an_engine_that_contradicts_itself_tells_less() -> None:
    """Where answers to questions known to be one often differ, a disagreement is less damning, and an agreement on
    answers of another kind tells what it did."""
    frequency = AnswerFrequency()
    before = frequency.log_odds_different("RM 12.00"), frequency.log_odds_same("2019-05-01")
    for at in range(100):
        frequency.confirm("RM 12.00", at % 4 != 0)
    assert frequency.log_odds_different("RM 12.00") > before[0] + 0.8
    assert frequency.log_odds_same("2019-05-01") == before[1]


def test_counts_are_bounded() -> None:
    """The answer seen longest ago is forgotten first, with its share of the totals."""
    frequency = AnswerFrequency(most=2)
    for answer in ["1.10", "2.20", "3.30"]:
        frequency.add(answer)
    assert frequency.frequency("1.10") == pytest.approx(1 / 102)
    assert frequency.frequency("3.30") == pytest.approx(2 / 102)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("93", "Alpha"),
        ("2020-03-08", "46623131"),
        ("深圳前海物流有限公司", "49753208"),
        ("24.00", "13/12/2017"),
        ("16 JUN 2018", "12, JALAN TAMPOI 7/4, KAWASAN PERINDUSTRIAN TAMPOI, JOHOR BAHRU"),
        ("NO. 31G&33G, JALAN SETIA INDAH X, U13/X 40170 SETIA ALAM", "SANYU STATIONERY SHOP"),
        ("5", "HARBOUR STORE"),
        ("2019-07-27", "深圳前海物流有限公司"),
    ],
)
def test_values_of_two_kinds_are_two_answers(one: str, other: str) -> None:
    """A number, a date and a name that share nothing can't be one answer in two forms."""
    assert compare_answers(one, other).verdict == "different"
    assert compare_answers(other, one).verdict == "different"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12", "a dozen"),
        ("2020-03-08", "8"),
        ("2020-03-08", "20"),
        ("0", "none"),
        ("120", "一百二十"),
        ("9pm", "in the evening"),
        ("21:00", "晚上"),
        ("2 dogs", "dogs"),
        ("23", "twenty-three"),
        ("2020-03-08", "8 March"),
        ("50", "half of them"),
        ("2", "都有"),
    ],
)
def test_what_may_be_a_number_in_words_is_no_label(one: str, other: str) -> None:
    """Where one answer may be the other one in words, or a part of it, nothing is said."""
    assert compare_answers(one, other).verdict != "different"
    assert compare_answers(other, one).verdict != "different"


def test_no_for_number_is_no_denial() -> None:
    """An address that begins with "No. 8" is not a no; a no before a comma is one."""
    assert understand("NO. 8, JALAN 7/118B").polarity == 0
    assert understand("NO.J-G-02, SOHO KL").polarity <= 0
    assert understand("No, it is not").polarity == -1
    assert compare_answers("NO 8, JALAN 7/118B", "Yes").verdict != "same"
