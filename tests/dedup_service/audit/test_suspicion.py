"""Which reuses look wrong, and which misses look like lost hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_service.audit.suspicion import promising, suspicious
from dedup_service.audit.traffic import shape_of
from dedup_service.ledger.records import Decision
from dedup_service.policy.recorded import RIGHT, UNLABELLED, WRONG
from tests.dedup_service.audit.columns import traffic_of


@dataclass
class Texts:
    """Whole decisions by id, as the ledger would give them."""

    question: str = "total?"
    stored: str = "total?"
    answers: Sequence[str] = ()

    def __call__(self, ids: Sequence[str]) -> list[Decision]:
        return [
            Decision(
                identity, "acme", 0.0, question_text=self.question, nearest_question_text=self.stored,
                nearest_answer_text=self.answers[int(identity, 16)] if self.answers else "RM 5.00",
            )
            for identity in ids
        ]  # fmt: skip


def signs(traffic: object, row: int, texts: Texts | None = None) -> tuple[str, ...]:
    """The signs of one row; empty when it is not listed."""
    found = suspicious(traffic, texts or Texts())  # type: ignore[arg-type]
    return next((each.signs for each in found if each.row == row), ())


def test_what_is_known_to_be_wrong_comes_first() -> None:
    """A label and a complaint each outweigh the greatest risk."""
    label = np.array([UNLABELLED, WRONG, UNLABELLED])
    traffic = traffic_of(3, risk=[0.4, 0.001, 0.001], label=label, complaint=[False, False, True])
    found = suspicious(traffic, Texts())
    assert {found[0].row, found[1].row} == {1, 2}
    assert found[2].signs == ("RISKY",)


def test_what_was_found_right_is_not_suspected() -> None:
    """A right label clears a reuse, unless a client complained."""
    traffic = traffic_of(2, label=np.array([RIGHT, RIGHT]), complaint=[False, True])
    assert [found.row for found in suspicious(traffic, Texts())] == [1]


def test_todays_vetoes_are_held_against_yesterdays_hits() -> None:
    """A pair that a veto parts now is suspicious however well it scored."""
    texts = Texts("What is the amount before tax?", "What is the amount after tax?")
    assert "VETO_NOW" in signs(traffic_of(1, risk=[0.001]), 0, texts)
    assert signs(traffic_of(1, risk=[0.001]), 0) == ("RISKY",)


def test_images_told_apart_elsewhere() -> None:
    """Two images that were told apart in one request may not pass for one in another."""
    traffic = traffic_of(
        2, image=[7, 7], nearest_image=[8, 8], hit=[False, True], reason=["IMAGE_LOOKALIKE", "EXACT"],
        image_tier=["PERCEPTUAL"] * 2, question_tier=["EXACT"] * 2,
    )  # fmt: skip
    assert "IMAGES_TOLD_APART" in signs(traffic, 1)


def test_questions_told_apart_elsewhere() -> None:
    """Two questions that got different answers about one image are suspicious on every other; one slip among many
    agreements is not held against them."""
    label = np.array([WRONG, UNLABELLED])
    traffic = traffic_of(2, question=[5, 5], nearest_question=[6, 6], hit=[False, True], label=label)
    assert "QUESTIONS_TOLD_APART" in signs(traffic, 1)
    label = np.array([WRONG, UNLABELLED, *[RIGHT] * 10])
    hit = [False, True, *[False] * 10]
    traffic = traffic_of(12, question=[5] * 12, nearest_question=[6] * 12, hit=hit, label=label)
    assert "QUESTIONS_TOLD_APART" not in signs(traffic, 1)


def test_an_entry_found_wrong_for_its_own_question() -> None:
    """Every other hit on it is suspicious."""
    traffic = traffic_of(
        2, entry=[3, 3], exact=[True, True], risk=[0.0, 0.0], label=np.array([WRONG, UNLABELLED]),
        question=[5, 9], nearest_question=[5, 5],
    )  # fmt: skip
    assert "ENTRY_WRONG_ELSEWHERE" in signs(traffic, 1)


def test_another_answer_to_the_same_question() -> None:
    """What is asked of an image and answered otherwise there is suspicious, and the other decision is the witness; the
    same amount in other words is no other answer."""
    same = {"nearest_image": [4, 4, 4], "question": [5, 5, 5], "nearest_question": [5, 5, 5], "answer": [1, 1, 2]}
    traffic = traffic_of(3, **same, entry=[1, 1, 2])
    found = suspicious(traffic, Texts(answers=["RM 5.00", "RM 5.00", "RM 7.00"]))
    assert found[0].row == 2
    assert "ANSWERED_OTHERWISE" in found[0].signs
    assert found[0].witness == "0" * 31 + "0"
    found = suspicious(traffic, Texts(answers=["RM 5.00", "RM 5.00", "rm5.00"]))
    assert all("ANSWERED_OTHERWISE" not in each.signs for each in found)


def test_a_file_taken_for_two_images() -> None:
    """The reuse that takes it for the one it is seldom taken for is suspicious."""
    same: dict[str, Any] = {"file": [9, 9, 9], "nearest_image": [1, 1, 2], "question": [5] * 3, "answer": [1, 1, 1]}
    traffic = traffic_of(3, **same, image_tier=["BYTES", "BYTES", "PERCEPTUAL"])
    assert "IMAGE_TAKEN_FOR_TWO" in signs(traffic, 2)
    assert "IMAGE_TAKEN_FOR_TWO" not in signs(traffic, 0)
    assert "IMAGE_TAKEN_FOR_TWO" not in signs(traffic_of(3, **same), 2)
    traffic = traffic_of(3, **same, image_tier=["PERCEPTUAL", "PERCEPTUAL", "BYTES"])
    assert "IMAGE_TAKEN_FOR_TWO" in signs(traffic, 0), "one proof outweighs what was seen twice"


def test_what_names_no_image_accuses_nobody() -> None:
    """Decisions that don't say which stored image was meant are not taken to be about one image."""
    nowhere = {"nearest_image": [0, 0], "question": [5, 5], "nearest_question": [5, 5], "answer": [1, 2]}
    texts = Texts(answers=["RM 5.00", "RM 7.00"])
    for row in range(2):
        assert "ANSWERED_OTHERWISE" not in signs(traffic_of(2, **nowhere, entry=[1, 2]), row, texts)


def test_an_answer_of_an_unusual_shape() -> None:
    """An amount where dates are always answered is suspicious."""
    size = 41
    shapes = [shape_of("2026-01-31")] * 40 + [shape_of("RM 12.50")]
    traffic = traffic_of(size, question=[5] * size, nearest_question=[5] * 40 + [6], shape=shapes)
    assert "ANSWER_UNUSUAL" in signs(traffic, 40)
    assert shape_of("RM 12.50") == shape_of("RM 1,300.00".replace(",", ""))
    assert shape_of("是") != shape_of("2026年1月1日")


def test_one_finding_for_many_of_a_pair() -> None:
    """Reuses of one pair are shown once, with their number."""
    found = suspicious(traffic_of(50, pair=[1] * 50), Texts())
    assert [each.count for each in found] == [50]


def test_promising_misses_are_ranked_by_what_they_would_save() -> None:
    """A pair missed ten times with a right answer in store goes before a likely one missed twice; what a label called
    wrong, and what the evidence forbids, is left out."""
    size = 14
    label = np.array([RIGHT] + [UNLABELLED] * 11 + [WRONG, UNLABELLED])
    reason = ["QUESTION_BELOW_THRESHOLD"] * 13 + ["QUESTION_VETOED"]
    pair = [1] * 10 + [2, 2, 3, 4]
    traffic = traffic_of(size, hit=[False] * size, label=label, reason=reason, pair=pair, risk=[0.2] * size)
    found = promising(traffic)
    assert [each.count for each in found] == [10, 2]
    assert found[0].signs == ("QUESTION_BELOW_THRESHOLD", "LABELLED_RIGHT")
    assert found[0].score > found[1].score


def test_nothing_to_suspect() -> None:
    """No decisions, no findings."""
    assert suspicious(traffic_of(0), Texts()) == []
    assert promising(traffic_of(0)) == []
