"""The account of risk: hits earn the error budget and pay for their own risk, so that their mean stays within it.

Before there are enough labels for a learnt threshold, a hit is allowed more than the budget, because most hits are
exact repeats that risk nothing. That is true of most traffic and must not be left to luck: the account makes sure
that after n hits their costs sum up to at most n times `SPENT` budgets and `CREDIT`. A cost is the expected number of
wrong answers given everything that happened before, so the wrong answers minus their costs form a martingale (a
supermartingale where costs are too high), and the expected number of wrong answers obeys the same bound, in whatever
order requests come. Labels correct the costs where the calibration is off (`thresholds.Bound.price`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

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
    """The balance of every tenant, for a service without replicas. Not thread-safe: for the event loop."""

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


class Deposits(Protocol):
    """The accounts of a fleet, in a database that all replicas share. Every method blocks; an OSError or any error of
    the database means that nothing was got."""

    def draw(self, tenant: str, amount: float) -> float:
        """Takes up to `amount` out of a tenant's account, which opens with `CREDIT`; returns what there was, 0 and
        more. Never gives the same twice."""
        ...

    def deposit(self, tenant: str, amount: float) -> None:
        """Puts something back; the account never holds more than `CREDIT`."""
        ...


class LeasedAccount:
    """One replica's share of a fleet's accounts: allowances drawn ahead, so that no hit waits for the database.

    A replica spends only what it has drawn and what its own hits have earned since. So at any time the costs of all
    hits sum up to at most the shares that these earned and one `CREDIT` a tenant, for the fleet as a whole, whatever
    dies or is cut off in whatever step: what was drawn and not spent is lost then, which makes the cache stricter
    until new hits have earned it back. `balance` and `settle` are for the event loop, `step` is for a thread of its
    own; it waits until a tenant runs low.
    """

    def __init__(self, deposits: Deposits, *, allowance: float = 0.2) -> None:
        """`allowance` is what a replica holds of a tenant's account at most, in expected wrong answers."""
        self.deposits = deposits
        self.allowance = allowance
        self.lock = threading.Lock()
        self.balances: OrderedDict[str, float] = OrderedDict()
        self.uneven: set[str] = set()
        self.wanted = threading.Event()

    def balance(self, tenant: str) -> float:
        """Expected wrong answers that the tenant's hits may still cost here; asks for more when it is low."""
        with self.lock:
            held = self.balances.get(tenant, 0.0)
            if held < self.allowance / 2:
                self.want(tenant)
            return held

    def settle(self, tenant: str, cost: float, budget: float) -> None:
        """Enters one hit: earns its share of the budget, pays `cost`."""
        with self.lock:
            self.balances[tenant] = self.balances.get(tenant, 0.0) + SPENT * budget - cost
            self.balances.move_to_end(tenant)
            if not self.allowance / 2 <= self.balances[tenant] <= 2 * self.allowance:
                self.want(tenant)
            if len(self.balances) > TENANTS:
                self.balances.popitem(last=False)

    def held(self) -> dict[str, float]:
        """What this replica holds of each tenant's account. Thread-safe."""
        with self.lock:
            return dict(self.balances)

    def want(self, tenant: str) -> None:
        """Notes that a tenant's share is to be evened. Call it under the lock."""
        self.uneven.add(tenant)
        self.wanted.set()

    def step(self, wait: float = 1.0) -> None:
        """Waits up to `wait` seconds for tenants that run low or over, and evens their shares. Blocks."""
        if self.wanted.wait(wait):
            self.wanted.clear()
            with self.lock:
                uneven, self.uneven = self.uneven, set()
            for tenant in uneven:
                self.even(tenant)

    def even(self, tenant: str) -> None:
        """Draws what is missing, puts back what is over."""
        with self.lock:
            over = self.balances.get(tenant, 0.0) - self.allowance
            if over > 0:  # taken out here first: were it put back first, it could be spent twice
                self.balances[tenant] -= over
        if over > 0:
            self.deposits.deposit(tenant, over)
        elif over < 0 and (drawn := self.deposits.draw(tenant, -over)) > 0:
            with self.lock:
                self.balances[tenant] = self.balances.get(tenant, 0.0) + drawn

    def close(self) -> None:
        """Puts everything back. Blocks. No hit may be settled afterwards."""
        with self.lock:
            held, self.balances = self.balances, OrderedDict()
        for tenant, balance in held.items():
            if balance > 0:
                self.deposits.deposit(tenant, balance)


def entered(balance: float, cost: float, budget: float) -> float:
    """The balance after one hit; never above `CREDIT`."""
    return min(CREDIT, balance + SPENT * budget - cost)


def affordable(cost: float, balance: float, budget: float) -> bool:
    """Whether a hit may be served: what it costs beyond its own share of the budget must be there."""
    return cost <= balance + SPENT * budget + SLACK
