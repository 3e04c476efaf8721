"""What is taken for equal without being compared: how many edits that matter the normal form merges, and how many
harmless ones it keeps apart; and how the word lists and the comparison of answers err.

    python -m benchmarks.equality [--edits N] [--pairs SET.jsonl] [--harmless SET.jsonl]

Each figure has its interval: the pairs of `edits.jsonl` (by another author, one meaningful edit each) that merge, and
that a cold system would serve though it compares them; N edits of one character, made at random in the project's own
questions, that merge; the pairs of `harmless.jsonl` that do not. The sets are development sets, see their README; name
closed ones on the command line.
"""

import argparse
import json
import random
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dedup_service.policy.risk import clopper_pearson
from dedup_service.question.answers import compare_answers
from dedup_service.question.normal import normalise
from dedup_service.question.refusals import cannot_tell
from dedup_service.question.score import Calibration, gather
from dedup_service.question.subject import Subject, subjects_of

DATA = Path(__file__).parent / "data"
SIGNS = [
    *"+-−±×÷=<>≠≤≥~^_*#@&|/%‰°$€£¥()[]{}'\"“”‘’«»†‡§•←→↑↓²³₁₂½①★☆",
    *"\u0300\u0301\u0304\u0308",
    *"0123456789ABZbzαβΔ",
]
"""Characters whose coming, going or changing makes another question."""


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a set."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def own_questions() -> list[str]:
    """The wordings of the project's own set, in both languages."""
    found: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(tomllib.loads((DATA / "questions.toml").read_text("utf-8")))
    return sorted({text for text in found if len(text) > 6})


def edited(text: str, rng: random.Random) -> str:
    """The text with one character put in, or one replaced by another kind of character."""
    at = rng.randrange(len(text))
    sign = rng.choice(SIGNS)
    replaced = text[at + 1 :] if rng.random() < 0.5 and text[at].casefold() != sign.casefold() else text[at:]
    return f"{text[:at]}{sign}{replaced}"


def share(table: Table, what: str, wrong: int, total: int) -> None:
    """Adds a row: a count with its share and interval."""
    interval = clopper_pearson(wrong, total)
    table.add_row(what, f"{wrong:,} of {total:,}", f"{interval.mid:.2%}", f"{interval.low:.3%} to {interval.high:.3%}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=50_000, metavar="N", help="edits made at random (default 50,000)")
    parser.add_argument("--pairs", type=Path, default=DATA / "equal/edits.jsonl", metavar="SET.jsonl")
    parser.add_argument("--harmless", type=Path, default=DATA / "equal/harmless.jsonl", metavar="SET.jsonl")
    arguments = parser.parse_args()
    console, table = Console(), Table("what", "count", "share", "95 % interval")
    pairs, harmless = rows_of(arguments.pairs), rows_of(arguments.harmless)
    prior = Calibration.prior()
    served = []
    for pair in pairs:
        evidence = gather(pair["a"], pair["b"], 0.99)
        if prior.score(evidence).probability >= prior.serve_at:
            served.append(pair)
    share(table, "meaningful edits merged", sum(normalise(p["a"]) == normalise(p["b"]) for p in pairs), len(pairs))
    share(table, "meaningful edits served cold, vectors as alike as can be", len(served), len(pairs))
    rng, texts = random.Random(12), own_questions()
    merged = 0
    for _ in range(arguments.edits):
        text = rng.choice(texts)
        merged += normalise(edited(text, rng)) == normalise(text)
    share(table, "random edits of one character merged", merged, arguments.edits)
    apart = [p for p in harmless if normalise(p["a"]) != normalise(p["b"])]
    share(table, "harmless edits kept apart", len(apart), len(harmless))
    console.print(table)
    console.print(answers_table())
    console.print(words_table())


def answers_table() -> Table:
    """How the comparison of two answers errs, by kind."""
    table = Table("answers: kind", "same", "called different", "no verdict", "different", "called same", "no verdict")
    counts: dict[str, Counter[tuple[bool, str]]] = {}
    for row in rows_of(DATA / "equal/answers.jsonl"):
        verdict = compare_answers(row["a"], row["b"]).verdict
        for kind in (row["kind"], "all"):
            counts.setdefault(kind, Counter())[(bool(row["same"]), verdict)] += 1
    for kind in sorted(counts, key=lambda name: (name == "all", name)):
        found = counts[kind]
        cells = []
        for same, wrong in ((True, "different"), (False, "same")):
            total = sum(count for (really, _), count in found.items() if really is same)
            cells += [str(total), str(found[(same, wrong)]), str(found[(same, "unsure")])]
        table.add_row(kind, *cells)
    return table


def words_table() -> Table:
    """How the word lists err: questions about the picture and about now, and answers that can't tell."""
    table = Table("word lists", "count", "share", "95 % interval")
    questions = rows_of(DATA / "equal/about_picture.jsonl")
    now = {Subject.DAY, Subject.MOMENT}
    for kind, hit in (("picture", {Subject.PICTURE}), ("now", now)):
        mine = [subjects_of(row["text"]) for row in questions if row["kind"] == kind]
        share(table, f"questions about {kind} missed", sum(not found & hit for found in mine), len(mine))
    none = [subjects_of(row["text"]) for row in questions if row["kind"] == "none"]
    share(table, "other questions taken for one of them", sum(bool(found) for found in none), len(none))
    answers = rows_of(DATA / "equal/refusals.jsonl")
    for really, what in ((True, "answers that can't tell missed"), (False, "other answers taken for one")):
        mine_ = [cannot_tell(row["text"]) for row in answers if bool(row["cannot"]) is really]
        share(table, what, sum(found is not really for found in mine_), len(mine_))
    return table


if __name__ == "__main__":
    main()
