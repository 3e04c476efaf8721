"""The doctor where no service answers: it looks for the reason on the disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from dedup_service.console.__main__ import askonce
from dedup_service.store.edge.worker import EdgeStore, Options
from tests.dedup_service.store.edge.stores import DAMAGES, LAYOUT, filled


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a service that ended in order."""
    data = tmp_path_factory.mktemp("origin")
    filled(data / "edge").close()
    return data


@pytest.fixture
def data(origin: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(origin, tmp_path / "data")
    return tmp_path / "data"


def notes(data: Path) -> str:
    """What the doctor says of a service that is down."""
    result = CliRunner().invoke(
        askonce, ["doctor", "--target", "127.0.0.1:1", "--data", str(data), "--timeout", "5", "--json"]
    )
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["sound"]
    return "\n".join(found["notes"])


@pytest.mark.parametrize("name", ["the manifest is gone", "the fingerprints are gone"])
def test_damage_is_explained_with_what_to_do(data: Path, name: str) -> None:
    """Damage that keeps the service from starting is named, with the command that mends it; nothing is touched."""
    DAMAGES[name](data / "edge")
    said = notes(data)
    assert "nobody answers at 127.0.0.1:1" in said
    assert "askonce store repair" in said
    assert notes(data) == said


def test_a_sound_store_is_not_blamed(data: Path) -> None:
    """Where the files are whole the doctor points to the log."""
    assert "sound" in notes(data)


def test_a_store_in_use_is_left_alone(data: Path) -> None:
    """A service that has the store open and does not answer is starting or hangs."""
    store = EdgeStore(data / "edge", LAYOUT, Options())
    try:
        assert "open" in notes(data)
    finally:
        store.close()


def test_a_folder_without_a_store(tmp_path: Path) -> None:
    """On another machine, or over a Qdrant server, there is nothing to look at, and that is said."""
    assert "no embedded store" in notes(tmp_path)
    assert "--data" in notes(tmp_path / "none")


def test_a_full_disk_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is said first."""
    usage = shutil.disk_usage(data)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "full" in notes(data).splitlines()[1]
