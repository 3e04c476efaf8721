"""Merges between questions that were written to be told apart, or to be one: public sets, read from a folder.

    ASKONCE_CONTRAST=FOLDER python -m benchmarks.contrast [--json OUT]
    python -m benchmarks.contrast SET... [--json OUT]

FOLDER holds checkouts by their names: allenai/contrast-sets (DROP, Quoref: questions perturbed by their authors until
the answer about one passage changed), google-research-datasets/Disfl-QA (a question and the same question as somebody
would say it who corrects himself), curai/medical-question-pair-dataset, and FewCLUE (BUSTM, Chinese). What is not there
is left out. None of them chose a rule, a list or a model, and none is about images: what is read off them is how often
a cold system merges what differs, not how much it would serve. *Merged* is what is served without labels or a judge;
no encoder is needed to say that. The same of any files of pairs or intents that `benchmarks.questions` reads: SET.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.questions import Pair, read_pairs, wilson
from dedup_service.question.score import gather

FOLDER = "ASKONCE_CONTRAST"
"""The variable that names the folder."""


def drop(root: Path) -> Iterator[Pair]:
    """Variants of one question about one passage whose answers differ."""
    passages = json.loads((root / "contrast-sets/DROP/drop_contrast_sets_test.json").read_text("utf-8"))
    for passage in passages.values():
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for asked in passage["qa_pairs"]:
            answer = json.dumps(asked["answer"], sort_keys=True)
            groups[asked["query_id"].rsplit("_", 1)[0]].append((asked["question"], answer))
        yield from different(list(groups.values()))


def quoref(root: Path) -> Iterator[Pair]:
    """A question and its perturbations, where the answers differ."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, key in (("original_subset", "id"), ("test_perturbations", "original_id")):
        path = root / f"contrast-sets/quoref/quoref_{name}_20191206_merged.json"
        for page in json.loads(path.read_text("utf-8"))["data"]:
            for asked in (each for paragraph in page["paragraphs"] for each in paragraph["qas"]):
                answers = json.dumps(sorted(answer["text"] for answer in asked["answers"]))
                groups[asked[key]].append((asked["question"], answers))
    yield from different(list(groups.values()))


def different(groups: Sequence[Sequence[tuple[str, str]]]) -> Iterator[Pair]:
    """Pairs within a group of questions and answers whose answers differ."""
    for group in groups:
        for (a, one), (b, other) in combinations(group, 2):
            if one != other and a != b:
                yield Pair(a, b, False, "contrast", "en")


def disfluent(root: Path) -> Iterator[Pair]:
    """A question and the same one with a slip that is put right."""
    for row in json.loads((root / "Disfl-QA/dev.json").read_text("utf-8")).values():
        yield Pair(row["original"], row["disfluent"], True, "disfluent", "en")


def medical(root: Path) -> Iterator[Pair]:
    """Doctors' pairs of patients' questions."""
    with (root / "medical-question-pair-dataset/mqp.csv").open(encoding="utf-8", newline="") as file:
        for _, a, b, label in csv.reader(file):
            yield Pair(a, b, label == "1", "medical", "en")


def bustm(root: Path) -> Iterator[Pair]:
    """Pairs of what is said to a voice assistant, in Chinese."""
    for line in (root / "FewCLUE/datasets/bustm/test_public.json").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Pair(row["sentence1"], row["sentence2"], row["label"] == "1", "assistant", "zh")


SETS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "DROP contrast": drop,
    "Quoref contrast": quoref,
    "Disfl-QA": disfluent,
    "medical pairs": medical,
    "BUSTM": bustm,
}


def measure(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How many same and different pairs are merged cold, and how many of the same ones a veto stops."""
    counts = {True: [0, 0, 0], False: [0, 0, 0]}
    for pair in pairs:
        seen = gather(pair.a, pair.b, math.nan)
        merged = not seen.vetoes and (seen.exact or seen.agrees or seen.same_content)
        for at, more in enumerate((1, merged, bool(seen.vetoes))):
            counts[pair.same][at] += more
    same, other = counts[True], counts[False]
    return {
        "same": same[0],
        "merged_same": same[1],
        "vetoed_same": same[2],
        "different": other[0],
        "merged_different": other[1],
        "merged_different_interval": wilson(other[1], other[0]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contrast", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sets", type=Path, nargs="*", metavar="SET", help="files of pairs or intents, instead")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args(arguments)
    folder = os.environ.get(FOLDER, "")
    sets: dict[str, Callable[[Path], Iterator[Pair]]] = {
        path.name: lambda _, path=path: iter(read_pairs(path))  # type: ignore[misc]
        for path in options.sets
    }
    if not folder and not sets:
        print(f"skipped: {FOLDER} names no folder", file=sys.stderr)
        return 0
    table = Table("set", "same", "merged", "vetoed", "different", "merged", "95 %")
    found: dict[str, Any] = {}
    for name, read in (sets or SETS).items():
        try:
            pairs = list(read(Path(folder)))
        except FileNotFoundError as absent:
            print(f"{name} skipped: {absent.filename} is not there", file=sys.stderr)
            continue
        row = found[name] = measure(pairs)
        low, high = row["merged_different_interval"] if row["different"] else (math.nan, math.nan)
        table.add_row(
            name,
            *(str(row[key]) for key in ("same", "merged_same", "vetoed_same", "different", "merged_different")),
            f"{low:.2%} - {high:.2%}" if row["different"] else "–",
        )
    Console(width=100).print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
