"""What an answer hangs on besides the image's content, tested like a dictionary."""

import json
from pathlib import Path

import pytest

from dedup_service.question.subject import Subject, subjects_of

DATA = Path(__file__).parents[3] / "benchmarks/data/equal/about_picture.jsonl"


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("Do I need to rotate the scan?", Subject.PICTURE),
        ("What's the image's resolution?", Subject.PICTURE),
        ("Is it a JPG?", Subject.PICTURE),
        ("Is the photo out of focus?", Subject.PICTURE),
        ("Is this picture grayscale?", Subject.PICTURE),
        ("Which corner is the stamp in?", Subject.PICTURE),
        ("Who is on the far left?", Subject.PICTURE),
        ("图是不是反的", Subject.PICTURE),
        ("这张图有多少像素", Subject.PICTURE),
        ("图片清不清晰", Subject.PICTURE),
        ("右上角写了什么？", Subject.PICTURE),
        ("Is the rent overdue?", Subject.DAY),
        ("How many days until the exam?", Subject.DAY),
        ("Is the card still valid?", Subject.DAY),
        ("How old is this bill?", Subject.DAY),
        ("Has the sale ended?", Subject.DAY),
        ("还有几天到期？", Subject.DAY),
        ("他今年多大？", Subject.DAY),
        ("牛奶过期了没？", Subject.DAY),
        ("Is the shop open right now?", Subject.MOMENT),
        ("When does the next bus leave?", Subject.MOMENT),
        ("Which branch is near me?", Subject.MOMENT),
        ("下一班车是几点？", Subject.MOMENT),
        ("离我最近的店在哪？", Subject.MOMENT),
    ],
)
def test_a_question_hangs_on(question: str, subject: Subject) -> None:
    """Both languages, whatever the words around it; case and width of an apostrophe do not matter."""
    assert subject in subjects_of(question)
    assert subject in subjects_of(question.upper())
    assert subject in subjects_of("Please tell me: " + question)


@pytest.mark.parametrize(
    "question",
    [
        "What is the total?",
        "Who signed the letter?",
        "When does the ticket expire?",
        "What is the due date?",
        "How many megapixels does the phone in the advert have?",
        'What does the "Open now" sticker say?',
        "What is the profit margin?",
        "How many days does the tour last?",
        "总金额是多少？",
        "有效期至哪天？",
        "“现在付款”按钮是什么颜色？",
        "手机摄像头是多少像素？",
    ],
)
def test_other_questions_hang_on_the_content_alone(question: str) -> None:
    """Dates, sizes and times that the image states, and quoted words, are its content."""
    assert not subjects_of(question)


def test_the_development_set() -> None:
    """On another author's set at most one question in fifty is taken wrongly, either way."""
    rows = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    wrong = []
    for row in rows:
        found = subjects_of(row["text"])
        now = bool(found & {Subject.DAY, Subject.MOMENT})
        right = {"picture": Subject.PICTURE in found, "now": now, "none": not found}[row["kind"]]
        if not right:
            wrong.append(row["text"])
    assert len(wrong) <= len(rows) / 50, wrong
