"""The judge's benchmark fits what it says, against a scripted server too."""

from __future__ import annotations

import asyncio
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.judge import Judged, fit_temperature, fit_threshold, main
from inference_service.openai.settings import OpenAISettings
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


def scripted(body: dict[str, Any]) -> list[tuple[str, float]]:
    """A model that knows: questions are the same when they end in the same word. It is surer than it should be, wrong
    about one pair in twelve, leans towards "yes", and says so in forms that differ."""
    content = body["messages"][0]["content"]
    text = content if isinstance(content, str) else content[1]["text"]
    *_, left, right, ask = text.split("\n")
    turned = "differ" in ask.lower()
    odds = 0.5
    if left != "A: N/A" and left != "A: -":
        words = sorted((left.split()[-1], right.split()[-1]))
        odd = zlib.crc32(" ".join(words).encode()) % 12 == 0
        odds = (6.0 if odd else 9.0) * (1 if (words[0] == words[1]) is not odd else -1)
    yes = 1 / (1 + math.exp(odds if turned else -odds))
    forms = ("Yes", " yes", "NO", "no.") if odds > 0 else ("yes", "YES", " No", "no")
    return [(forms[0], math.log(0.6 * yes)), (forms[1], math.log(0.35 * yes)),
            (forms[2], math.log(0.6 * (1 - yes))), (forms[3], math.log(0.35 * (1 - yes)))]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("on_image", [False, True])
async def test_a_judge_that_knows_is_measured_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], on_image: bool
) -> None:
    """Scripted log-probabilities: nearly all that it knows is served, its certainty is taken down to what it is right
    in, and the settings that are written are the service's own. On images each put has the image before it."""
    image = {}
    if on_image:
        Image.new("RGB", (600, 400), "white").save(tmp_path / "page.png")
        image = {"image": "page.png"}
    rows = [
        {"a": f"What is w{n}", "b": f"Tell me w{n if n % 2 else n + 1000}", "same": bool(n % 2), **image}
        for n in range(120)
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with serving("well") as fakes:
        fakes[0].judge = scripted
        arguments = [str(pairs), "--endpoint", fakes[0].url, "--write", str(tmp_path / "out.json")]
        assert await asyncio.to_thread(main, arguments) == 0
        kinds = {isinstance(body["messages"][0]["content"], list) for body in fakes[0].bodies}
    said = capsys.readouterr().out
    assert "120 pairs, 0 without a verdict" in said
    assert kinds == {on_image}
    fitted = json.loads((tmp_path / "out.json").read_text())
    assert fitted["judge_temperature"] > 1.5
    recall, wrong = re.findall(r"(\d+\.\d)%", said.splitlines()[-1])
    assert float(recall) > 80
    assert float(wrong) == 0
    OpenAISettings(base_url="http://x/v1", **fitted)
