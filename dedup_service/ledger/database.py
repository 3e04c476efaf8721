"""Opens the ledger's database, SQLite in WAL mode or PostgreSQL, and brings its tables up to date."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy  # create_engine is looked up when it is called: tracing wraps it
from sqlalchemy import Connection, Engine, event, make_url, text

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_MS = 10_000
"""How long a SQLite connection waits for another's write before it gives up."""
UPGRADE_LOCK = 4_603_012_026_120
"""The PostgreSQL advisory lock under which one replica at a time migrates; any fixed number does."""


class LedgerNewerError(RuntimeError):
    """The database was written by a newer version of this program, which alone knows how to read it."""


def open_database(url: str, *, timeout: float = 10.0, upgrade: bool = True) -> Engine:
    """An engine for `url`, "sqlite:///PATH" or "postgresql://USER@HOST/NAME", its tables created or migrated when
    `upgrade`. `timeout` bounds connecting, in seconds.

    Raises ValueError for any other kind of database, LedgerNewerError for a database from a newer version.
    """
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sqlalchemy.create_engine(
            parsed.set(drivername="sqlite+pysqlite"), connect_args={"timeout": BUSY_MS / 1000}
        )
        prepare_sqlite(engine)
    elif kind == "postgresql":
        engine = sqlalchemy.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=4,
            max_overflow=4,
            pool_pre_ping=True,
            connect_args={"connect_timeout": max(1, round(timeout))},
        )
    else:
        raise ValueError(f"the ledger needs sqlite:// or postgresql://, not {kind}://")
    try:
        if upgrade:
            migrate(engine)
        else:
            check_version(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def prepare_sqlite(engine: Engine) -> None:
    """Sets every new connection up: write-ahead log, so that readers and the writer don't block each other; full
    synchronisation, so that a commit outlives a power cut; and transactions that this program begins, not the driver,
    which would commit half a migration."""

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA secure_delete=ON")  # what is purged must not stay in free pages
        cursor.close()

    def begun(connection: Connection) -> None:
        # A transaction that will write must take the write lock first: upgrading a read lock can fail at once.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def migrate(engine: Engine) -> None:
    """Brings the tables up to date, one process at a time. Raises LedgerNewerError for a database from the future."""
    with engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        from alembic import command  # slow to import: not for every command

        refuse_newer(connection)
        settings = configuration()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def empty_log(engine: Engine) -> None:
    """Writes SQLite's write-ahead log back and cuts it off: it holds rows as they were before they were deleted."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.rollback()
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def check_version(engine: Engine) -> None:
    """Raises LedgerNewerError for a database from the future; changes nothing."""
    with engine.connect() as connection:
        refuse_newer(connection)


def refuse_newer(connection: Connection) -> None:
    """Raises LedgerNewerError when the database names a migration that this version does not have."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise LedgerNewerError(f"the ledger is at migration {current}, which this version does not know")


def configuration() -> Config:
    """Alembic's configuration: the migrations that ship with the package, and no file beside it."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(files("dedup_service.ledger") / "migrations"))
    return settings
