"""The account of risk: hits earn the error budget and pay for their own risk, so that their mean stays within it.

Before there are enough labels for a learnt threshold, a hit is allowed more than the budget, because most hits are
exact repeats that risk nothing. That is true of most traffic and must not be left to luck: the account makes sure
that after n hits their costs sum up to at most n times `SPENT` budgets and `CREDIT`. A cost is the expected number of
wrong answers given everything that happened before, so the wrong answers minus their costs form a martingale (a
supermartingale where costs are too high), and the expected number of wrong answers obeys the same bound, in whatever
order requests come. Labels correct the costs where the calibration is off (`thresholds.Bound.price`).
"""

from __future__ import annotations

from collections import OrderedDict

SPENT = 0.5
"""Share of the budget that may be spent. Spent in full, the wrong answers would exceed the budget in every other run by
chance alone. With half of it they do so with less than 5 % probability from 500 hits on at a budget of 1 % (Poisson,
mean 2.5: P(> 5) = 4.2 %; 0.3 % after 1,700 hits), and later a calibration that is off by nearly two is absorbed."""
CREDIT = 1.0
"""Expected wrong answers that an account may be ahead, and that it opens with. It bounds what saved-up credit can do at
once; over n hits it adds 1/n to the bound of their wrong-answer rate, a tenth of a 1 % budget after a thousand."""
TENANTS = 10_000
"""Accounts kept; the one longest unused goes first, and opens anew."""
SLACK = 1e-9


class Account:
    """The balance of every tenant, for one replica: each keeps the bound for the hits that it serves, hence all do.
    Not thread-safe: for the event loop."""

    def __init__(self) -> None:
        self.balances: OrderedDict[str, float] = OrderedDict()

    def balance(self, tenant: str) -> float:
        """Expected wrong answers that the tenant's hits may still cost."""
        return self.balances.get(tenant, CREDIT)

    def settle(self, tenant: str, cost: float, budget: float) -> None:
        """Enters one hit: earns its share of the budget, pays `cost`."""
        self.balances[tenant] = entered(self.balance(tenant), cost, budget)
        self.balances.move_to_end(tenant)
        if len(self.balances) > TENANTS:
            self.balances.popitem(last=False)


def entered(balance: float, cost: float, budget: float) -> float:
    """The balance after one hit; never above `CREDIT`."""
    return min(CREDIT, balance + SPENT * budget - cost)


def affordable(cost: float, balance: float, budget: float) -> bool:
    """Whether a hit may be served: what it costs beyond its own share of the budget must be there."""
    return cost <= balance + SPENT * budget + SLACK
