"""The accounts of risk that replicas share."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from dedup_service.ledger.accounts import AccountRows
from dedup_service.ledger.database import open_database
from dedup_service.policy.account import CREDIT, SPENT, LeasedAccount, affordable

BUDGET = 0.01


class LostError(OSError):
    """The database did not answer."""


class Flaky:
    """Accounts whose answers get lost at times, after the work was done or before."""

    def __init__(self, rows: AccountRows) -> None:
        self.rows = rows
        self.fault = ""

    def draw(self, tenant: str, amount: float) -> float:
        if self.fault == "before":
            raise LostError
        drawn = self.rows.draw(tenant, amount)
        if self.fault == "after":
            raise LostError
        return drawn

    def deposit(self, tenant: str, amount: float) -> None:
        if self.fault == "before":
            raise LostError
        self.rows.deposit(tenant, amount)
        if self.fault == "after":
            raise LostError


HIT = st.tuples(st.just("hit"), st.integers(0, 2), st.floats(0.0, 0.08))
DEED = st.tuples(st.sampled_from(("step", "kill", "stop")), st.integers(0, 2), st.sampled_from(("", "before", "after")))


@given(st.lists(st.one_of(HIT, HIT, DEED), max_size=120))
@settings(max_examples=40, deadline=None)
def test_the_fleet_never_spends_more_than_it_may(deeds: list[tuple[str, int, float | str]]) -> None:
    """However hits fall on three replicas, and whichever of them are killed, stopped or cut off from the database in
    whatever step: all costs sum up to no more than the hits' shares of the budget and one credit."""
    with TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{Path(folder) / 'ledger.sqlite'}")
        deposits = Flaky(AccountRows(engine))
        replicas = [LeasedAccount(deposits) for _ in range(3)]
        hits, spent = 0, 0.0
        for deed, number, value in deeds:
            replica = replicas[number]
            if deed == "hit":
                assert isinstance(value, float)
                if affordable(value, replica.balance("t"), BUDGET):
                    replica.settle("t", value, BUDGET)
                    hits, spent = hits + 1, spent + value
                    assert spent <= hits * SPENT * BUDGET + CREDIT + 1e-6
                continue
            assert isinstance(value, str)
            deposits.fault = value
            try:
                if deed == "step":
                    replica.step(0.0)
                elif deed == "stop":
                    replica.close()
            except LostError:
                pass
            if deed != "step":
                replicas[number] = LeasedAccount(deposits)
            deposits.fault = ""
        engine.dispose()


def test_two_replicas_at_once_draw_no_more_than_there_is(engine: Engine) -> None:
    """Draws at the same moment add up to what the account held."""
    rows = AccountRows(engine)
    drawn: list[float] = []
    threads = [threading.Thread(target=lambda: drawn.append(rows.draw("t", 0.15))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(drawn) == pytest.approx(CREDIT)
    rows.deposit("t", 5.0)
    assert rows.draw("t", 5.0) == pytest.approx(CREDIT)
    assert rows.draw("t", 1.0) == 0.0


def test_a_replica_draws_ahead_and_gives_back(engine: Engine) -> None:
    """An allowance is there before it is needed, surplus goes back, and an orderly end returns the rest."""
    account = LeasedAccount(AccountRows(engine), allowance=0.2)
    assert account.balance("t") == 0.0
    account.step(0.0)
    assert account.balance("t") == pytest.approx(0.2)
    for _ in range(100):
        account.settle("t", 0.0, BUDGET)
    account.step(0.0)
    assert account.balance("t") == pytest.approx(0.2)
    account.close()
    assert AccountRows(engine).draw("t", 5.0) == pytest.approx(CREDIT)
