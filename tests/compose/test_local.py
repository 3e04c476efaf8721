"""The local runner, on the one service that needs no other."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from compose.health import serving
from compose.local import StartError, System, parse

pytestmark = [pytest.mark.slow, pytest.mark.system]

SERVICE = "askonce.v1.InferenceService"


def system(home: Path, **environ: str) -> System:
    """A system of the inference service only."""
    return System(home, environ={"ASKONCE_READER_THREADS": "1", **environ}, names=("inference",))


async def test_ready_killed_restarted_stopped(tmp_path: Path) -> None:
    """A started service serves; a killed one comes back at the same address; after the end nothing is left running."""
    async with system(tmp_path) as running:
        address, first = running.addresses["inference"], running.pid("inference")
        assert await serving(address, SERVICE)
        await running.kill("inference")
        assert not await serving(address, SERVICE)
        await running.restart("inference")
        assert running.addresses["inference"] == address
        second = running.pid("inference")
        assert second != first
        assert await serving(address, SERVICE)
    assert not psutil.pid_exists(second)
    assert '"event": "stopped"' in (tmp_path / "logs" / "inference.log").read_text(encoding="utf-8")


async def test_drains_with_status_zero(tmp_path: Path) -> None:
    """SIGTERM ends a service in order, which its exit status tells."""
    running = system(tmp_path)
    await running.start()
    assert await running.terminate("inference") == 0
    await running.stop()


async def test_a_service_that_can_not_start_is_quoted(tmp_path: Path) -> None:
    """A service that ends at once raises StartError with the end of its output, and leaves nothing behind."""
    running = system(tmp_path, ASKONCE_INFERENCE_ENGINE="oracle")
    with pytest.raises(StartError, match="oracle"):
        await running.start()
    assert running.children == {}


async def test_notices_a_service_that_ends_by_itself(tmp_path: Path) -> None:
    """The runner tells which service has ended, so that it can stop the others."""
    async with system(tmp_path) as running:
        psutil.Process(running.pid("inference")).send_signal(signal.SIGKILL)
        assert await running.first_end() == "inference"


@pytest.mark.parametrize("address", ["50051", "127.0.0.1:", "127.0.0.1:port"])
def test_addresses_are_checked(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is none is refused with the name of its option."""
    with pytest.raises(SystemExit):
        parse(["--gateway", address])
    assert "--gateway" in capsys.readouterr().err
