"""Warms up before the service says that it serves: the first request must not pay for loading."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from dedup_service.image.encoder import ImageEncoder
from dedup_service.image.lookalike import compare
from dedup_service.image.picture import open_picture
from dedup_service.question.answers import compare_answers
from dedup_service.question.encoder import QuestionEncoder
from dedup_service.question.normal import normalise
from dedup_service.question.score import gather
from dedup_service.usecases.image_features import extract

SAMPLES = (("What is the total?", "How much is it in all?"), ("总金额是多少？", "總額？"))


def warm_up(images: ImageEncoder, questions: QuestionEncoder) -> None:
    """Runs every part of a look-up once on a made-up page and made-up questions. Blocking, a few seconds when cold."""
    page = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(page)
    for line in range(12):
        draw.text((20, 20 + 26 * line), f"ITEM {line} ...... {line * 7}.40", "black")
    file = io.BytesIO()
    page.save(file, "PNG")
    features = extract(open_picture(file.getvalue()), images)
    compare(features.fingerprint, features.fingerprint)
    for one, other in SAMPLES:
        vectors = questions.encode([one, other])
        questions.readable(normalise(one))
        gather(one, other, float(vectors[0] @ vectors[1]))
        compare_answers(one, other, embed=questions.encode)
