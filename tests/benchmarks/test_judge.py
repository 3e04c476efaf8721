"""The judge's benchmark fits what it says, against a scripted server too."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.judge import Judged, fit_temperature, fit_threshold, main
from tests.inference_service.openai.upstream import serving


def test_the_temperature_that_made_the_labels_is_found() -> None:
    """Labels drawn from odds at a temperature give that temperature back."""
    chance = np.random.default_rng(3)
    odds = chance.normal(0, 6, 20_000)
    same = chance.random(20_000) < 1 / (1 + np.exp(-odds / 2.5))
    assert fit_temperature(Judged(odds, same)) == pytest.approx(2.5, rel=0.1)
    assert fit_temperature(Judged(np.array([-np.inf]), np.array([True]))) == 1.0


def test_the_threshold_serves_as_much_as_its_mistakes_allow() -> None:
    """At most one in a hundred is wrong, equal odds stand or fall together, pairs without verdict are never served."""
    odds = np.concatenate([np.linspace(9, 5, 150), [4.0], np.linspace(3, 1, 40), [-np.inf] * 9])
    same = np.array([True] * 150 + [False] + [True] * 40 + [True] * 9)
    assert fit_threshold(Judged(odds, same)) == 1.0
    assert fit_threshold(Judged(np.array([2.0, 2.0]), np.array([True, False]))) == float("inf")


@pytest.mark.slow
async def test_a_server_is_judged_and_its_settings_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole run against a server that says yes to everything: nothing is served, and the file is there."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"a": f"q{n}", "b": f"r{n}", "same": n % 2 == 0}) + "\n" for n in range(8)))
    async with serving("well") as fakes:
        arguments = [str(pairs), "--endpoint", fakes[0].url, "--write", str(tmp_path / "out.json")]
        assert await asyncio.to_thread(main, arguments) == 0
    assert "8 pairs" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["judge_same_at"] > 0.99
