"""The accounts of risk in the ledger's database, from which replicas draw their allowances."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dedup_service.ledger.tables import AccountRow
from dedup_service.policy.account import CREDIT

ACCOUNTS: Table = AccountRow.__table__  # type: ignore[assignment]


class AccountRows:
    """Implements `policy.account.Deposits`, on SQLite or PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def draw(self, tenant: str, amount: float) -> float:
        """Takes up to `amount` out of the account."""
        with self.engine.execution_options(writes=True).begin() as connection:
            drawn = max(0.0, min(amount, self.balance(connection, tenant)))
            self.enter(connection, tenant, -drawn)
        return drawn

    def deposit(self, tenant: str, amount: float) -> None:
        """Puts something back; never more than `CREDIT` stands there."""
        with self.engine.execution_options(writes=True).begin() as connection:
            room = CREDIT - self.balance(connection, tenant)
            self.enter(connection, tenant, max(0.0, min(amount, room)))

    def balances(self) -> dict[str, float]:
        """What stands in every account, without what replicas have drawn. Blocks."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(ACCOUNTS.c.tenant, ACCOUNTS.c.balance)).all()
        return {str(row[0]): float(row[1]) for row in rows}

    def balance(self, connection: Connection, tenant: str) -> float:
        """What stands in the account, opened if need be and locked until the transaction ends."""
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(insert(ACCOUNTS).values(tenant=tenant, balance=CREDIT).on_conflict_do_nothing())
        query = select(ACCOUNTS.c.balance).where(ACCOUNTS.c.tenant == tenant).with_for_update()
        return float(connection.execute(query).scalar_one())

    def enter(self, connection: Connection, tenant: str, amount: float) -> None:
        """Changes the balance."""
        changed = ACCOUNTS.c.balance + amount
        connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.tenant == tenant).values(balance=changed))
