"""Thresholds learnt from labels, per kind of evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dedup_service.policy.account import SPENT
from dedup_service.policy.policy import Policy
from dedup_service.policy.thresholds import (
    PRIOR,
    Bound,
    Labelled,
    Rule,
    Thresholds,
    from_json,
    labels_needed_for,
    latest_of_pair,
    learn,
    noise_of,
    prior,
    to_json,
)


def labelled(*strata: tuple[str, list[float], list[bool]]) -> Labelled:
    """Labels of distinct pairs: name, risks and wrongs for each stratum."""
    risk = np.concatenate([np.array(risks, float) for _, risks, _ in strata])
    wrong = np.concatenate([np.array(wrongs, bool) for _, _, wrongs in strata])
    codes = np.concatenate([np.full(len(risks), code, np.int32) for code, (_, risks, _) in enumerate(strata)])
    names = tuple(name for name, _, _ in strata)
    numbers = np.arange(len(risk), dtype=np.int64)
    return Labelled(risk, wrong, codes, names, numbers, numbers.astype(float), np.zeros(len(risk), bool))


def test_too_few_labels_leave_the_prior_and_say_how_many_are_missing() -> None:
    """Below the least number of labels nothing is learnt, and the number still needed is stated."""
    found = learn(labelled(("exact/scored", [0.001] * 100, [False] * 100)), Policy(), version=1, time=0.0)
    bound = found.bounds["exact/scored"]
    assert bound.rule is Rule.PRIOR
    assert bound.max_risk == pytest.approx(0.05)
    assert bound.needed == labels_needed_for(Policy()) - 100


def test_enough_right_labels_open_a_stratum() -> None:
    """A kind of evidence whose labels are right far beyond the prior's risk is served up to there."""
    count = 2_000
    found = learn(
        labelled(("exact/known", list(np.linspace(0, 0.2, count)), [False] * count)), Policy(), version=3, time=5.0
    )
    bound = found.bounds["exact/known"]
    assert bound.rule is Rule.LEARNT
    assert bound.max_risk == pytest.approx(0.2)
    assert bound.upper <= 0.01
    assert (found.version, found.error_budget) == (3, 0.01)


def test_wrong_labels_that_are_the_models_own_open_a_stratum_all_the_same() -> None:
    """A kind of evidence with no more wrong labels than exact repeats have is learnt: what is left beyond the noise is
    within the budget, and a hit costs no more than that. With an unknown noise the same labels open nothing."""
    wrong = ([True] + [False] * 24) * 200
    rows = labelled(("exact/known", [0.001] * 5_000, wrong))
    known = replace(rows, repeats=5_000, repeats_wrong=250)
    assert learn(rows, Policy(), version=1, time=0.0).bounds["exact/known"].rule is Rule.PRIOR
    bound = learn(known, Policy(), version=1, time=0.0).bounds["exact/known"]
    assert bound.rule is Rule.LEARNT
    assert 0.04 < bound.noise < 0.055
    assert bound.cost(0.001) <= 0.01
    assert from_json(to_json(Thresholds(1, bounds={"exact/known": bound}))).bounds["exact/known"] == bound


def test_a_noise_that_is_not_shown_counts_as_none() -> None:
    """One differing repeat of three is no proof of noise: its lower end is near nothing."""
    assert noise_of(replace(labelled(("exact/known", [0.1], [False])), repeats=3, repeats_wrong=1), 0.95) < 0.01
    assert noise_of(labelled(("exact/known", [0.1], [False])), 0.95) == 0.0


def test_wrong_labels_inside_the_prior_close_a_stratum() -> None:
    """When a tenth and more of what the prior serves is shown to be wrong, nothing of that kind is served any more,
    under any budget."""
    found = learn(labelled(("copy/scored", [0.005] * 60, [True] * 20 + [False] * 40)), Policy(), version=1, time=0.0)
    assert found.bounds["copy/scored"].rule is Rule.CLOSED
    for budget in (0.002, 0.01, 0.2):
        assert found.bound("copy/scored", Policy(error_budget=budget)).max_risk < 0


def test_a_comparison_without_verdict_is_no_proof() -> None:
    """Labels without a verdict count as wrong where a bound must hold; the price, which corrects a risk, leaves them
    out."""
    sure = labelled(("a/b", [0.02] * 2_000, [False] * 2_000))
    assert learn(sure, Policy(), version=1, time=0.0).bounds["a/b"].rule is Rule.LEARNT
    doubtful = replace(sure, unsure=np.arange(2_000) % 20 == 0)
    found = learn(doubtful, Policy(), version=1, time=0.0).bounds["a/b"]
    assert found.rule is Rule.PRIOR
    assert found.upper > 0.05
    assert (found.labels, found.wrong) == (1_900, 0)
    assert found.price == pytest.approx(1 / 39)


def test_labels_correct_the_price() -> None:
    """Twice as many wrong labels as predicted make a kind of evidence about twice as dear, none make it cheaper, and
    few labels change little. The price holds under another budget too."""
    risks = [0.02] * 400
    dear = learn(labelled(("a/b", risks, [True] * 16 + [False] * 384)), Policy(), version=1, time=0.0)
    assert dear.bounds["a/b"].price == pytest.approx(17 / 9)
    assert dear.bound("a/b", Policy(error_budget=0.05)).cost(0.02) == pytest.approx(0.02 * 17 / 9)
    cheap = learn(labelled(("a/b", risks[:250], [False] * 250)), Policy(), version=1, time=0.0)
    assert cheap.bounds["a/b"].price == pytest.approx(1 / 6)
    few = learn(labelled(("a/b", risks[:5], [False] * 5)), Policy(), version=1, time=0.0)
    assert 0.9 < few.bounds["a/b"].price < 1
    assert dear.bound("never/seen", Policy()).cost(0.02) == 0.02


def test_strata_that_share_a_side_lend_their_price() -> None:
    """A stratum with few labels of its own costs what the strata with its image side and those with its question side
    were found to cost, the dearer of the two; its own labels outweigh that. Sides that bear no risk say nothing."""
    right = ([0.02] * 200, [False] * 200)
    few = ("copy/known", [0.02] * 5, [False] * 5)

    def price(*others: tuple[str, list[float], list[bool]]) -> float:
        return learn(labelled(few, *others), Policy(), version=1, time=0.0).bounds["copy/known"].price

    alone = price()
    assert price(("exact/known", *right)) == pytest.approx(alone), "of copies nothing is known"
    assert price(("exact/known", *right), ("copy/exact", *right)) == pytest.approx(1 / (0.1 + 5), rel=0.01)
    assert price(("exact/known", *right), ("copy/exact", [0.02] * 200, [True] * 9 + [False] * 191)) > 1.5
    assert price(("exact/judged", *right)) == pytest.approx(alone), "shares no side"
    many = learn(
        labelled(
            ("copy/known", [0.02] * 100, [True] * 10 + [False] * 90), ("exact/known", *right), ("copy/exact", *right)
        ),
        Policy(),
        version=1,
        time=0.0,
    )
    assert many.bounds["copy/known"].price > 1.5, "its own labels outweigh the others'"


def test_risks_shown_to_be_too_low_are_corrected_before_they_are_believed() -> None:
    """A kind of evidence twice as wrong as predicted may be estimated at half the risk; one that does better than
    predicted may not be estimated higher, for nothing of that kind was looked at."""
    limit = prior(Policy()).max_risk
    assert Bound(Rule.PRIOR, limit, price=2.0).most == pytest.approx(limit / 2)
    assert Bound(Rule.PRIOR, limit, price=0.2).most == limit
    assert Bound(Rule.LEARNT, 0.03, price=2.0).most == 0.03
    assert Bound(Rule.CLOSED, -1.0, price=2.0).most == -1.0


def test_what_is_learnt_costs_its_bound() -> None:
    """Below a learnt threshold every hit costs the bound of their rate, which is within the budget: it pays for
    itself."""
    count = 2_000
    found = learn(labelled(("a/b", [0.2] * count, [False] * count)), Policy(), version=1, time=0.0).bounds["a/b"]
    assert found.cost(0.2) == SPENT * found.upper <= SPENT * 0.01


def test_strata_do_not_lend_each_other_labels() -> None:
    """Good labels of one kind of evidence open nothing for another."""
    found = learn(
        labelled(("exact/known", [0.05] * 2_000, [False] * 2_000), ("copy/scored", [0.05] * 50, [False] * 50)),
        Policy(),
        version=1,
        time=0.0,
    )
    assert found.bounds["exact/known"].rule is Rule.LEARNT
    assert found.bounds["copy/scored"].rule is Rule.PRIOR
    assert found.bound("never/seen", Policy()).rule is Rule.PRIOR


def test_one_pair_counts_once() -> None:
    """A thousand labels of one pair are one piece of evidence: the latest."""
    many = labelled(("exact/scored", [0.05] * 1_000, [False] * 999 + [True]))
    same_pair = replace(many, pair=np.zeros(1_000, np.int64))
    assert list(latest_of_pair(same_pair)) == [999]
    unsure = np.arange(1_000) > 500
    assert list(latest_of_pair(replace(same_pair, unsure=unsure))) == [500], "a verdict goes before a later doubt"
    assert learn(same_pair, Policy(), version=1, time=0.0).bounds["exact/scored"].labels <= 1


def test_closed_and_learnt_survive_storage() -> None:
    """Thresholds come back from JSON as they were."""
    found = learn(
        labelled(
            ("exact/known", [0.05] * 2_000, [False] * 2_000), ("copy/scored", [0.005] * 60, [True] * 30 + [False] * 30)
        ),
        Policy(),
        version=7,
        time=1.5,
    )
    assert from_json(to_json(found)) == found
    assert from_json(to_json(PRIOR)) == PRIOR


def test_no_labels_and_no_budget() -> None:
    """Nothing labelled gives the prior; a budget of zero closes everything that is not exact."""
    empty = labelled(("a/b", [], []))
    assert learn(empty, Policy(), version=1, time=0.0).bounds == {}
    assert learn(empty, Policy(error_budget=0), version=1, time=0.0).bound("a/b", Policy(error_budget=0)).max_risk < 0


def test_joint_confidence_over_strata() -> None:
    """With two strata to test, each is tested at half the error probability: their bounds hold together."""
    count = 450
    one = learn(labelled(("a/a", [0.1] * count, [False] * count)), Policy(), version=1, time=0.0)
    two = learn(
        labelled(("a/a", [0.1] * count, [False] * count), ("b/b", [0.1] * count, [False] * count)),
        Policy(),
        version=1,
        time=0.0,
    )
    assert one.bounds["a/a"].rule is Rule.LEARNT
    assert two.bounds["a/a"].rule is Rule.PRIOR


def test_default_thresholds_are_the_prior() -> None:
    """A tenant without labels is under the prior: five budgets at the most, and never more than a tenth."""
    assert Thresholds().bound("exact/known", Policy(error_budget=0.002)).max_risk == pytest.approx(0.01)
    assert Thresholds().bound("exact/known", Policy(error_budget=0.05)).max_risk == pytest.approx(0.1)
