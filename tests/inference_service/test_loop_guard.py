"""Loops are noticed, and texts that repeat themselves with good reason are left alone."""

from __future__ import annotations

import random

import pytest

from inference_service.loop_guard import LoopGuard, is_loop


@pytest.mark.parametrize(
    "unit", ["dog ", "The total is RM 5.00. ", "合计 100.00\n", "1, 2, ", "项目名称：办公用品，数量：1；" * 3]
)
def test_a_stretch_over_and_over_is_a_loop(unit: str) -> None:
    """Whatever the stretch, after enough of it, and however the text is cut."""
    chance = random.Random(1)
    guard, fed, text = LoopGuard(), 0, "On this page: " + unit * 200
    while fed < len(text) and not guard.looping:
        size = chance.randrange(1, 7)
        guard.feed(text[fed : fed + size])
        fed += size
    assert guard.looping
    assert fed < 14 + max(9 * len(unit), 300) + 40


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"{number}. item {number} 2.50" for number in range(200)),
        "Name | Qty | Price\n" + "|---|---|---|\n" + "0.00 | 0.00 | 0.00\n" * 8,
        "_" * 300,
        "." * 500,
        "ha " * 20,
        "",
    ],
)
def test_lists_rules_and_short_repeats_are_none(text: str) -> None:
    """Numbered lists, empty columns, ruled lines and a laugh."""
    assert not any(is_loop(text[:size]) for size in range(0, len(text) + 1, 16))
