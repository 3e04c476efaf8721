"""Warms up before the service says that it serves: the first request must not pay for loading."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from dedup_service.image.sequence import pages_of
from dedup_service.question.answers import compare_answers
from dedup_service.question.encoder import QuestionEncoder
from dedup_service.question.normal import normalise
from dedup_service.question.score import gather
from dedup_service.usecases.image_features import ImageWork

SAMPLES = (("What is the total?", "How much is it in all?"), ("总金额是多少？", "總額？"))


def warm_up_images(images: ImageWork) -> None:
    """Runs every step of looking at an image once, on a made-up page. Blocking, a few seconds when cold."""
    page = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(page)
    for line in range(12):
        draw.text((20, 20 + 26 * line), f"ITEM {line} ...... {line * 7}.40", "black")
    file = io.BytesIO()
    page.save(file, "PNG")
    for fingerprint in pages_of(images.extract(images.open(file.getvalue())).fingerprint):
        images.compare(images.pack(fingerprint), fingerprint)


def warm_up_questions(questions: QuestionEncoder) -> None:
    """Compares made-up questions and answers once. Blocking, a second or two when cold."""
    for one, other in SAMPLES:
        vectors = questions.encode([one, other])
        questions.readable(normalise(one))
        gather(one, other, float(vectors[0] @ vectors[1]))
        compare_answers(one, other, embed=questions.encode)
