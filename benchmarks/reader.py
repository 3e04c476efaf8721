"""How well the embedded reader answers: accuracy on labelled receipts, and milliseconds a page.

    ASKONCE_DATA=... python -m benchmarks.reader [--limit N] [--threads N] [--json OUT]

The receipts are ICDAR 2019 SROIE (`$ASKONCE_DATA/images/sroie`: a jpg and a json with company, date, address and total
each). Every field is asked for as a person would ask, in English and in Chinese, through the service's own code.
An answer is exact when it equals the label to the letter; the same without case, spaces and punctuation (a total: as
a number, a date: as a day); and close when, besides, at most one letter in ten differs (company and address). Intervals
are Clopper-Pearson, 95 %. Saying "I can't find it" counts as wrong here and is also counted by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz
from scipy.stats import beta

from inference_service.reader.answering import reply
from inference_service.reader.document import study
from inference_service.reader.engine import ReaderSettings
from inference_service.reader.recogniser import Recogniser

QUESTIONS = {
    "company": ("Which company issued this receipt?", "商家名称是什么？"),
    "date": ("What is the date of the receipt?", "日期是哪天？"),
    "address": ("What is the address?", "店铺地址是什么？"),
    "total": ("What is the total amount?", "总金额是多少？"),
}
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
    parser.add_argument("--limit", type=int, default=0, help="read only so many receipts, evenly spread")
    parser.add_argument("--threads", type=int, default=ReaderSettings().threads, help="threads of ONNX Runtime")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    folder = Path(os.environ.get("ASKONCE_DATA", "")) / "images" / "sroie"
    files = sorted(folder.glob("*.jpg")) if os.environ.get("ASKONCE_DATA") else []
    if not files:
        print("skipped: no labelled receipts; set ASKONCE_DATA to the folder that holds images/sroie", file=sys.stderr)
        return 0
    if chosen.limit:
        files = files[:: max(1, len(files) // chosen.limit)][: chosen.limit]
    settings = ReaderSettings(threads=chosen.threads)
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
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
