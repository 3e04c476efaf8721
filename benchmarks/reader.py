"""How well the embedded reader answers: questions with traps by kind, accuracy on labelled receipts, time a page.

    ASKONCE_DATA=... python -m benchmarks.reader [--questions FILE] [--wrong] [--receipts] [--limit N] [--json OUT]

The questions (`benchmarks/data/reader_questions.jsonl`) are about the example pages and about photographed VAT and
taxi invoices and receipts under `ASKONCE_DATA`; what can't be read there is skipped. Many of them can't be answered
from the page or aim at a field beside another. Two figures count: how many of the answers given are wrong (the goal is
at most 2 %; an answer to a question that the page can't answer is wrong), and how many of the answerable questions were
answered rightly (at least 50 %). An answer is right when it is the label or one of its alternatives but for case,
white space and punctuation, or the same number. What was recognised on a page is kept in `--pages`, so that a second
run takes seconds; delete it when the recogniser changes.

With `--receipts`: accuracy by field on labelled receipts, ICDAR 2019 SROIE (`$ASKONCE_DATA/images/sroie`: a jpg and a
json with company, date, address and total each). Every field is asked for as a person would ask, in English and in
Chinese, through the service's own code. An answer is exact when it equals the label to the letter; the same without
case, spaces and punctuation (a total: as a number, a date: as a day); and close when, besides, at most one letter in
ten differs (company and address). Saying "I can't find it" counts as wrong there and is also counted by itself.
Intervals are Clopper-Pearson, 95 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import statistics
import sys
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz
from scipy.stats import beta

from inference_service.engine import BadAskError
from inference_service.reader.answering import reply
from inference_service.reader.document import Document, study
from inference_service.reader.engine import ReaderSettings
from inference_service.reader.page import Line, Page, arrange
from inference_service.reader.recogniser import Recogniser

QUESTIONS = {
    "company": ("Which company issued this receipt?", "商家名称是什么？"),
    "date": ("What is the date of the receipt?", "日期是哪天？"),
    "address": ("What is the address?", "店铺地址是什么？"),
    "total": ("What is the total amount?", "总金额是多少？"),
}
QUESTIONS_FILE = Path(__file__).parent / "data" / "reader_questions.jsonl"

CLOSE = 90.0
"""Least similarity of a close answer, 0 to 100."""


@dataclass(slots=True)
class Score:
    """What is counted for one field."""

    asked: int = 0
    exact: int = 0
    same: int = 0
    close: int = 0
    refused: int = 0


def plain(name: str, text: str) -> str:
    """A value without what does not matter: case, spaces, punctuation, a total's currency, the style of a date."""
    text = text.upper()
    if name == "total":
        number = re.search(r"\d[\d,]*(?:\.\d+)?", text)
        return f"{float(number.group().replace(',', '')):.2f}" if number else ""
    if name == "date":
        months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
        parts = re.findall(r"\d+|[A-Z]{3}", text)
        numbers = [
            months.index(part) + 1 if part in months else int(part)
            for part in parts
            if part in months or part[0].isdigit()
        ]
        return "-".join(
            str(number + 2000 if part > 1 and number < 100 else number) for part, number in enumerate(numbers)
        )
    return re.sub(r"[\W_]", "", text)


def count(score: Score, name: str, answer: str, answered: bool, label: str) -> None:
    """Compares one answer with its label."""
    score.asked += 1
    if not answered:
        score.refused += 1
        return
    same = plain(name, answer) == plain(name, label)
    score.exact += answer.strip() == label.strip()
    score.same += same
    alike = name in ("company", "address") and fuzz.ratio(plain(name, answer), plain(name, label)) >= CLOSE
    score.close += same or alike


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the set."""

    image: str
    """Below `examples` for pages, else below `$ASKONCE_DATA/images`."""
    text: str
    kind: str
    accepted: tuple[str, ...]
    """Right answers; none where the page can't answer."""
    trap: bool


@dataclass(slots=True)
class Tally:
    """What is counted for one kind of question."""

    answerable: int = 0
    unanswerable: int = 0
    right: int = 0
    wrong: int = 0


def read_questions(file: Path) -> list[Question]:
    """The questions of a file, one JSON object a line."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        each = json.loads(line)
        accepted = (each["answer"], *each.get("alternatives", ())) if each["answer"] else ()
        found.append(Question(each["image"], each["question"], each["kind"], accepted, each["trap"]))
    return found


def locate(image: str) -> Path | None:
    """The file of a question's image; None where it is absent."""
    data = os.environ.get("ASKONCE_DATA", "")
    file = Path("examples") / image if image.startswith("pages/") else Path(data) / "images" / image
    return file if file.exists() and (data or image.startswith("pages/")) else None


class Pages:
    """Recognised pages, kept in a folder under the digest of their file."""

    def __init__(self, folder: Path, settings: ReaderSettings) -> None:
        self.folder, self.settings = folder, settings
        self.recogniser: Recogniser | None = None

    def page(self, file: Path) -> Page:
        """What stands on an image."""
        content = file.read_bytes()
        kept = self.folder / f"{hashlib.sha256(content).hexdigest()[:32]}-{self.settings.max_pixels}.json"
        if not kept.exists():
            if self.recogniser is None:
                self.recogniser = Recogniser(self.settings.threads, self.settings.max_side)
            page = self.recogniser.read(content, self.settings.max_pixels)
            lines = [[line.text, line.left, line.top, line.right, line.bottom, line.score] for line in page.lines]
            self.folder.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps([page.width, page.height, lines], ensure_ascii=False), encoding="utf-8")
        width, height, lines = json.loads(kept.read_text(encoding="utf-8"))
        return arrange(width, height, [Line(*each) for each in lines])


def agrees(said: str, accepted: str) -> bool:
    """Whether an answer says what an accepted one says: equal but for case, white space, punctuation and currency, or
    the same number."""
    left, right = (re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text).casefold()) for text in (said, accepted))
    if left == right:
        return True
    numbers = [
        re.sub(r"(?i)rm|myr|usd|gbp|eur|cny|rmb|元|[$£€¥￥,\s]", "", unicodedata.normalize("NFKC", text))
        for text in (said, accepted)
    ]
    try:
        return float(numbers[0]) == float(numbers[1])
    except ValueError:
        return False


def ask_questions(questions: list[Question], pages: Pages, show_wrong: bool) -> dict[str, Any]:
    """Asks all questions and prints the table by kind."""
    tallies: dict[str, Tally] = {}
    documents: dict[str, Document] = {}
    skipped = 0
    for each in questions:
        file = locate(each.image)
        if file is None:
            skipped += 1
            continue
        if each.image not in documents:
            try:
                documents[each.image] = study(pages.page(file))
            except BadAskError as error:  # nothing is answered about it
                print(f"unreadable {each.image}: {error.reason}")
                documents[each.image] = study(arrange(1, 1, ()))
        said = reply(documents[each.image], each.text)
        tally = tallies.setdefault(each.kind, Tally())
        tally.answerable += bool(each.accepted)
        tally.unanswerable += not each.accepted
        right = said.answered and any(agrees(said.text, accepted) for accepted in each.accepted)
        tally.right += right
        tally.wrong += said.answered and not right
        if show_wrong and said.answered and not right:
            print(f"wrong  {each.image} {each.kind}: {each.text!r} -> {said.text!r}, not {each.accepted[:2]}")
        elif show_wrong and each.accepted and not said.answered:
            print(f"silent {each.image} {each.kind}: {each.text!r}, {each.accepted[:2]}")
    print(f"\n{'kind':15} {'answerable':>10} {'others':>7} {'right':>6} {'wrong':>6}")
    for kind, tally in sorted(tallies.items(), key=lambda item: item[0]):
        print(f"{kind:15} {tally.answerable:10} {tally.unanswerable:7} {tally.right:6} {tally.wrong:6}")
    right, wrong = (sum(getattr(tally, name) for tally in tallies.values()) for name in ("right", "wrong"))
    answerable = sum(tally.answerable for tally in tallies.values())
    if not tallies:
        print("skipped: no image of the set is here; set ASKONCE_DATA", file=sys.stderr)
        return {}
    print(f"wrong among answered:       {share(wrong, max(1, right + wrong))} of {right + wrong}")
    print(f"right among the answerable: {share(right, max(1, answerable))} of {answerable}")
    if skipped:
        print(f"skipped: {skipped} questions whose image is not here")
    return {"questions": len(questions) - skipped, "answerable": answerable, "right": right, "wrong": wrong}


def interval(hits: int, asked: int) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of a share."""
    low = float(beta.ppf(0.025, hits, asked - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, asked - hits)) if hits < asked else 1.0
    return low, high


def share(hits: int, asked: int) -> str:
    """A share with its interval."""
    low, high = interval(hits, asked)
    return f"{hits / asked:5.1%} ({low:.0%}-{high:.0%})"


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__.split("\n")[0])
    parser.add_argument("--questions", type=Path, default=QUESTIONS_FILE, help="a set of questions, JSON lines")
    parser.add_argument("--wrong", action="store_true", help="also print the questions that were not answered rightly")
    parser.add_argument("--pages", type=Path, default=Path("var/pages"), help="where recognised pages are kept")
    parser.add_argument("--receipts", action="store_true", help="also measure fields and time on labelled receipts")
    parser.add_argument("--limit", type=int, default=0, help="read only so many receipts, evenly spread")
    parser.add_argument("--threads", type=int, default=ReaderSettings().threads, help="threads of ONNX Runtime")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    settings = ReaderSettings(threads=chosen.threads)
    pages = Pages(chosen.pages, settings)
    figures: dict[str, Any] = ask_questions(read_questions(chosen.questions), pages, chosen.wrong)
    if chosen.receipts:
        figures |= measure_receipts(chosen.limit, settings)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def measure_receipts(limit: int, settings: ReaderSettings) -> dict[str, Any]:
    """Accuracy by field on labelled receipts, and time."""
    folder = Path(os.environ.get("ASKONCE_DATA", "")) / "images" / "sroie"
    files = sorted(folder.glob("*.jpg")) if os.environ.get("ASKONCE_DATA") else []
    if not files:
        print("skipped: no labelled receipts; set ASKONCE_DATA to the folder that holds images/sroie", file=sys.stderr)
        return {}
    if limit:
        files = files[:: max(1, len(files) // limit)][:limit]
    recogniser = Recogniser(settings.threads, settings.max_side)
    scores = {(name, language): Score() for name in QUESTIONS for language in ("en", "zh")}
    reading: list[float] = []
    busy = 0.0
    answering: list[float] = []
    for number, file in enumerate(files, 1):
        labels: dict[str, str] = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        started, spent = time.perf_counter(), time.process_time()
        document = study(recogniser.read(file.read_bytes(), settings.max_pixels))
        reading.append(time.perf_counter() - started)
        busy += time.process_time() - spent
        for name, questions in QUESTIONS.items():
            for language, question in zip(("en", "zh"), questions, strict=True):
                if not labels.get(name):
                    continue
                started = time.perf_counter()
                said = reply(document, question)
                answering.append(time.perf_counter() - started)
                count(scores[name, language], name, said.text, said.answered, labels[name])
        if number % 10 == 0 or number == len(files):
            print(f"{number}/{len(files)} receipts, {statistics.fmean(reading) * 1000:.0f} ms a page", flush=True)
    print(f"\n{'field':9} {'asked in':8} {'n':>4}  {'exact':16} {'same':16} {'close':16} {'refused':>8}")
    figures: dict[str, Any] = {}
    for (name, language), score in scores.items():
        cells = " ".join(f"{share(hits, score.asked):16}" for hits in (score.exact, score.same, score.close))
        print(f"{name:9} {language:8} {score.asked:4}  {cells} {score.refused:8}")
        figures[f"{name}_{language}"] = {
            "n": score.asked,
            "exact": score.exact / score.asked,
            "same": score.same / score.asked,
            "same_interval": interval(score.same, score.asked),
            "close": score.close / score.asked,
            "refused": score.refused / score.asked,
        }
    pages = sorted(reading)
    p95 = pages[min(len(pages) - 1, int(0.95 * len(pages)))]
    print(
        f"\nreading a page: {statistics.fmean(pages) * 1000:.0f} ms on average, p95 {p95 * 1000:.0f} ms, "
        f"{busy / len(pages) * 1000:.0f} ms of processor time with {settings.threads} thread(s)"
    )
    print(f"answering about a page that was read: {statistics.fmean(answering) * 1000:.2f} ms")
    figures["page_cpu_ms"] = busy / len(pages) * 1000
    figures["page_ms"] = statistics.fmean(pages) * 1000
    figures["page_p95_ms"] = p95 * 1000
    figures["answer_ms"] = statistics.fmean(answering) * 1000
    return figures


if __name__ == "__main__":
    sys.exit(main())
