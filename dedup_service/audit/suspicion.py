"""Which reuses look wrong, and which misses look like lost hits. Pure but for the texts it is given.

A reuse is held against everything else that the ledger knows: labels of the same entry, of the same two questions on
other images, of the same two images under other questions; what the same question on the same image was answered
elsewhere; and today's vetoes. None of it needs a label of that very reuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dedup_service.audit.traffic import SAME_FILE, Traffic
from dedup_service.ledger.records import Decision
from dedup_service.policy.recorded import FORBIDDEN, RIGHT, WRONG
from dedup_service.question.answers import compare_answers
from dedup_service.question.veto import vetoes

WEIGHTS = {
    "LABELLED_WRONG": 20.0,
    "CLIENT_SAID_WRONG": 20.0,
    "ENTRY_WRONG_ELSEWHERE": 8.0,
    "VETO_NOW": 8.0,
    "IMAGES_TOLD_APART": 7.0,
    "QUESTIONS_TOLD_APART": 6.0,
    "ANSWERED_OTHERWISE": 6.0,
    "IMAGE_TAKEN_FOR_TWO": 5.0,
    "ANSWER_UNUSUAL": 4.0,
    "RISKY": 0.0,
}
"""What each sign adds to the log-odds of the estimated risk: knowledge first, contradictions next, the score last."""
MEANING = {
    "LABELLED_WRONG": "the model, asked again, or a person said something else",
    "CLIENT_SAID_WRONG": "a client called the answer wrong",
    "ENTRY_WRONG_ELSEWHERE": "the same entry was found wrong for an exact repeat of its own question",
    "VETO_NOW": "the two questions differ in a way that forbids reuse",
    "IMAGES_TOLD_APART": "the same two images were told apart in another request",
    "QUESTIONS_TOLD_APART": "the same two questions got different answers on another image",
    "ANSWERED_OTHERWISE": "the same question about the same image got another answer elsewhere",
    "IMAGE_TAKEN_FOR_TWO": "the same file was recognised as another image in other requests",
    "ANSWER_UNUSUAL": "answers to this question hardly ever look like this one",
    "RISKY": "its estimated risk is among the greatest that were served",
}
"""The signs in words."""
ABOUT_THE_ENTRY = ("LABELLED_WRONG", "CLIENT_SAID_WRONG", "ENTRY_WRONG_ELSEWHERE", "IMAGES_TOLD_APART",
                   "ANSWERED_OTHERWISE", "IMAGE_TAKEN_FOR_TWO", "ANSWER_UNUSUAL")  # fmt: skip
"""Signs that speak about one stored answer; the others speak about a pair of questions, wherever it was served."""
LEAST_RISK = 0.005
"""No estimate is taken for surer than this here, so that a sign outweighs a good score."""
FAMILIAR = 30
"""Stored answers from which on it is known what answers to a question look like."""
PROOF = 1_000
"""Recognitions by eye that one by digest outweighs."""
PAIRS = 3_000
"""Most distinct pairs of questions whose vetoes are looked up again."""


@dataclass(frozen=True)
class Finding:
    """One reuse or miss worth a look."""

    row: int
    """Its row in the traffic."""
    decision: str
    score: float
    """Log-odds that it is wrong (suspicious), or model calls to be saved (promising)."""
    signs: tuple[str, ...]
    """Why, words of `MEANING`; the reason of the miss for a promising one."""
    count: int
    """Decisions that this one stands for: the same pair, the same verdict."""
    witness: str = ""
    """A decision that gave the other answer, where that is the sign."""


def suspicious(traffic: Traffic, texts: Callable[[Sequence[str]], list[Decision]], most: int = 40) -> list[Finding]:
    """The hits most likely to be wrong, one for each pair, the worst first. `texts` reads whole decisions by id."""
    recorded = traffic.recorded
    rows = np.flatnonzero(recorded.would_hit & ~((recorded.label == RIGHT) & ~traffic.complaint))
    if len(rows) == 0:
        return []
    signs = signs_of(traffic, rows)
    witness = answered_otherwise(traffic, rows)
    signs["ANSWERED_OTHERWISE"] = witness >= 0
    signs["IMAGE_TAKEN_FOR_TWO"] = taken_for_two(traffic, rows)
    signs["ANSWER_UNUSUAL"] = unusual_answers(traffic, rows)
    risk = np.clip(np.nan_to_num(recorded.risk[rows]), LEAST_RISK, 1 - LEAST_RISK)
    score = np.log(risk / (1 - risk))
    for name, mask in signs.items():
        score += WEIGHTS[name] * mask
    own = recorded.exact[rows] | np.logical_or.reduce([signs[name] for name in ABOUT_THE_ENTRY])
    group = np.where(own, mix(traffic.entry[rows], traffic.question[rows]), recorded.pair[rows])
    rows_of = best_of_group(group, score)
    vetoed = vetoed_now(traffic, rows[rows_of], texts)
    score[rows_of] += WEIGHTS["VETO_NOW"] * vetoed
    flags = {name: mask[rows_of] for name, mask in signs.items()} | {"VETO_NOW": vetoed}
    counts = counts_of(group, group[rows_of])
    order = np.lexsort((-counts, -score[rows_of]))[: most * 3]
    found = []
    for at in order:
        row = int(rows[rows_of[at]])
        names = tuple(name for name in WEIGHTS if name in flags and flags[name][at]) or ("RISKY",)
        other = int(witness[rows_of[at]])
        seen = recorded.id[other].decode() if other >= 0 else ""
        found.append(Finding(row, recorded.id[row].decode(), float(score[rows_of[at]]), names, int(counts[at]), seen))
    return confirmed(found, texts)[:most]


def signs_of(traffic: Traffic, rows: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """The signs that labels give, for the chosen hits (k,)."""
    recorded = traffic.recorded
    wrong = (recorded.label == WRONG) | (recorded.verified == WRONG) | traffic.complaint
    same_file = traffic.image_tier.mask(*SAME_FILE)
    same_question = traffic.question_tier.mask("EXACT", "NORMALISED")
    questions = mix(traffic.question, traffic.nearest_question)
    images = mix(traffic.image, traffic.nearest_image)
    apart = (traffic.reason.mask("IMAGE_LOOKALIKE") | (wrong & same_question)) & ~same_file
    told_apart = wrong & same_file & ~same_question
    return {
        "LABELLED_WRONG": (recorded.label[rows] == WRONG) | (recorded.verified[rows] == WRONG),
        "CLIENT_SAID_WRONG": traffic.complaint[rows],
        "ENTRY_WRONG_ELSEWHERE": among(traffic.entry[rows], traffic.entry[wrong & recorded.exact]) & ~wrong[rows],
        "IMAGES_TOLD_APART": among(images[rows], images[apart]) & ~same_file[rows] & ~wrong[rows],
        "QUESTIONS_TOLD_APART": often(questions, told_apart, recorded.label == RIGHT, rows)
        & ~same_question[rows]
        & ~wrong[rows],
    }


def answered_otherwise(traffic: Traffic, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of these hits (k,) a row that gives another answer to what was asked of that image: the most common one
    among entries for that very question. -1 where there is none."""
    stored = np.flatnonzero((traffic.answer != 0) & (traffic.nearest_image != 0))
    if len(stored) == 0:
        return np.full(len(rows), -1, np.int64)
    about = mix(traffic.nearest_image, traffic.nearest_question)[stored]
    order = np.lexsort((traffic.answer[stored], about))
    keys, answers = about[order], traffic.answer[stored][order]
    starts, counts = runs(keys, answers)
    best = np.lexsort((-counts, keys[starts]))
    unique, first = np.unique(keys[starts][best], return_index=True)
    usual = starts[best][first]
    asked = mix(traffic.nearest_image[rows], traffic.question[rows])
    at = np.minimum(np.searchsorted(unique, asked), len(unique) - 1)
    differs = (unique[at] == asked) & (answers[usual[at]] != traffic.answer[rows])
    return np.where(differs, stored[order][usual[at]], -1)


def taken_for_two(traffic: Traffic, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the file behind these hits (k,) was proved to be another image in another request, or was more often
    recognised as another; where a digest of its own proves the image, it can't have been taken for another."""
    seen = np.flatnonzero(traffic.recorded.would_hit & (traffic.nearest_image != 0))
    if len(seen) == 0:
        return np.zeros(len(rows), np.bool_)
    salt = traffic.tenant.code.astype(np.int64)
    files, images = mix(traffic.file, salt), traffic.nearest_image
    order = seen[np.lexsort((images[seen], files[seen]))]
    proved = traffic.image_tier.mask("BYTES", "PIXELS")
    starts, _ = runs(files[order], images[order])
    weights = np.add.reduceat(np.where(proved[order], PROOF, 1), starts)
    best = np.lexsort((-weights, files[order][starts]))
    unique, first = np.unique(files[order][starts][best], return_index=True)
    usual = images[order][starts[best][first]]
    at = np.minimum(np.searchsorted(unique, files[rows]), len(unique) - 1)
    taken = (unique[at] == files[rows]) & (images[rows] != 0)
    found: NDArray[np.bool_] = taken & (usual[at] != images[rows]) & ~proved[rows]
    return found


def unusual_answers(traffic: Traffic, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether these hits (k,) served an answer of a shape that under 2 % of the stored answers to the asked question
    have, a question with at least `FAMILIAR` answers in store."""
    stored = np.flatnonzero((traffic.shape != 0) & (traffic.entry != 0))
    _, first = np.unique(traffic.entry[stored], return_index=True)
    stored = stored[first]
    order = stored[np.lexsort((traffic.shape[stored], traffic.nearest_question[stored]))]
    question, shape = traffic.nearest_question[order], traffic.shape[order]
    if len(order) == 0:
        return np.zeros(len(rows), np.bool_)
    starts, counts = runs(question, shape)
    total = np.bincount(np.unique(question, return_inverse=True)[1])
    names = np.unique(question)
    known = mix(question[starts], shape[starts])
    sorting = np.argsort(known)
    asked = mix(traffic.question[rows], traffic.shape[rows])
    at = np.minimum(np.searchsorted(known[sorting], asked), len(known) - 1)
    like = np.where(known[sorting][at] == asked, counts[sorting][at], 0)
    of = np.minimum(np.searchsorted(names, traffic.question[rows]), len(names) - 1)
    all_of_it = np.where(names[of] == traffic.question[rows], total[of], 0)
    found: NDArray[np.bool_] = (traffic.shape[rows] != 0) & (all_of_it >= FAMILIAR) & (like < 0.02 * all_of_it)
    return found


def runs(major: NDArray[np.int64], minor: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run of equal pairs begins in two sorted columns, and how long it is."""
    starts = np.flatnonzero(np.append(True, (major[1:] != major[:-1]) | (minor[1:] != minor[:-1]))[: len(major)])
    return starts, np.diff(np.append(starts, len(major)))


def vetoed_now(
    traffic: Traffic, rows: NDArray[np.int64], texts: Callable[[Sequence[str]], list[Decision]]
) -> NDArray[np.bool_]:
    """Whether today's vetoes part the questions of the chosen hits (k,); the most frequent pairs are looked at."""
    pairs = mix(traffic.question[rows], traffic.nearest_question[rows])
    differ = traffic.question[rows] != traffic.nearest_question[rows]
    keys, first, counts = np.unique(pairs[differ], return_index=True, return_counts=True)
    chosen = np.argsort(-counts, kind="stable")[:PAIRS]
    at = np.flatnonzero(differ)[first[chosen]]
    ids = [traffic.recorded.id[row].decode() for row in rows[at]]
    forbidden = {
        decision.id
        for decision in texts(ids)
        if decision.question_text and decision.nearest_question_text
        and vetoes(decision.question_text, decision.nearest_question_text)
    }  # fmt: skip
    bad = keys[chosen][[identity in forbidden for identity in ids]] if ids else np.zeros(0, np.int64)
    found: NDArray[np.bool_] = np.isin(pairs, bad) & differ
    return found


def confirmed(found: list[Finding], texts: Callable[[Sequence[str]], list[Decision]]) -> list[Finding]:
    """Takes the sign of another answer back where the two answers say the same in other words, and sorts again."""
    wanted = [identity for finding in found if finding.witness for identity in (finding.decision, finding.witness)]
    answers = {decision.id: decision.nearest_answer_text for decision in texts(wanted)}
    checked = []
    for finding in found:
        here, there = answers.get(finding.decision), answers.get(finding.witness)
        if here and there and compare_answers(here, there).verdict != "different":
            signs = tuple(sign for sign in finding.signs if sign != "ANSWERED_OTHERWISE") or ("RISKY",)
            score = finding.score - WEIGHTS["ANSWERED_OTHERWISE"]
            finding = replace(finding, score=score, signs=signs, witness="")
        checked.append(finding)
    return sorted(checked, key=lambda finding: (-finding.score, -finding.count))


def promising(traffic: Traffic, most: int = 25) -> list[Finding]:
    """Misses whose stored answer was right, or probably was, by the model calls that serving them would have saved."""
    recorded = traffic.recorded
    rows = np.flatnonzero(
        ~recorded.would_hit & np.isfinite(recorded.risk) & (recorded.label != WRONG) & (traffic.answer != 0)
    )
    if len(rows) == 0:
        return []
    forbidden = traffic.reason.mask(*FORBIDDEN)[rows]
    known = recorded.label[rows] == RIGHT
    rows, known = rows[known | ~forbidden], known[known | ~forbidden]
    chance = np.where(known, 1.0, 1 - recorded.risk[rows])
    keys, inverse, counts = np.unique(recorded.pair[rows], return_inverse=True, return_counts=True)
    value = np.bincount(inverse, weights=chance, minlength=len(keys))
    best = np.lexsort((-recorded.time[rows], -chance, inverse))
    _, first = np.unique(inverse[best], return_index=True)
    representative = best[first]
    words = traffic.reason.words
    found = []
    for at in np.argsort(-value, kind="stable")[:most]:
        row = int(rows[representative[at]])
        signs = (words[traffic.reason.code[row]], *(("LABELLED_RIGHT",) if known[representative[at]] else ()))
        found.append(Finding(row, recorded.id[row].decode(), float(value[at]), signs, int(counts[at])))
    return found


def mix(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """One key (n,) for two keys."""
    with np.errstate(over="ignore"):
        product: NDArray[np.int64] = one * np.int64(-7046029254386353131) ^ (other + (other >> 29))
    return product


def among(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which keys are among the wanted ones; 0 never is."""
    return np.isin(keys, wanted[wanted != 0])


def often(
    keys: NDArray[np.int64], against: NDArray[np.bool_], in_favour: NDArray[np.bool_], rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether at least a fifth of what was said about a key speaks against it; one slip among many is noise."""
    bad, bad_count = np.unique(keys[against], return_counts=True)
    if len(bad) == 0:
        return np.zeros(len(rows), np.bool_)
    good, good_count = np.unique(keys[in_favour], return_counts=True)
    praise = np.zeros(len(bad))
    if len(good):
        at = np.minimum(np.searchsorted(good, bad), len(good) - 1)
        praise = np.where(good[at] == bad, good_count[at], 0)
    return among(keys[rows], bad[bad_count >= 0.2 * (bad_count + praise)])


def best_of_group(group: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The row of the highest score in every group."""
    order = np.lexsort((-score, group))
    _, first = np.unique(group[order], return_index=True)
    return order[first]


def counts_of(group: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows each of the keys has in `group`."""
    known, counts = np.unique(group, return_counts=True)
    return counts[np.searchsorted(known, keys)]
