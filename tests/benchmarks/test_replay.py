"""The replay benchmark: the figures that it promises, from the real services."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from benchmarks.make_stream import ALIASES, read_phrasings
from benchmarks.replay import Line, Served, avoidable, same_answer

ROOT = Path(__file__).parents[2]


def stream(folder: Path) -> Path:
    """Thirty requests about two pictures: each question comes back, one answer is wrong on purpose."""
    for number in range(2):
        picture = Image.new("RGB", (480, 320), "white")
        pen = ImageDraw.Draw(picture)
        for row in range(12):
            pen.text((20, 20 + 24 * row), f"line {row} of picture {number}: {row * 37 + number * 91}", "black")
        picture.save(folder / f"{number}.png")
    lines = [
        {"image": f"{number % 2}.png", "question": ("What is the total?", "Who sold it?")[number // 2 % 2]}
        for number in range(30)
    ]
    answers = {("0.png", 12): "12.50", ("1.png", 12): "99.00", ("0.png", 18): "Acme", ("1.png", 18): "Initech"}
    for line in lines:
        line["answer"] = answers[line["image"], 18 if "sold" not in line["question"] else 12]
    lines[29]["answer"] = "something else"
    path = folder / "stream.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def line(intent: str, lang: str) -> Line:
    """A request about one picture."""
    return Line(Path("0.png"), "?", "!", "acme", "", ("0", intent), lang)


def came_back(reason: str, *, hit: bool = False) -> Served:
    """What came back for it."""
    return Served(hit, not hit, False, reason, "", True, True, 0.0, 0.0)


def test_avoidable_misses_are_told_by_cause() -> None:
    """A miss could have been avoided when the same was asked of the same image before; in another language only, that
    is its cause."""
    asked = [
        (line("total", "en"), came_back("IMAGE_UNKNOWN")),
        (line("date", "en"), came_back("QUESTION_UNKNOWN")),
        (line("total", "en"), came_back("QUESTION_VETOED")),
        (line("total", "zh"), came_back("QUESTION_UNSURE")),
        (line("total", "zh"), came_back("BUDGET_SPENT")),
        (line("date", "en"), came_back("KNOWN", hit=True)),
    ]
    found = avoidable(asked)
    assert found["all"] == {"veto": 1, "other language": 1, "budget": 1}
    assert found["last half"] == {"other language": 1, "budget": 1, "veto": 0}


def test_a_copy_that_was_taken_for_a_new_image_is_told_apart() -> None:
    """What had been asked of the other files of an image only is no matter of the question."""
    copy = replace(line("total", "en"), image=Path("copy.png"))
    asked = [
        (line("total", "en"), came_back("IMAGE_UNKNOWN")),
        (line("date", "en"), came_back("QUESTION_UNKNOWN")),
        (copy, came_back("QUESTION_DIFFERENT")),
        (copy, came_back("QUESTION_UNSURE")),
        (replace(copy, meaning=("0", "date")), came_back("IMAGE_UNSURE")),
    ]
    found = avoidable(asked, {Path("0.png"): "first", Path("copy.png"): "second"})
    assert found["all"] == {"copy under another identity": 1, "question unsure": 1, "copy refused": 1}


def test_a_stream_can_ask_from_any_set(tmp_path: Path) -> None:
    """Intents of a foreign set are found under the names that documents use."""
    theirs = ALIASES["total"][0]
    rows = [{"intent": theirs, "family": "f", "lang": "en", "text": text} for text in ("total?", "how much")]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    found = read_phrasings(random.Random(1), path)
    assert sorted(found["total", "en"]) == ["how much", "total?"]
    assert ("total", "zh") not in found


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_short_stream_gives_every_figure(tmp_path: Path) -> None:
    """Four of thirty requests are new: the rest is served from memory, and the one whose right answer changed is the
    one that is counted as wrong. Every figure is there, and the exact key beside it serves the same."""
    out = tmp_path / "out.json"
    paths = str(ROOT)
    command = [
        sys.executable,
        "-m",
        "benchmarks.replay",
        str(stream(tmp_path)),
        "--json",
        str(out),
        "--concurrency",
        "1",
    ]
    done = subprocess.run(
        [*command, "--exploration", "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    figures = json.loads(out.read_text())
    assert (figures["n"], figures["errors"], figures["answers"]) == (30, 0, 4)
    # What is asked again before its answer is written down waits with the first asker, which is no hit.
    hits, shared = round(30 * figures["hit_rate"]), figures["coalesced"]
    assert hits + shared == 26
    assert figures["wrong"] + figures["coalesced_wrong"] == 1
    assert figures["wrong_rate"] == pytest.approx(figures["wrong"] / hits)
    assert figures["wrong_rate"] < figures["wrong_rate_upper95"] < 1
    assert figures["verifications"] > 0
    assert figures["saved"] == pytest.approx(1 - (4 + figures["verifications"]) / 30)
    assert -1 <= figures["saved_last_half"] <= 1
    assert set(figures["estimated_wrong"]) == {"low", "mid", "high"}
    assert figures["estimated_wrong"]["low"] <= figures["wrong_rate"] <= figures["estimated_wrong"]["high"]
    assert [window["n"] for window in figures["windows"]] == [30]
    assert len(figures["baselines"]) == 5
    assert figures["baselines"]["exact key (md5 + text)"]["saved"] == pytest.approx(26 / 30)
    assert "learned per entry" in done.stdout


def test_answers_are_compared_as_the_service_does() -> None:
    """Equal text is the same, another amount is not, and what can't be told counts as different."""
    assert same_answer("RM 138.90", "138.90 RM")
    assert not same_answer("RM 138.90", "RM 139.80")
    assert not same_answer("I can't tell", "RM 139.80")
