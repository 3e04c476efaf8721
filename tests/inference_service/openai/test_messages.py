"""What is read out of a server's replies."""

from __future__ import annotations

import math
from typing import Any

import pytest

from inference_service.openai.messages import reading_of, retry_after


def reply(*tokens: tuple[str, float]) -> dict[str, Any]:
    listed = [{"token": token, "logprob": math.log(chance)} for token, chance in tokens]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": listed}]}}]}


def test_a_reading_sums_all_forms_of_a_word() -> None:
    """Case, white space, stops, Chinese and English: all forms of a verdict count together."""
    found = reading_of(
        reply((" Yes", 0.2), ("yes", 0.1), ("是", 0.2), ("是的", 0.1), ("No.", 0.1), ("不是", 0.1), ("x", 0.2))
    )
    assert found is not None
    assert math.exp(found.yes) == pytest.approx(0.6)
    assert math.exp(found.no) == pytest.approx(0.2)


def test_a_verdict_that_is_not_listed_is_at_most_as_likely_as_the_last() -> None:
    """The least likely token listed bounds what is not listed; a reply of other words has no mass."""
    found = reading_of(reply(("yes", 0.6), ("the", 0.01)))
    assert found is not None
    assert math.exp(found.no) == pytest.approx(0.01)
    other = reading_of(reply(("Well", 0.6), ("the", 0.01)))
    assert other is not None
    assert other.mass < 0.1


@pytest.mark.parametrize("answer", [{"choices": []}, {"choices": [{"logprobs": None}]}, {}, reply()])
def test_a_reply_without_log_probabilities_says_nothing(answer: dict[str, Any]) -> None:
    """There is no reading where nothing is listed."""
    assert reading_of(answer) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("Fri, 02 Jan 1970 00:00:00 GMT", None),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_pause_is_read_from_a_number_or_a_date(value: str, seconds: float | None) -> None:
    """Retry-After has two forms; what is neither, or beyond an hour, is not followed."""
    assert retry_after(value, now=60.0) == seconds
