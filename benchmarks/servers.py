"""Servers that a fleet stands on, as child processes on free ports of 127.0.0.1: Redis, PostgreSQL, and Qdrant where
there is one. For tests and studies: each can be killed and started again on what it had on disk.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

POSTGRES = Path("/usr/lib/postgresql")
"""Where Debian puts PostgreSQL's versions."""
UPON = 20.0
"""Seconds that a server may take to listen."""


class MissingServerError(RuntimeError):
    """A server is not installed; the message names the package."""


class ServerProcess:
    """One server: a process group that listens on a port, in a folder of its own."""

    name = ""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"askonce-{self.name}-", dir="/tmp"))  # sockets need short paths
        self.process: asyncio.subprocess.Process | None = None
        self.environ: Mapping[str, str] = {}

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """What to run."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What has to be done once before the first start. Blocks."""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.prepare)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def end(self) -> None:
        """Ends it and deletes what it had on disk."""
        await self.kill()
        await asyncio.to_thread(shutil.rmtree, self.folder, True)

    async def start(self) -> None:
        """Starts it and waits until it listens. Raises TimeoutError."""
        self.process = await asyncio.create_subprocess_exec(
            *self.leave(),
            *self.command(),
            cwd=self.folder,
            env={**os.environ, **self.environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + UPON
        while not await self.ready():
            if self.process.returncode is not None or time.monotonic() > until:
                raise TimeoutError(f"{self.name} does not start")
            await asyncio.sleep(0.02)

    def leave(self) -> Sequence[str]:
        """What goes before the command: it ends with this process, however that ends, and runs as who it should."""
        found = shutil.which("setpriv")
        return [found, "--pdeathsig", "KILL"] if found else []

    async def ready(self) -> bool:
        """Whether it takes requests."""
        return await listens(self.port)

    async def kill(self) -> None:
        """Ends it with all its processes, without a warning (SIGKILL)."""
        if self.process is not None and self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        self.process = None


class RedisServer(ServerProcess):
    """Redis or Valkey that keeps nothing on disk: what stands in it may be lost."""

    name = "redis"

    @property
    def url(self) -> str:
        """The address as settings take it."""
        return f"redis://{self.address}/0"

    def command(self) -> Sequence[str]:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            raise MissingServerError("redis-server is not installed (Debian: apt-get install redis-server)")
        return [found, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


class PostgresServer(ServerProcess):
    """PostgreSQL with a fresh cluster."""

    name = "pg"

    @property
    def url(self) -> str:
        """The address as settings take it."""
        return f"postgresql://askonce@{self.address}/postgres"

    @property
    def binaries(self) -> Path:
        """The folder of the newest version."""
        found = sorted(POSTGRES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if not found:
            raise MissingServerError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        return found[-1].parent

    @property
    def user(self) -> list[str]:
        """The server refuses to run as root."""
        if os.geteuid() != 0:
            return []
        found = shutil.which("setpriv")
        if found is None:
            raise MissingServerError("PostgreSQL can't run as root and there is no setpriv")
        return [found, "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "KILL"]

    def leave(self) -> Sequence[str]:
        return self.user if self.user else super().leave()

    def prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        initdb = [str(self.binaries / "initdb"), "-D", str(self.folder / "data"), "-U", "askonce", "-E", "UTF8"]
        subprocess.run(
            [*self.user, *initdb, "--auth=trust", "--no-sync", "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )

    def command(self) -> Sequence[str]:
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder}
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), *flags]

    async def ready(self) -> bool:
        """See `ServerProcess`. After a kill it mends its files first, and listens meanwhile."""
        try:
            connection = await psycopg.AsyncConnection.connect(self.url, connect_timeout=2)
        except psycopg.OperationalError:
            return False
        await connection.close()
        return True

    async def kill(self) -> None:
        """See `ServerProcess`. Its children are in sessions of their own and end when they miss it."""
        await super().kill()
        pid = self.folder / "data" / "postmaster.pid"
        await asyncio.to_thread(pid.unlink, missing_ok=True)


class QdrantServer(ServerProcess):
    """Qdrant from a program on this machine."""

    name = "qdrant"

    def __init__(self, program: Path) -> None:
        super().__init__()
        self.program = program
        self.grpc_port = free_port()
        self.environ = {
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self.port),
            "QDRANT__SERVICE__GRPC_PORT": str(self.grpc_port),
            "QDRANT__STORAGE__STORAGE_PATH": str(self.folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(self.folder / "snapshots"),
            "QDRANT__TELEMETRY_DISABLED": "true",
            "QDRANT__LOG_LEVEL": "WARN",
        }

    @property
    def url(self) -> str:
        """The address as settings take it."""
        return f"http://127.0.0.1:{self.grpc_port}"

    def command(self) -> Sequence[str]:
        return [str(self.program)]


class QdrantDouble(ServerProcess):
    """The stand-in of `benchmarks.qdrant_double`: a kill empties it."""

    name = "qdrant"

    @property
    def url(self) -> str:
        """The address as settings take it."""
        return f"http://{self.address}"

    def command(self) -> Sequence[str]:
        self.environ = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        return [sys.executable, "-m", "benchmarks.qdrant_double", self.address]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def listens(port: int) -> bool:
    """Whether somebody listens."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
