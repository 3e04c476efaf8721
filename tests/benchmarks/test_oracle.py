"""The inference service that knows a stream's answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from askonce.faults import Absent
from askonce.v1 import content_pb2, inference_pb2
from benchmarks.oracle import Oracle


def oracle(folder: Path, *, judge: float = 0.0, intents: bool = True) -> Oracle:
    """An oracle of four lines about two images."""
    lines = []
    for image, question, answer, intent in (
        ("a.png", "total?", "5", "total"),
        ("a.png", "how much?", "5", "total"),
        ("b.png", "total?", "7", "total"),
        ("a.png", "tax?", "1", "tax"),
        ("a.png", "total?", "6", "total"),
    ):
        (folder / image).write_bytes(image.encode())
        line = {"image": image, "question": question, "answer": answer}
        lines.append(json.dumps({**line, "intent": intent} if intents else line))
    (folder / "stream.jsonl").write_text("\n".join(lines))
    return Oracle(folder / "stream.jsonl", judge)


def request(image: bytes, question: str) -> inference_pb2.GenerateRequest:
    """A request as the gateway sends it."""
    return inference_pb2.GenerateRequest(
        image=content_pb2.Image(content=image), question=content_pb2.Question(text=question)
    )


def test_the_line_that_asks_gets_its_own_answer(tmp_path: Path) -> None:
    """The request id decides, also where two lines with one image and question have different answers."""
    known = oracle(tmp_path)
    assert known.answer(request(b"a.png", "total?"), "line-0") == "5"
    assert known.answer(request(b"a.png", "total?"), "line-4") == "6"


def test_without_a_line_any_equal_line_answers(tmp_path: Path) -> None:
    """A verification gets one of the answers that this image and question have in the stream; an unknown one is an
    error."""
    known = oracle(tmp_path)
    assert {known.answer(request(b"a.png", "total?"), "x") for _ in range(50)} == {"5", "6"}
    assert known.answer(request(b"b.png", "total?"), "line-99") == "7"
    with pytest.raises(Absent):
        known.answer(request(b"c.png", "total?"), "x")


def test_the_judge_follows_the_intents(tmp_path: Path) -> None:
    """A perfect judge says same within an intent and different between intents, in either order; without one it is
    unsure."""
    perfect = oracle(tmp_path, judge=1.0)
    same, different = inference_pb2.QUESTION_VERDICT_SAME, inference_pb2.QUESTION_VERDICT_DIFFERENT
    verdicts = {
        perfect.verdict(left, right).verdict for left, right in (("total?", "how much?"), ("how much?", "total?"))
    }
    assert verdicts <= {same, inference_pb2.QUESTION_VERDICT_UNSURE}
    assert len(verdicts) == 1
    assert perfect.verdict("total?", "tax?").verdict in (different, inference_pb2.QUESTION_VERDICT_UNSURE)
    assert oracle(tmp_path).verdict("total?", "tax?").verdict == inference_pb2.QUESTION_VERDICT_UNSURE


def test_without_intents_answers_tell(tmp_path: Path) -> None:
    """Where the stream names no intents, questions with different answers about one image differ; questions that
    share no image can't be told."""
    known = oracle(tmp_path, judge=1.0, intents=False)
    assert known.truth("total?", "tax?") is False
    assert known.truth("how much?", "never asked") is None


def test_the_judge_errs_as_often_as_it_is_told(tmp_path: Path) -> None:
    """A judge of 90 % is wrong about a tenth of the pairs, and the same way when asked again."""
    known = oracle(tmp_path, judge=0.9)
    known.intents = {f"q{n}": {str(n % 2)} for n in range(80)}
    pairs = [(f"q{a}", f"q{b}") for a in range(80) for b in range(a)]
    wrong = unsure = 0
    for left, right in pairs:
        verdict = known.verdict(left, right)
        assert verdict == known.verdict(right, left)
        truth = known.intents[left] == known.intents[right]
        unsure += not verdict.HasField("same_probability")
        wrong += verdict.HasField("same_probability") and (verdict.same_probability > 0.5) != truth
    assert 0.03 < unsure / len(pairs) < 0.07
    assert 0.08 < wrong / len(pairs) < 0.115
