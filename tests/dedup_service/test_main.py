"""A start that can't go on says why, and where."""

from __future__ import annotations

import asyncio
import fcntl
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from askonce.settings import SettingsError, StartError
from dedup_service.__main__ import default_policy, open_ledger, run, start_memory
from dedup_service.settings import Qdrant, Settings
from dedup_service.store.edge.client import EdgeMemory
from dedup_service.store.qdrant_server import ServerMemory

ENCODERS = ("image", 4, "question", 4)


@pytest.mark.parametrize(("ledger", "said"), [
    ("mysql://x/y", r"ledger: write sqlite:///PATH or postgresql://.*not 'mysql://x/y'"),
    ("nonsense", "ledger: write sqlite:///PATH"),
    ("postgresql://me:hunter2@127.0.0.1:1/x", r"can't open postgresql://me:\(hidden\)@127.0.0.1:1/x: .*refused"),
    ("sqlite:////proc/nowhere/x.sqlite", "proc/nowhere"),
])  # fmt: skip
def test_a_ledger_that_does_not_open_is_named(ledger: str, said: str, tmp_path: Path) -> None:
    """The address is shown, its password is not."""
    with pytest.raises((StartError, OSError), match=said) as caught:
        open_ledger(replace(Settings(data=tmp_path), ledger=ledger))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("mute", [False, True])
async def test_a_qdrant_that_does_not_answer_is_named(mute: bool) -> None:
    """Nobody there, or somebody who says nothing: the address and the usual port are in the message."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        if not mute:
            other.close()
        address = f"http://127.0.0.1:{port}"
        memory = await asyncio.to_thread(ServerMemory.connect, address, *ENCODERS, options=Qdrant(timeout=0.3))
        with pytest.raises(StartError, match=rf"no Qdrant answers at {address} \(Qdrant: \w+\).*6334"):
            await start_memory(memory, Settings(store=address))
        await memory.close()


async def test_a_folder_that_another_process_has_is_named(tmp_path: Path) -> None:
    """Two services over one embedded store are refused, with what to do."""
    memory = EdgeMemory(tmp_path, *ENCODERS)
    memory.points.options["patience"] = 0.1
    (tmp_path / "edge").mkdir()
    with (tmp_path / "edge" / "owner.lock").open("wb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        with pytest.raises(StartError, match=r"edge is in use by another process; ASKONCE_DEDUP_DATA"):
            await start_memory(memory, Settings(data=tmp_path))


@pytest.mark.parametrize("text", ["{nope", '{"error_budget": 7}'])
def test_a_wrong_default_policy_is_named(text: str, tmp_path: Path) -> None:
    """The file's path stands before what is wrong with it."""
    path = tmp_path / "policy.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=f"default_policy: {path}: "):
        default_policy(path)


def test_an_impossible_tenant_among_the_metrics_is_refused() -> None:
    """A label that could never be a tenant's is a mistake."""
    with pytest.raises(SettingsError, match=r"metrics_tenants: 'No such'"):
        run(Settings(metrics_tenants=("acme", "No such")))
