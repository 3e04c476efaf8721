"""A small store, made once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.dedup_service.store.edge.stores import filled


@pytest.fixture(scope="session")
def orderly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled store after an orderly end. Copy it."""
    folder = tmp_path_factory.mktemp("orderly") / "edge"
    filled(folder).close()
    return folder


@pytest.fixture
def closed(orderly: Path, tmp_path: Path) -> Path:
    """A copy of it, in `tmp_path / "edge"`: its holes stay holes."""
    subprocess.run(["cp", "-a", "--sparse=always", str(orderly), str(tmp_path / "edge")], check=True)
    return tmp_path / "edge"
