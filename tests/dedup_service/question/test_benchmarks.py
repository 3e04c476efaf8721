"""The question benchmarks measure what they say, and the development sets stay within the budget."""

import json
import math
import os
import random
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import intents, questions
from benchmarks.questions import Pair, capped, expand, fit_threshold, phrasings_of, read_pairs, served, simulated_judge
from dedup_service.question.pair_memory import PairMemory
from dedup_service.question.score import Calibration, gather
from dedup_service.question.veto import differences, vetoes

PAIRS = int(os.environ.get("ASKONCE_TEST_PAIRS", "1500"))
"""Pairs taken of each set; `python -m benchmarks.questions` takes all of them."""
OWN = tomllib.loads(intents.OWN.read_text("utf-8"))


class Letters:
    """A small real encoder: counts of letters."""

    identity = "letters"
    dimension = 64

    def readable(self, text: str) -> bool:
        return bool(text.strip())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for letter in text:
                row[ord(letter) % self.dimension] += 1
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_the_own_set_is_large_and_balanced() -> None:
    """At least sixty intents, eight different phrasings each in each language, and no phrasing under two intents."""
    found = [intent for family in OWN["family"] for intent in family["intent"].values()]
    assert len(found) >= 60
    for lang in ("en", "zh"):
        assert all(len(set(intent[lang])) == 8 for intent in found)
    for family in OWN["family"]:
        assert len(family["intent"]) >= 5
        texts = [text for intent in family["intent"].values() for lang in ("en", "zh") for text in intent[lang]]
        assert len(set(texts)) == len(texts)


def test_pairs_are_expanded_within_families() -> None:
    """Eight phrasings give 28 same pairs; two intents of a family give 16 different ones."""
    pairs = expand({("f", name, lang): list(name * 8) for name in "ab" for lang in ("en", "zh")})
    assert sum(pair.same for pair in pairs) == 2 * 2 * 28
    assert sum(not pair.same for pair in pairs) == 2 * 16


@pytest.mark.parametrize("path", questions.SET_FILES, ids=lambda path: path.stem)
def test_every_set_can_be_asked(path: Path) -> None:
    """Each question set of the repository expands to pairs, and makes a world whose every intent is answered."""
    pairs = read_pairs(path)
    assert {pair.same for pair in pairs} == {True, False}
    world = intents.build(path, 5, ("en", "zh"), random.Random(1))
    assert {name for names in world.intents.values() for name in names} == set(world.kinds) == set(world.phrasings)
    assert all(answers for _, answers in world.images)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    """Input that is no pair is refused with the line's number."""
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"a": "x", "b": "y", "same": true}\n{"a": "x", "same": true}\n', "utf-8")
    with pytest.raises(ValueError, match=":2:"):
        read_pairs(file)
    file.write_text('{"a": "x", "b": "y", "same": "yes"}\n', "utf-8")
    with pytest.raises(ValueError, match="true or false"):
        read_pairs(file)


def test_the_threshold_keeps_the_cap() -> None:
    """Of the pairs it was fitted on, at most the share that is allowed is wrong; one more would be too many."""
    rng = np.random.default_rng(3)
    same = rng.random(2000) < 0.4
    scores = rng.normal(same * 1.5, 1.0)
    for cap in (0.0, 0.01, 0.05):
        threshold = fit_threshold(scores, same, cap)
        assert served(scores, same, threshold)[1] <= cap
        lower = np.sort(scores[~same])[::-1][math.floor(cap * (~same).sum())]
        assert served(scores, same, float(lower))[1] > cap


def test_capped_figures_come_from_the_other_half() -> None:
    """With scores that say nothing, the share served equals the share that is wrong."""
    rng = np.random.default_rng(4)
    same = rng.random(20_000) < 0.5
    found = capped(rng.random(20_000), same, 0.05)
    assert found["served_same"] == pytest.approx(0.05, abs=0.01)
    assert found["served_different"] == pytest.approx(0.05, abs=0.01)


def test_the_simulated_judge_is_as_right_as_it_says() -> None:
    """Right at the stated rate, unsure of one pair in twenty, and of one mind about a pair."""
    pairs = [Pair(f"a{at}", f"b{at}", at % 2 == 0, "", "en") for at in range(4000)]
    verdicts = [simulated_judge(pair, 0.9) for pair in pairs]
    assert verdicts == [simulated_judge(pair, 0.9) for pair in pairs]
    sure = [(pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True) if verdict is not None]
    assert len(sure) / len(pairs) == pytest.approx(0.95, abs=0.02)
    right = sum((verdict > 0.5) == pair.same for pair, verdict in sure)
    assert right / len(sure) == pytest.approx(0.9, abs=0.02)


def test_the_report_has_the_promised_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON file holds the figures under the names that others read."""
    rows = [
        {"a": "what is the total", "b": "total?", "same": True, "kind": "plain", "lang": "en"},
        {"a": "what is the total", "b": "what is the tax", "same": False, "kind": "field", "lang": "en"},
    ] * 20
    file, out = tmp_path / "pairs.jsonl", tmp_path / "out.json"
    file.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    monkeypatch.setattr(questions, "load_question_encoder", lambda spec: Letters())
    assert questions.main([str(file), "--json", str(out)]) == 0
    report = json.loads(out.read_text("utf-8"))
    assert (report["n_same"], report["n_different"]) == (20, 20)
    assert report["default"]["served_same"] == 1.0
    assert report["default"]["served_different"] == 0.0
    assert set(report["capped"]) == {"0.01", "0.05"}
    assert {"served_same", "served_different"} <= set(report["capped"]["0.01"])
    assert report["by_kind"]["field/en"]["n_different"] == 20
    assert {"cosine alone", "Levenshtein >= 0.8"} <= set(report["baselines"])
    assert report["ms_median"] > 0.0


def some(pairs: list[Pair]) -> list[Pair]:
    """At most `PAIRS` of them, evenly spread."""
    return pairs[:: max(1, len(pairs) // PAIRS)]


def test_own_families_are_told_apart() -> None:
    """Differences are found in at least 60 % of the different pairs of the own set; vetoes stop at most 3 % of the same
    ones; cold, at most 1 % of the different ones are served."""
    calibration = Calibration.prior()
    stopped = {True: [0, 0], False: [0, 0]}
    wrong = 0
    for pair in some(expand(phrasings_of(intents.OWN))):
        found = vetoes(pair.a, pair.b) if pair.same else differences(pair.a, pair.b)
        stopped[pair.same][bool(found)] += 1
        if not pair.same:
            score = calibration.score(gather(pair.a, pair.b, math.nan))
            wrong += score.probability >= calibration.serve_at
    assert stopped[False][1] / sum(stopped[False]) >= 0.6
    assert stopped[True][1] / sum(stopped[True]) <= 0.03
    assert wrong / sum(stopped[False]) <= 0.01


def test_intents_learn_without_a_judge() -> None:
    """In a replay on one language, paraphrases are served more often as requests go by, and hardly any wrongly."""
    rng = random.Random(7)
    world = intents.build(intents.OWN, 20, ("en",), rng)
    blocks = intents.replay(world, 800, 0.0, {}, PairMemory(), rng)
    first, last = intents.report(blocks[1], 0), intents.report(blocks[-1], 0)
    assert last["served_share"] > first["served_share"] + 0.2
    assert sum(block.wrong for block in blocks) <= 0.02 * sum(block.served for block in blocks)


DEVELOPMENT = ["qqp_en", "lcqmc_dev_zh", "oppo_xiaobu_zh"]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEVELOPMENT)
def test_cold_wrong_answers_on_development_sets(name: str) -> None:
    """Cold, at most 1 % of the different pairs of each development set are served."""
    folder = os.environ.get("ASKONCE_DATA")
    file = Path(folder or "") / "questions" / f"{name}.jsonl"
    if not folder or not file.exists():
        pytest.skip("ASKONCE_DATA names no folder with development data")
    calibration = Calibration.prior()
    different = some([pair for pair in read_pairs(file) if not pair.same])
    wrong = sum(
        calibration.score(gather(pair.a, pair.b, math.nan)).probability >= calibration.serve_at for pair in different
    )
    assert wrong / len(different) <= 0.01
