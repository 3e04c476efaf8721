"""A ledger to audit, made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from benchmarks.ledgers import Made, make_ledger
from dedup_service.audit.traffic import open_ledger

END = 1_790_000_000.0
"""When the made ledger ends."""
FORTNIGHT = 14 * 86_400.0


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A ledger of 4,000 decisions over two weeks. Read it; write to `ledger` instead."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    return make_ledger(path, decisions=4_000, wrong_rate=0.02, exploration_rate=0.1, planted=6, seed=11)


@pytest.fixture
def ledger(made: Made, tmp_path: Path) -> Made:
    """A copy that a test may write to."""
    path = tmp_path / "copy.sqlite"
    shutil.copy(made.url.removeprefix("sqlite:///"), path)
    return replace(made, url=f"sqlite:///{path}")


@pytest.fixture
def engine(ledger: Made) -> Iterator[Engine]:
    """The copy, opened."""
    opened = open_ledger(ledger.url)
    yield opened
    opened.dispose()
