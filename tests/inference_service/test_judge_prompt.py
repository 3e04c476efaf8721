"""Verdicts from log-odds, and the language of the prompt."""

from __future__ import annotations

import pytest

from inference_service.judge_prompt import CHINESE_SCRIPT, ENGLISH_SCRIPT, judgement, logistic, script_for


def test_orders_are_averaged_and_contradictions_are_unsure() -> None:
    """The mean of the log-odds decides; orders that say the opposite of each other do not."""
    assert judgement([3.0, 4.0], 1.0, 0.9, 0.2).verdict == "same"
    assert judgement([3.0, 4.0], 1.0, 0.9, 0.2).same_probability == pytest.approx(logistic(3.5))
    assert judgement([-3.0, -1.0], 1.0, 0.9, 0.2).verdict == "different"
    assert judgement([0.5, 0.1], 1.0, 0.9, 0.2).verdict == "unsure"
    assert judgement([9.0, -2.0], 1.0, 0.9, 0.2).verdict == "unsure"


def test_the_temperature_calibrates() -> None:
    """A higher temperature pulls probabilities towards one half."""
    cool, warm = (judgement([2.0, 2.0], heat, 0.9, 0.2).same_probability or 0.0 for heat in (1.0, 4.0))
    assert cool > warm > 0.5
    assert (logistic(1e4), logistic(-1e4), logistic(0.0)) == (1.0, 0.0, 0.5)


def test_chinese_is_judged_in_chinese() -> None:
    """Either question in Chinese takes the Chinese script."""
    assert script_for("多少钱", "how much") is CHINESE_SCRIPT
    assert script_for("what", "how much") is ENGLISH_SCRIPT
