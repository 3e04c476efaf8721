"""Makes a stream of requests for `benchmarks.replay`: who asks what about which image, in order, with the right answer.

    python -m benchmarks.make_stream OUT [--requests 10000] [--images 300] [--copies 0.3] [--alike 0.1] [--noise 0]
    [--questions SET]

OUT gets `stream.jsonl` and the image files. Images are labelled receipts from ASKONCE_DATA (company, date, address,
total; left out where that is not set) and documents that the project draws. Their popularity follows Zipf's law, as
that of requests in most caches does. Questions come from the project's own set or from SET, any file of JSON lines with
intent, family, lang and text; `ALIASES` match its intents to what the documents say, and what no intent asks is not
asked. Some phrasings are more popular than others. Of the requests, `--copies` bring a changed file of an image
(re-encoded, resized, cropped, turned, brightened; a fifth of them badly) and `--alike` an image that differs from a
popular one in one value. With
`--noise`, that share of answers is wrong, each in its own way.

Lines hold image, question, answer, lang, and for those who study the stream: intent, source (which image it shows)
and how.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.documents import Document, alter, draw, make_document
from benchmarks.make_image_pairs import Saved, encode, hard_copy, legible_copy
from benchmarks.questions import phrasings_of

QUESTIONS = Path(__file__).parent / "data" / "questions.toml"
ALIASES = {
    "total": ("receipt.total_amount", "invoice.gross_total"),
    "purchase-date": ("receipt.purchase_date", "invoice.issue_date"),
    "store": ("receipt.store_name", "invoice.seller_name"),
    "store-address": ("receipt.store_address", "invoice.seller_address"),
    "items-count": ("receipt.item_count",),
    "invoice-date": ("invoice.issue_date",),
    "seller": ("invoice.seller_name",),
    "invoice-number": ("invoice.number", "fapiao.invoice_number"),
    "highest-category": ("chart.max_category",),
    "lowest-category": ("chart.min_category",),
    "highest-value": ("chart.max_value",),
    "chart-title": ("chart.title",),
}
"""What other sets call the intents that documents have answers to; the first that a set has is taken."""
KINDS = ("receipt", "invoice", "invoice_zh", "chart")
COPIES = 3
"""Changed files made of one image at the most."""
ALIKES = 2
"""Look-alikes made of one document at the most."""
MOST_PIXELS, MOST_BYTES = 20_000_000, 5_000_000
"""Copies that got larger are shrunk: the gateway refuses giants."""
HARD = 0.2
"""Share of copies that are made badly."""
CHINESE = {"receipt": 0.35, "invoice": 0.35, "invoice_zh": 0.8, "chart": 0.35, "photographed": 0.35}
"""Share of Chinese questions by kind of image."""


@dataclass
class Subject:
    """One image that can be asked about."""

    name: str
    kind: str
    answers: Mapping[str, str]
    """Right answers by intent."""
    document: Document | None = None
    """What it was drawn from; None for a photographed receipt."""
    path: Path | None = None
    files: list[str] = field(default_factory=list)
    """The original file, then copies."""


@dataclass(frozen=True)
class Shares:
    """How requests are drawn."""

    copies: float
    alike: float
    noise: float
    images: float
    """Exponent of the popularity of images."""
    phrasings: float
    """Exponent of the popularity of phrasings."""


class Maker:
    """Draws requests and writes the files that they need."""

    def __init__(self, out: Path, images: int, shares: Shares, seed: int, questions: Path = QUESTIONS) -> None:
        self.out = out
        self.shares = shares
        self.chance = random.Random(seed)
        self.phrasings = read_phrasings(self.chance, questions)
        self.subjects = self.gather(images)
        self.weights = zipf(len(self.subjects), shares.images)
        self.alikes: dict[str, list[Subject]] = {}
        self.open: dict[str, Image.Image] = {}

    def gather(self, images: int) -> list[Subject]:
        """Receipts, where there are any, for up to half of the images; drawn documents for the rest; in random
        order."""
        found = [receipt for path in receipt_files() if (receipt := photographed(path)) is not None]
        self.chance.shuffle(found)
        subjects = found[: images // 2]
        for number in range(images - len(subjects)):
            kind = KINDS[number % len(KINDS)]
            subjects.append(drawn(f"{kind}-{number}", make_document(kind, number)))
        self.chance.shuffle(subjects)
        return subjects

    def line(self) -> dict[str, Any]:
        """One request."""
        subject = self.chance.choices(self.subjects, self.weights)[0]
        kind = self.chance.random()
        how = "original"
        if kind < self.shares.alike:
            while subject.document is None:
                subject = self.chance.choices(self.subjects, self.weights)[0]
            subject, how = self.alike(subject), "look-alike"
        elif kind < self.shares.alike + self.shares.copies:
            how = "copy"
        file = self.file(subject, copy=how == "copy")
        lang = "zh" if self.chance.random() < CHINESE[subject.kind] else "en"
        asked = sorted(intent for intent in subject.answers if (intent, lang) in self.phrasings)
        if not asked:
            return self.line()
        intent = self.chance.choice(asked)
        phrasings = self.phrasings[intent, lang]
        question = self.chance.choices(phrasings, zipf(len(phrasings), self.shares.phrasings))[0]
        answer = subject.answers[intent]
        if self.chance.random() < self.shares.noise:
            answer = spoilt(answer, self.chance)
        return {
            "image": file,
            "question": question,
            "answer": answer,
            "lang": lang,
            "intent": intent,
            "source": subject.name,
            "how": how,
        }

    def alike(self, subject: Subject) -> Subject:
        """A look-alike of a drawn document, in which an answer changed."""
        made = self.alikes.setdefault(subject.name, [])
        if len(made) < ALIKES and (not made or self.chance.random() < 0.5):
            assert subject.document is not None
            while True:
                document, what = alter(subject.document, self.chance)
                other = drawn(f"{subject.name}~{len(made)}-{what}", document)
                if other.answers != subject.answers:
                    made.append(other)
                    return other
        return self.chance.choice(made)

    def file(self, subject: Subject, *, copy: bool) -> str:
        """The file that a request brings, made when it is needed first."""
        if not subject.files:
            content = subject.path.read_bytes() if subject.path else encode(Saved(self.image(subject), ".png", 0))
            suffix = subject.path.suffix if subject.path else ".png"
            subject.files.append(self.write(f"{subject.name}{suffix}", content))
        if not copy:
            return subject.files[0]
        copies = subject.files[1:]
        if not copies or (len(copies) < COPIES and self.chance.random() < 0.5):
            make: Callable[..., tuple[Saved, str]] = hard_copy if self.chance.random() < HARD else legible_copy
            saved, way = make(self.image(subject), self.chance)
            name = f"{subject.name}-{len(copies)}-{way.replace(' ', '_').replace('%', 'pc')}{saved.suffix}"
            subject.files.append(self.write(name, within_limits(saved)))
            return subject.files[-1]
        return self.chance.choice(copies)

    def image(self, subject: Subject) -> Image.Image:
        """The picture of a subject."""
        if subject.path is not None:
            with Image.open(subject.path) as opened:
                return opened.convert("RGB")
        assert subject.document is not None
        return draw(subject.document)

    def write(self, name: str, content: bytes) -> str:
        """Writes a file; returns its path beside the stream."""
        (self.out / "images").mkdir(parents=True, exist_ok=True)
        (self.out / "images" / name).write_bytes(content)
        return f"images/{name}"


def main() -> None:
    """Writes a stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--copies", type=float, default=0.3, help="share of requests with a changed file")
    parser.add_argument("--alike", type=float, default=0.1, help="share of requests with a look-alike")
    parser.add_argument("--noise", type=float, default=0.0, help="share of answers that are wrong")
    parser.add_argument("--zipf", type=float, default=0.9, help="exponent of the images' popularity")
    parser.add_argument("--phrasings", type=float, default=0.7, help="exponent of the phrasings' popularity")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--questions", type=Path, default=QUESTIONS, metavar="SET", help="question set to ask from")
    options = parser.parse_args()
    shares = Shares(options.copies, options.alike, options.noise, options.zipf, options.phrasings)
    options.out.mkdir(parents=True, exist_ok=True)
    maker = Maker(options.out, options.images, shares, options.seed, options.questions)
    lines = [maker.line() for _ in range(options.requests)]
    with (options.out / "stream.jsonl").open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{len(lines):,} requests, {len({line['image'] for line in lines}):,} files of {options.images} images")
    print("how:", dict(Counter(line["how"] for line in lines)), "lang:", dict(Counter(line["lang"] for line in lines)))
    half = len(lines) // 2
    for name, key in (
        ("same file and text", lambda x: (x["image"], x["question"])),
        ("same image and meaning", lambda x: (x["source"], x["intent"], x["lang"])),
    ):
        seen = {key(line) for line in lines[:half]}
        again = 0
        for line in lines[half:]:
            again += key(line) in seen
            seen.add(key(line))
        print(f"seen before, last half, {name}: {again / (len(lines) - half):.3f}")


def receipt_files() -> list[Path]:
    """Labelled receipts of the development data; none where it is not set."""
    root = os.environ.get("ASKONCE_DATA")
    return sorted((Path(root) / "images" / "sroie").glob("*.jpg")) if root else []


def photographed(path: Path) -> Subject | None:
    """A labelled receipt; None when the label is incomplete."""
    label = path.with_suffix(".json")
    if not label.exists():
        return None
    read = json.loads(label.read_text(encoding="utf-8"))
    names = {"total": "total", "purchase-date": "date", "store": "company", "store-address": "address"}
    answers = {intent: str(read[name]).strip() for intent, name in names.items() if str(read.get(name, "")).strip()}
    return Subject(f"sroie-{path.stem}", "photographed", answers, path=path) if len(answers) == len(names) else None


def drawn(name: str, document: Document) -> Subject:
    """A drawn document with what can be read off it."""
    values = document.values
    if document.kind == "chart":
        bars = {values[key.replace("bar", "label")]: value for key, value in values.items() if key.startswith("bar")}
        high, low = max(bars, key=lambda x: bars[x]), min(bars, key=lambda x: bars[x])
        answers = {
            "highest-category": high,
            "lowest-category": low,
            "highest-value": str(bars[high]),
            "chart-title": values["title"],
        }
        return Subject(name, "chart", answers, document)
    total = f"{sum(value[2] for key, value in values.items() if key.startswith('item')) / 100:,.2f}"
    if document.kind == "receipt":
        count = sum(key.startswith("item") for key in values)
        answers = {
            "total": total,
            "purchase-date": values["date"],
            "store": values["shop"],
            "items-count": str(count),
        }
    else:
        answers = {
            "total": total,
            "invoice-date": values["date"],
            "seller": values["shop"],
            "invoice-number": values["number"],
        }
    return Subject(name, document.kind, answers, document)


def read_phrasings(chance: random.Random, questions: Path = QUESTIONS) -> dict[tuple[str, str], list[str]]:
    """Phrasings by intent and language, in an order of popularity of their own; intents of a foreign set under the
    names that documents use."""
    found = {(intent, lang): texts for (_, intent, lang), texts in phrasings_of(questions).items()}
    for ours, theirs in ALIASES.items():
        for lang in ("en", "zh"):
            known = next((found[name, lang] for name in theirs if (name, lang) in found), None)
            if known is not None:
                found.setdefault((ours, lang), known)
    return {key: chance.sample(texts, len(texts)) for key, texts in found.items()}


def within_limits(saved: Saved) -> bytes:
    """The file of a copy, its picture shrunk until the gateway takes it."""
    pixels = saved.pixels
    while True:
        content = encode(replace(saved, pixels=pixels))
        if pixels.width * pixels.height <= MOST_PIXELS and len(content) <= MOST_BYTES:
            return content
        pixels = pixels.resize((pixels.width * 3 // 4, pixels.height * 3 // 4))


def zipf(count: int, exponent: float) -> list[float]:
    """Weights that fall with the rank's power."""
    return [(rank + 1) ** -exponent for rank in range(count)]


def spoilt(answer: str, chance: random.Random) -> str:
    """A wrong answer of the same kind: one digit is another, or the words are in another order."""
    places = [at for at, letter in enumerate(answer) if letter.isdigit()]
    if places:
        at = chance.choice(places)
        return answer[:at] + chance.choice([d for d in "0123456789" if d != answer[at]]) + answer[at + 1 :]
    return f"not {answer}" if answer.isascii() else f"不是{answer}"


if __name__ == "__main__":
    main()
