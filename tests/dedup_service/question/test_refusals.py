"""Answers that say they can't tell, and answers that look like it."""

import json
from pathlib import Path

import pytest

from dedup_service.question.answers import compare_answers
from dedup_service.question.refusals import cannot_tell

DATA = Path(__file__).parents[3] / "benchmarks/data/equal/refusals.jsonl"


@pytest.mark.parametrize(
    "answer",
    [
        "N/A",
        "**None**",
        "The photo does not show a due date.",
        "I am unable to read the name.",
        "No IBAN is shown.",
        "It's too blurry to make out.",
        "Sorry, it cannot be determined from the scan.",
        "无",
        "图中未标明保质期",
        "看不清楚日期",
        "无法从图片判断",
        "抱歉，没有找到金额",
    ],
)
def test_an_answer_that_cannot_tell(answer: str) -> None:
    """Empty values, and sentences that say the image does not tell, in both languages."""
    assert cannot_tell(answer)
    for other in (answer, "None", "没有", "RM 13.05", "12", "No"):
        assert compare_answers(answer, other).verdict == "unsure"
        assert compare_answers(other, answer).verdict == "unsure"


@pytest.mark.parametrize(
    "answer",
    [
        "No",
        "No, there is none left.",
        'It says "not available".',
        "无锡",
        "未付款",
        "没有，门关着",
        "0",
        "Nobody",
        "Not for sale",
        "Unpaid",
    ],
)
def test_an_answer_that_only_looks_like_it(answer: str) -> None:
    """A plain no, a quoted text, a name and a state are answers."""
    assert not cannot_tell(answer)


def test_a_bare_no_answers_whether() -> None:
    """没有 and "None" answer a question whether there are any; to another question they are empty values."""
    assert not cannot_tell("没有", "图中有没有猫？")
    assert not cannot_tell("None", "Are there any fees?")
    assert cannot_tell("没有", "电话号码是多少？")
    assert cannot_tell("None", "What is the phone number?")


def test_the_development_set() -> None:
    """On another author's set at most one answer in fifty is taken wrongly, either way."""
    rows = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    wrong = [row["text"] for row in rows if cannot_tell(row["text"]) != row["cannot"]]
    assert len(wrong) <= len(rows) / 50, wrong
