"""The benchmark of contrast sets: what it reads, and what it counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.contrast import FOLDER, drop, main, measure, medical
from benchmarks.questions import Pair


def test_without_a_folder_it_is_skipped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No folder is no failure, and the reason is said."""
    monkeypatch.delenv(FOLDER, raising=False)
    assert main([]) == 0
    assert FOLDER in capsys.readouterr().err


def test_what_is_not_there_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that was not fetched leaves the others to be measured."""
    folder = tmp_path / "medical-question-pair-dataset"
    folder.mkdir()
    (folder / "mqp.csv").write_text("1,What is it?,what is it,1\n2,What is it?,Where is it?,0\n", "utf-8")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    out = tmp_path / "out.json"
    assert main(["--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found) == ["medical pairs"]
    assert (found["medical pairs"]["merged_same"], found["medical pairs"]["merged_different"]) == (1, 0)
    assert [pair.same for pair in medical(tmp_path)] == [True, False]


def test_variants_with_one_answer_are_no_contrast(tmp_path: Path) -> None:
    """Only variants of one question whose answers differ are pairs."""
    asked = [
        ("q_1", "How many ships?", 3),
        ("q_2", "How many boats?", 4),
        ("q_3", "Ships, how many?", 3),
        ("r_1", "Who?", 5),
    ]
    rows = [{"query_id": name, "question": text, "answer": {"number": number}} for name, text, number in asked]
    path = tmp_path / "contrast-sets/DROP/drop_contrast_sets_test.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"p": {"qa_pairs": rows}}), "utf-8")
    assert [(pair.a, pair.b, pair.same) for pair in drop(tmp_path)] == [
        ("How many ships?", "How many boats?", False),
        ("How many boats?", "Ships, how many?", False),
    ]


def test_any_file_of_pairs_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named is measured instead of the folder."""
    monkeypatch.delenv(FOLDER, raising=False)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"a": "What is it?", "b": "what is it", "same": True}), "utf-8")
    out = tmp_path / "out.json"
    assert main([str(pairs), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["pairs.jsonl"]["merged_same"] == 1


def test_a_vetoed_pair_is_not_merged() -> None:
    """Vetoes count on their own, and merge nothing."""
    found = measure([Pair("What is on page 2?", "What is on page 3?", True, "", "en")])
    assert (found["same"], found["merged_same"], found["vetoed_same"]) == (1, 0, 1)
