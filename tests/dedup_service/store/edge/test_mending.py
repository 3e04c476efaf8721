"""Verifying and repairing a store that nobody has open: what is found, and that nothing is lost over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dedup_service.console.__main__ import askonce
from dedup_service.store.edge.integrity import DamageError, checksum
from dedup_service.store.edge.mending import survey
from dedup_service.store.edge.worker import EdgeStore, Options
from dedup_service.store.points import Kind
from tests.dedup_service.store.edge.stores import COUNT, DAMAGES, LAYOUT, entries, filled, largest


def test_a_whole_store_is_sound(closed: Path, tmp_path: Path) -> None:
    """Everything is counted, nothing found."""
    assert survey(tmp_path).sound
    found = survey(tmp_path)  # looking twice finds the same
    assert found.sound
    assert {finding.points for finding in found.findings} == {COUNT}
    assert len(found.findings) == len(Kind) + 1


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_mended(closed: Path, tmp_path: Path, name: str) -> None:
    """Verifying names the damage and changes nothing; after a repair the store opens, all as it was beside it."""
    DAMAGES[name](closed)
    assert not survey(tmp_path).sound
    repaired = survey(tmp_path, repair=True)
    assert all(finding.done for finding in repaired.findings if finding.problems)
    store = EdgeStore(closed, LAYOUT, Options())
    try:
        kept = store.call("count", (Kind.ENTRIES, ()))
        assert kept in (0, COUNT)  # the engine's log may give back what its segments lost
        if "manifest" in name or "fingerprints" in name:
            assert kept == COUNT
    finally:
        store.close()


def test_a_flipped_bit_in_a_closed_store_is_found(closed: Path, tmp_path: Path) -> None:
    """Verifying reads everything, and a repair keeps the old files; a start refuses a small store so damaged."""
    page = largest(entries(closed), "page_0.dat")
    content = bytearray(page.read_bytes())
    content[next(at for at, byte in enumerate(content) if byte)] ^= 1
    page.write_bytes(content)
    before = checksum(page)
    with pytest.raises(DamageError, match="page_0"):
        EdgeStore(closed, LAYOUT, Options())
    runner = CliRunner()
    told = runner.invoke(askonce, ["store", "verify", "--data", str(tmp_path), "--json"])
    assert told.exit_code == 1
    assert not json.loads(told.stdout)["sound"]
    assert runner.invoke(askonce, ["store", "repair", "--data", str(tmp_path)]).exit_code == 0
    (aside,) = (closed).glob("entries-*.quarantine-*")
    kept = aside / page.relative_to(entries(closed))
    assert checksum(kept) == before
    assert runner.invoke(askonce, ["store", "verify", "--data", str(tmp_path)]).exit_code == 0


def test_a_store_in_use_is_left_alone(tmp_path: Path) -> None:
    """While a service has the store open, and where there is none, the command says so."""
    store = filled(tmp_path / "edge")
    try:
        told = CliRunner().invoke(askonce, ["store", "repair", "--data", str(tmp_path)])
        assert (told.exit_code, "STORE_IN_USE" in told.output) == (1, True)
    finally:
        store.close()
    told = CliRunner().invoke(askonce, ["store", "verify", "--data", str(tmp_path / "nowhere")])
    assert "STORE_ABSENT" in told.output
