"""Runs the three services as child processes of this one, without Docker: for `make serve`, the demo, the system tests
and the benchmarks.

    python -m compose.local --home var --gateway 127.0.0.1:50051

Every service listens on 127.0.0.1, on a free port unless one is given, and says through its port file where. Ctrl-C
drains them in the order of the calls: the gateway first, then those that it calls. One that dies is started again, at
growing intervals, until it has died too often. They all end when this process ends, also when it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from askonce import private, startup
from askonce.access import SERVICE_KEY
from askonce.os_errors import advice
from compose.health import serving

ROOT = Path(__file__).resolve().parent.parent

MODULES = {"inference": "inference_service", "dedup": "dedup_service", "gateway": "gateway"}
SERVICES = {
    "inference": "askonce.v1.InferenceService",
    "dedup": "askonce.v1.DedupService",
    "gateway": "askonce.v1.AnswerService",
}
COLOURS = {"inference": "\033[35m", "dedup": "\033[36m", "gateway": "\033[32m"}
TAIL = 40
"""Lines of a child's output that are kept."""
FIRST_PAUSE, LAST_PAUSE = 0.5, 8.0
"""Seconds before a service that died is started again: at first, doubled with every death up to the last."""
DEATHS, WINDOW = 6, 120.0
"""A service that dies so often within so many seconds is given up, and everything ends."""


class StartError(RuntimeError):
    """A service ended or did not become ready in time, or the folder is in use: one line that says why."""


@dataclass(slots=True)
class Child:
    """One running service."""

    name: str
    process: Process
    pump: asyncio.Task[None]
    tail: deque[str]


class System:
    """The three services, started and ended together.

    `home` holds the stores, logs and port files; a second start on the same folder finds what the first one stored.
    Variables in `environ` go to all children and win over this process's own. With `echo`, output goes to stderr behind
    the service's name; the files `home`/logs/<service>.log get it always. `modules` replaces the module of a service:
    some benchmarks bring a model of their own. A name with a number, such as "dedup-2", is one replica of several.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str] | None = None,
        listen: Mapping[str, str] | None = None,
        echo: bool = False,
        names: Sequence[str] = ("inference", "dedup", "gateway"),
        modules: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home.resolve()
        self.environ = dict(environ or {})
        self.listen = dict(listen or {})
        self.echo = echo
        self.names = tuple(names)
        self.modules = {**MODULES, **(modules or {})}
        self.children: dict[str, Child] = {}
        self.addresses: dict[str, str] = {}
        self.owner: BinaryIO | None = None

    async def __aenter__(self) -> System:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def shows(self) -> tuple[tuple[str, str], ...]:
        """The metadata by which a caller of dedup or inference shows that it belongs here."""
        return ((SERVICE_KEY, (self.home / "service.key").read_text(encoding="ascii").split()[0]),)

    async def start(self, timeout: float = 90.0) -> None:
        """Starts all services and waits until each says that it serves. Raises StartError; then nothing runs."""
        await asyncio.to_thread(self.own)
        try:
            gateways = [name for name in self.names if service_of(name) == "gateway"]
            below = [name for name in self.names if name not in gateways]
            await asyncio.gather(*(self.launch(name, timeout) for name in below))
            await asyncio.gather(*(self.launch(name, timeout) for name in gateways))
        except BaseException:
            await self.stop(grace=2.0)
            raise

    async def launch(self, name: str, timeout: float = 90.0) -> None:
        """Starts one service, on the address it had before if it had one, and waits until it serves."""
        port_file = self.home / "run" / f"{name}.port"
        await asyncio.to_thread(self.prepare, port_file)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "compose.child",
            str(os.getpid()),
            self.modules[service_of(name)],
            env=self.environment(name, port_file),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,  # Ctrl-C on the terminal reaches this process only, which then ends them in order
        )
        tail: deque[str] = deque(maxlen=TAIL)
        pump = asyncio.create_task(self.copy(name, process, tail))
        self.children[name] = Child(name, process, pump, tail)
        self.addresses[name] = await self.ready(self.children[name], port_file, time.monotonic() + timeout)

    def own(self) -> None:
        """Takes the folder for this process. Raises StartError when another one has it, and touches nothing then."""
        if self.owner is not None:
            return
        private.folder(self.home)
        file = open(self.home / "owner.lock", "a+b", opener=private.opener)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode("ascii", "replace").strip()
            file.close()
            raise StartError(f"{self.home} is in use by process {holder or 'unknown'}; stop that first") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        self.owner = file

    def prepare(self, port_file: Path) -> None:
        """Makes the folders and removes what a previous run left behind."""
        for folder in (port_file.parent, self.home / "logs"):
            private.folder(folder)
        port_file.unlink(missing_ok=True)

    def environment(self, name: str, port_file: Path) -> dict[str, str]:
        """The variables of one child."""
        service = service_of(name)
        prefix = f"ASKONCE_{service.upper()}"
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        listen = self.addresses.get(name) or self.listen.get(name) or "127.0.0.1:0"
        chosen = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
            f"{prefix}_SERVING_LISTEN": listen,
            f"{prefix}_SERVING_PORT_FILE": str(port_file),
        }
        if self.echo:  # for people to read
            chosen.setdefault(f"{prefix}_TELEMETRY_LOG_FORMAT", "console")
        key = f"{prefix}_SERVICE_KEY" if service == "gateway" else f"{prefix}_ACCESS_SERVICE_KEY"
        chosen[key] = str(self.home / "service.key")
        if service == "dedup":
            chosen["ASKONCE_DEDUP_DATA"] = str(self.home / name)
        if service == "gateway":
            chosen["ASKONCE_GATEWAY_DEDUP_TARGET"] = ",".join(self.all("dedup")) or "127.0.0.1:1"
            chosen["ASKONCE_GATEWAY_INFERENCE_TARGET"] = ",".join(self.all("inference")) or "127.0.0.1:1"
        # A service refuses variables of its own section that it does not know; others are none of its business.
        return {**chosen, **self.environ}

    def all(self, service: str) -> list[str]:
        """The addresses of a service's replicas."""
        return [address for name, address in self.addresses.items() if service_of(name) == service]

    async def copy(self, name: str, process: Process, tail: deque[str]) -> None:
        """Copies a child's output to its log file and, with `echo`, to stderr."""
        assert process.stdout is not None
        colour, end = (COLOURS[service_of(name)], "\033[0m") if sys.stderr.isatty() else ("", "")
        rest = b""
        with open(self.home / "logs" / f"{name}.log", "ab", buffering=0, opener=private.opener) as log:  # noqa: ASYNC230
            # In chunks: under load a child writes thousands of lines a second, and one that waits for us stands still.
            while chunk := await process.stdout.read(2**16):
                with contextlib.suppress(OSError):  # a full disk: a child that can't write its lines would stand still
                    log.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                texts = [line.decode("utf-8", "replace") for line in (lines if self.echo else lines[-TAIL:])]
                tail.extend(texts)
                if self.echo and texts:
                    shown = "\n".join(f"{colour}{name:>9} |{end} {text}" for text in texts)
                    with contextlib.suppress(OSError):
                        print(shown, file=sys.stderr, flush=True)

    async def ready(self, child: Child, port_file: Path, deadline: float) -> str:
        """Waits for the port file and then for SERVING; returns the address."""
        address = ""
        while time.monotonic() < deadline:
            if child.process.returncode is not None:
                await child.pump
                raise StartError(f"{child.name} ended with status {child.process.returncode}: {self.last_words(child)}")
            if not address and port_file.exists():  # noqa: ASYNC240
                address = port_file.read_text(encoding="utf-8").strip()  # noqa: ASYNC240
            if address and await serving(address, SERVICES[service_of(child.name)]):
                return address
            await asyncio.sleep(0.05)
        raise StartError(f"{child.name} is not ready in time: {self.last_words(child)}")

    def last_words(self, child: Child) -> str:
        """The last line that a child said, and where the others are."""
        line = next((line.strip() for line in reversed(child.tail) if line.strip()), "it said nothing")
        return f"{line[:400]} (more in {self.home / 'logs' / child.name}.log)"

    async def kill(self, name: str) -> None:
        """Ends a service without a warning, as a crash would (SIGKILL)."""
        child = self.children.pop(name)
        child.process.kill()
        await child.process.wait()
        await child.pump

    async def terminate(self, name: str, grace: float = 15.0) -> int:
        """Asks a service to drain and end (SIGTERM) and returns its exit status; after `grace` seconds it is killed."""
        child = self.children.pop(name)
        if child.process.returncode is None:
            child.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(child.process.wait(), grace)
            except TimeoutError:
                child.process.kill()
                await child.process.wait()
        await child.pump
        return child.process.returncode or 0

    async def restart(self, name: str, timeout: float = 90.0) -> None:
        """Starts a service again, where it was, ending it in order first if it still runs."""
        if name in self.children:
            await self.terminate(name)
        await self.launch(name, timeout)

    async def stop(self, grace: float = 15.0) -> None:
        """Drains all services, the gateway first. Safe to call twice."""
        gateways = [name for name in self.children if service_of(name) == "gateway"]
        await asyncio.gather(*(self.terminate(name, grace) for name in gateways))
        await asyncio.gather(*(self.terminate(name, grace) for name in list(self.children)))
        if self.owner is not None:
            self.owner.close()
            self.owner = None

    async def supervise(self) -> str:
        """Starts every service that dies again, where it was. Returns, with a line that says why, once one has died
        too often."""
        deaths: dict[str, deque[float]] = {name: deque(maxlen=DEATHS) for name in self.names}
        while True:
            name = await self.first_end()
            child = self.children.pop(name)
            await child.pump
            times = deaths[name]
            times.append(time.monotonic())
            if len(times) == DEATHS and times[-1] - times[0] < WINDOW:
                return f"{name} died {DEATHS} times in {times[-1] - times[0]:.0f} s: {self.last_words(child)}"
            recent = sum(1 for each in times if times[-1] - each < WINDOW)
            pause = min(LAST_PAUSE, FIRST_PAUSE * 2 ** (recent - 1))
            print(f"{name} ended with status {child.process.returncode}; starting it again.", file=sys.stderr)
            await asyncio.sleep(pause)
            with contextlib.suppress(StartError):  # it is among the children, and has ended: the next turn counts it
                await self.launch(name)

    async def first_end(self) -> str:
        """Waits until any service ends by itself; returns its name."""
        waits = {asyncio.create_task(child.process.wait()): name for name, child in self.children.items()}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return waits[done.pop()]

    def pid(self, name: str) -> int:
        """The process id of a running service."""
        return self.children[name].process.pid

    @property
    def gateway(self) -> str:
        """Where clients connect, "host:port"."""
        return self.addresses["gateway"]


def service_of(name: str) -> str:
    """The service that a name such as "dedup-2" is a replica of."""
    return name.partition("-")[0]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m compose.local", description="Runs the three services here.")
    parser.add_argument("--home", type=Path, default=Path("var"), help="folder of stores and logs (default: var)")
    for name in MODULES:
        usual = "127.0.0.1:50051" if name == "gateway" else ""
        about = f"where {name} listens; default: {usual or 'a free port'}"
        parser.add_argument(f"--{name}", metavar="HOST:PORT", default=usual, help=about)
    chosen = parser.parse_args(arguments)
    for name in MODULES:
        address = getattr(chosen, name)
        if address and not re.fullmatch(r"[^:]+:\d{1,5}", address):
            parser.error(f"--{name}: write HOST:PORT, not {address!r}")
    return chosen


async def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM, or until a service has died too often; returns the exit status."""
    chosen = parse(arguments)
    listen = {name: getattr(chosen, name) for name in MODULES if getattr(chosen, name)}
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    system = System(chosen.home, listen=listen, echo=True)
    signalled = asyncio.create_task(stopping.wait())
    starting = asyncio.create_task(system.start())
    await asyncio.wait({signalled, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 130
    try:
        await starting
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(startup.explain(error) if error.filename else f"{chosen.home}: {advice(error)}", file=sys.stderr)
        return 1
    print(f"AskOnce serves on {system.gateway}. Stop it with Ctrl-C.", flush=True)
    ended = asyncio.create_task(system.supervise())
    try:
        await asyncio.wait({signalled, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            print(f"{ended.result()}; stopping the others.", file=sys.stderr)
            return 1
        return 0
    finally:
        ended.cancel()
        await system.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
