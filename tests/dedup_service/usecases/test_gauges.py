"""What is measured from time to time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from askonce.names import ALL
from dedup_service.policy.account import CREDIT
from dedup_service.policy.noise import Compared
from dedup_service.policy.risk import Sample, clopper_pearson
from dedup_service.usecases.gauges import Gauges
from tests.dedup_service.bench import bench
from tests.dedup_service.pages import receipt


class Ledger:
    """The two things that gauges read of a ledger, and the replica's share."""

    def __init__(self, samples: dict[str, Compared], stored: dict[str, float], held: dict[str, float]) -> None:
        self.samples, self.stored, self.drawn = samples, stored, held

    def verified(self, since: float) -> dict[str, Compared]:
        return self.samples

    def balances(self) -> dict[str, float]:
        return self.stored

    def held(self) -> dict[str, float]:
        return self.drawn


def shown(name: str, **labels: str) -> float:
    """A gauge's value; less than 0 for none."""
    value = REGISTRY.get_sample_value(f"askonce_dedup_{name}", labels)
    return -1.0 if value is None else value


async def measured(folder: Path, ledger: Ledger, tenants: tuple[str, ...] = (), **policy: Any) -> None:
    """Measures once, with an answer stored."""
    async with bench(folder, **policy) as built:
        await built.teach(receipt(), "What is the total?", "RM 138.90")
        gauges = Gauges(built.memory, ledger, ledger, ledger, built.book, tenants)
        await gauges.holdings()
        await gauges.figures()


async def test_all_tenants_are_shown_as_one(tmp_path: Path) -> None:
    """The wrong rate pools what was compared, with its interval; the balance is the least; no other tenant is named."""
    ledger = Ledger(
        {"one": Compared((), (Sample(1_000, 40, 0),)), "two": Compared((), (Sample(500, 19, 1),))},
        {"one": 0.4, "two": -0.1},
        {"one": 0.2},
    )
    await measured(tmp_path, ledger, ("one",), error_budget=0.02)
    expected = clopper_pearson(1, 60)
    assert shown("wrong_rate", tenant=ALL, bound="high") == pytest.approx(expected.high)
    assert shown("wrong_rate", tenant=ALL, bound="low") == pytest.approx(expected.low)
    assert shown("verified_hits", tenant=ALL, verdict="wrong") == 1
    assert shown("verified_hits", tenant="one", verdict="right") == 40
    assert shown("wrong_rate", tenant="one", bound="mid") == 0
    assert shown("wrong_rate", tenant="two", bound="mid") == -1.0
    assert shown("error_budget", tenant=ALL) == 0.02
    assert shown("budget_balance", tenant=ALL, place="database") == -0.1
    assert shown("budget_balance", tenant="one", place="replica") == 0.2
    assert shown("budget_spent_tenants") == 1
    assert (shown("entries"), shown("images")) == (1, 1)


async def test_without_a_comparison_nothing_is_claimed(tmp_path: Path) -> None:
    """The interval is as wide as can be, and an account that nobody used is full."""
    await measured(tmp_path, Ledger({}, {}, {}), ("new",))
    for name in ("wrong_rate", "reuse_wrong_rate"):
        assert [shown(name, tenant=ALL, bound=bound) for bound in ("low", "high")] == [0, 1]
    assert shown("budget_balance", tenant="new", place="database") == CREDIT
    assert shown("budget_spent_tenants") == 0


async def test_the_models_own_noise_is_not_reuses(tmp_path: Path) -> None:
    """Where repeats of the very same request differ as often as other hits, reuse is not shown to be wrong; where they
    never do, it is."""
    noisy = Compared((Sample(400, 360, 40),), (Sample(400, 360, 40),))
    await measured(tmp_path, Ledger({"noisy": noisy, "bad": Compared((Sample(400, 400, 0),), noisy.others)}, {}, {}),
                   ("noisy", "bad"))  # fmt: skip
    assert shown("wrong_rate", tenant="noisy", bound="low") > 0.05
    assert shown("reuse_wrong_rate", tenant="noisy", bound="low") == 0
    assert shown("reuse_wrong_rate", tenant="noisy", bound="mid") == 0
    assert shown("reuse_wrong_rate", tenant="bad", bound="low") > 0.02
