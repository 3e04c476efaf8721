"""Opening and migrating the ledger's database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from dedup_service.ledger.database import LedgerNewerError, open_database
from dedup_service.ledger.tables import Base


def test_migrations_make_the_tables_that_the_code_expects(engine: Engine) -> None:
    """After the migrations, the database and the table classes agree in every table, column and index."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_opening_again_changes_nothing(url: str) -> None:
    """Migrating a database that is up to date is harmless, and its rows stay."""
    first = open_database(url)
    with first.execution_options(writes=True).begin() as connection:
        connection.execute(text("INSERT INTO thresholds VALUES ('acme', 1, 0, '{}', 1)"))
    first.dispose()
    second = open_database(url)
    with second.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM thresholds")).scalar() == 1
    second.dispose()


def test_replicas_that_start_together_migrate_once(url: str) -> None:
    """Six replicas opening an empty database at the same time all find it migrated."""
    with ThreadPoolExecutor(6) as pool:
        engines = list(pool.map(lambda _: open_database(url), range(6)))
    for opened in engines:
        assert "decisions" in inspect(opened).get_table_names()
        opened.dispose()


def test_a_newer_ledger_is_refused_and_left_alone(url: str) -> None:
    """A database migrated by a newer version is neither read nor changed, and the error says why."""
    opened = open_database(url)
    with opened.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    opened.dispose()
    for upgrade in (True, False):
        with pytest.raises(LedgerNewerError, match="9999"):
            open_database(url, upgrade=upgrade)


def test_other_databases_are_refused() -> None:
    """Only the two databases that are tested are accepted."""
    with pytest.raises(ValueError, match="sqlite:// or postgresql://"):
        open_database("mysql://root@localhost/ledger")


def test_sqlite_writes_ahead(tmp_path: object) -> None:
    """SQLite runs in WAL mode, so that an audit that reads does not hold up the writer."""
    opened = open_database(f"sqlite:///{tmp_path}/deep/er/ledger.db")
    with opened.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    opened.dispose()


def test_a_database_out_of_reach_is_an_error_in_time() -> None:
    """Opening a server that is not there fails at once instead of hanging."""
    with pytest.raises(Exception, match="connection"):
        open_database("postgresql://askonce@127.0.0.1:1/none", timeout=2)
