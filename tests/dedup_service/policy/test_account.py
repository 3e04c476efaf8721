"""The account of risk."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dedup_service.policy.account import CREDIT, SPENT, TENANTS, Account, affordable, entered


@given(st.lists(st.floats(0, 0.5), max_size=300), st.sampled_from([0.0, 0.002, 0.01, 0.05]))
def test_costs_never_outrun_the_budget(offered: list[float], budget: float) -> None:
    """Whatever is offered in whatever order, after every hit the costs paid sum up to at most half a budget a hit and
    the credit."""
    account, hits, paid = Account(), 0, 0.0
    for cost in offered:
        if affordable(cost, account.balance("acme"), budget):
            account.settle("acme", cost, budget)
            hits, paid = hits + 1, paid + cost
            assert paid <= hits * SPENT * budget + CREDIT + 1e-6


def test_exact_repeats_earn_what_risky_hits_spend() -> None:
    """Nine exact repeats earn one hit of five budgets; saved credit is bounded."""
    balance = 0.0
    assert not affordable(0.05, balance, 0.01)
    for _ in range(9):
        balance = entered(balance, 0.0, 0.01)
    assert affordable(0.05, balance, 0.01)
    for _ in range(10_000):
        balance = entered(balance, 0.0, 0.01)
    assert balance == CREDIT


def test_tenants_have_accounts_of_their_own() -> None:
    """What one tenant spends is not missing to another, and the number of accounts is bounded."""
    account = Account()
    account.settle("acme", 0.9, 0.01)
    assert account.balance("acme") < account.balance("other") == CREDIT
    for number in range(TENANTS + 50):
        account.settle(f"t{number}", 0.5, 0.01)
    assert len(account.balances) == TENANTS


def test_with_a_calibrated_risk_the_wrong_answers_stay_within_the_budget() -> None:
    """Over 300 runs of 3,000 requests, half of them exact repeats and half risky candidates, the wrong answers
    exceed the budget in less than 5 % of them, and the account is what keeps them there."""
    rng = np.random.default_rng(2)
    budget = 0.01
    kept, reckless, hits = [], [], []
    for _ in range(300):
        risks = np.where(rng.random(3_000) < 0.5, 0.0, rng.uniform(0, 0.05, 3_000))
        wrong = rng.random(3_000) < risks
        balance, served, errors = CREDIT, 0, 0
        for risk, is_wrong in zip(risks.tolist(), wrong.tolist(), strict=True):
            if affordable(risk, balance, budget):
                balance, served, errors = entered(balance, risk, budget), served + 1, errors + is_wrong
        kept.append(errors)
        hits.append(served)
        reckless.append(int(wrong.sum()))
    assert np.mean(np.array(kept) > budget * np.array(hits)) < 0.05
    assert np.mean(np.array(reckless) > budget * 3_000) > 0.8
