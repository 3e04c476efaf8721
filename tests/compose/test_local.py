"""The local runner, on the one service that needs no other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from compose.health import serving
from compose.local import ROOT, StartError, System, parse

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
    """A service that ends at once raises StartError, one line with its last words, and leaves nothing behind."""
    running = system(tmp_path, ASKONCE_INFERENCE_ENGINE="oracle")
    with pytest.raises(StartError, match="oracle") as failed:
        await running.start()
    assert "\n" not in str(failed.value)
    assert running.children == {}


async def test_notices_a_service_that_ends_by_itself(tmp_path: Path) -> None:
    """The runner tells which service has ended, so that it can stop the others."""
    async with system(tmp_path) as running:
        psutil.Process(running.pid("inference")).send_signal(signal.SIGKILL)
        assert await running.first_end() == "inference"


async def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    """A killed service comes back by itself at its address."""
    async with system(tmp_path) as running:
        address, first = running.addresses["inference"], running.pid("inference")
        watching = asyncio.create_task(running.supervise())
        psutil.Process(first).send_signal(signal.SIGKILL)
        async with asyncio.timeout(90):
            while (
                "inference" not in running.children
                or running.pid("inference") == first
                or not await serving(address, SERVICE)
            ):
                await asyncio.sleep(0.05)
        watching.cancel()
        assert not psutil.pid_exists(first)


async def test_a_service_that_dies_too_often_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many deaths in a row the runner stops trying and says which service it was."""
    monkeypatch.setattr("compose.local.DEATHS", 3)
    monkeypatch.setattr("compose.local.FIRST_PAUSE", 0.01)
    async with system(tmp_path) as running:
        running.environ["ASKONCE_INFERENCE_ENGINE"] = "oracle"
        psutil.Process(running.pid("inference")).send_signal(signal.SIGKILL)
        told = await asyncio.wait_for(running.supervise(), 90)
        assert "inference died 3 times" in told
        assert "\n" not in told


async def test_a_second_start_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    """A start on a folder in use is one line that names the process; the first one's files and service stay."""
    async with system(tmp_path) as running:
        before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        with pytest.raises(StartError, match=f"in use by process {os.getpid()}") as refused:
            await system(tmp_path).start()
        assert "\n" not in str(refused.value)
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
        assert await serving(running.addresses["inference"], SERVICE)


async def test_services_end_with_a_killed_runner(tmp_path: Path) -> None:
    """When the runner is killed, so that it can do nothing more, its services end."""
    program = (
        "import asyncio, pathlib, sys; from compose.local import System\n"
        "async def main():\n"
        "    async with System(pathlib.Path(sys.argv[1]), names=('inference',)) as system:\n"
        "        print(system.pid('inference'), flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert runner.stdout is not None
    service = psutil.Process(int(await runner.stdout.readline()))
    family = [service, *service.children(recursive=True)]
    runner.kill()
    await runner.wait()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, family, 30)
    assert len(gone) == len(family) >= 2
    assert alive == []


@pytest.mark.parametrize("address", ["50051", "127.0.0.1:", "127.0.0.1:port"])
def test_addresses_are_checked(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is none is refused with the name of its option."""
    with pytest.raises(SystemExit):
        parse(["--gateway", address])
    assert "--gateway" in capsys.readouterr().err
