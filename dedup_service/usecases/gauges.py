"""What is measured from time to time, because nothing counts it as it happens: what the store holds, what the accounts
of risk hold, and how often answers from memory are wrong.

A tenant is a label only where the operator named it: there may be any number of them. All together are `names.ALL`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import Gauge

from askonce.names import ALL
from dedup_service.policy.account import CREDIT
from dedup_service.policy.noise import Compared, beyond_noise
from dedup_service.policy.revisions import PolicyBook
from dedup_service.policy.risk import estimate
from dedup_service.store.records import Memory

HOLDINGS_SECONDS = 15.0
FIGURES_SECONDS = 60.0
"""How often the store and the ledger are asked."""
WINDOW = 7 * 86_400.0
"""Seconds of verified answers that the wrong-answer rate looks back on."""
CONFIDENCE = 0.95
"""Confidence of its interval."""

ENTRIES = Gauge("askonce_dedup_entries", "Stored answers, expired ones not yet swept included.")
IMAGES = Gauge("askonce_dedup_images", "Stored images.")
DISK = Gauge("askonce_dedup_disk_bytes", "What the embedded store takes on disk; 0 with a Qdrant server.")
BALANCE = Gauge(
    "askonce_dedup_budget_balance",
    'Expected wrong answers that hits may still cost; at "-" the least of any tenant. Place: replica (drawn ahead) or '
    "database.",
    ["tenant", "place"],
)
SPENT = Gauge("askonce_dedup_budget_spent_tenants", "Tenants whose account is empty, in the replica and the database.")
BUDGET = Gauge(
    "askonce_dedup_error_budget", 'Largest share of wrong answers allowed; at "-" of any tenant.', ["tenant"]
)
RATE = Gauge(
    "askonce_dedup_wrong_rate",
    "Share of wrong answers among hits of the last seven days, from hits drawn at random and compared. Bound: low and "
    "high are the ends of its 95 % interval, mid the estimate. Without comparisons it is 0 to 1.",
    ["tenant", "bound"],
)
REUSE = Gauge(
    "askonce_dedup_reuse_wrong_rate",
    "The part of askonce_dedup_wrong_rate that is reuse's: beyond the model's own noise, which verified repeats of the "
    "very same request show. This is what the error budget bounds.",
    ["tenant", "bound"],
)
VERIFIED = Gauge(
    "askonce_dedup_verified_hits",
    "Hits of the last seven days that were drawn at random and compared, by verdict.",
    ["tenant", "verdict"],
)


class Held(Protocol):
    """This replica's part of the accounts."""

    def held(self) -> dict[str, float]:
        """What it holds of each tenant's account. Thread-safe."""


class Accounts(Protocol):
    """The accounts themselves."""

    def balances(self) -> dict[str, float]:
        """What stands in every account. Blocks."""


class Verified(Protocol):
    """Where comparisons are read."""

    def verified(self, since: float) -> dict[str, Compared]:
        """Compared hits since then (seconds since the epoch), by tenant. Blocks."""


class Gauges:
    """Sets them. Its two steps are for `PeriodicTask`s, which log when one fails."""

    def __init__(
        self,
        memory: Memory,
        account: Held,
        accounts: Accounts,
        labels: Verified,
        book: PolicyBook,
        tenants: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`tenants` are those that have figures of their own."""
        self.memory = memory
        self.account = account
        self.accounts = accounts
        self.labels = labels
        self.book = book
        self.tenants = tuple(tenants)
        self.clock = clock

    async def holdings(self) -> float:
        """Asks the store; returns the seconds until the next time. Raises MemoryUnavailableError."""
        found = await self.memory.holdings()
        ENTRIES.set(found.entries)
        IMAGES.set(found.images)
        DISK.set(found.disk_bytes)
        return HOLDINGS_SECONDS

    async def figures(self) -> float:
        """Asks the ledger; returns the seconds until the next time. Raises what the database raises."""
        compared, balances = await asyncio.to_thread(self.read)
        self.balance(self.account.held(), balances)
        repeats = tuple(sample for each in compared.values() for sample in each.repeats)
        others = tuple(sample for each in compared.values() for sample in each.others)
        self.rate(ALL, Compared(repeats, others))
        budgets = [self.budget(tenant) for tenant in compared] or [self.book.default.error_budget]
        BUDGET.labels(ALL).set(max(budgets))
        for tenant in self.tenants:
            self.rate(tenant, compared.get(tenant, Compared()))
            BUDGET.labels(tenant).set(self.budget(tenant))
        return FIGURES_SECONDS

    def read(self) -> tuple[dict[str, Compared], dict[str, float]]:
        """What the database says. Blocks."""
        return self.labels.verified(self.clock() - WINDOW), self.accounts.balances()

    def budget(self, tenant: str) -> float:
        """A tenant's error budget."""
        return self.book.current(tenant).policy.error_budget

    def balance(self, held: Mapping[str, float], stored: Mapping[str, float]) -> None:
        """Sets what the accounts hold. One that was never used opens with `CREDIT`."""
        BALANCE.labels(ALL, "replica").set(min(held.values(), default=0.0))
        BALANCE.labels(ALL, "database").set(min(stored.values(), default=CREDIT))
        for tenant in self.tenants:
            BALANCE.labels(tenant, "replica").set(held.get(tenant, 0.0))
            BALANCE.labels(tenant, "database").set(stored.get(tenant, CREDIT))
        SPENT.set(sum(1 for tenant, balance in stored.items() if balance <= 0 and held.get(tenant, 0.0) <= 0))

    def rate(self, tenant: str, compared: Compared) -> None:
        """Sets how often answers from memory are wrong, and how often by reuse's own fault."""
        samples = compared.samples
        for gauge, interval in (
            (RATE, estimate(samples, CONFIDENCE)),
            (REUSE, beyond_noise(compared, CONFIDENCE)),
        ):
            for bound in ("low", "mid", "high"):
                gauge.labels(tenant, bound).set(getattr(interval, bound))
        for verdict in ("right", "wrong", "unsure"):
            VERIFIED.labels(tenant, verdict).set(sum(getattr(sample, verdict) for sample in samples))
