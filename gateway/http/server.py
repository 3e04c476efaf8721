"""Listens for HTTP inside the gateway's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp

from askonce import serving
from askonce.os_errors import listening
from askonce.settings import StartError
from gateway.http.protocol import protocol
from gateway.settings import Edge


class _Server(uvicorn.Server):
    """An HTTP server inside a process that handles signals itself."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Listens for HTTP in the running loop."""

    def __init__(self, settings: Edge, application: ASGIApp, grace: float) -> None:
        self.settings = settings
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            http=protocol(settings.header_seconds, settings.body_seconds, settings.max_pending),
            limit_concurrency=settings.max_connections + settings.max_pending,
            h11_max_incomplete_event_size=65_536,
            timeout_graceful_shutdown=max(1, round(grace)),
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
        )
        self.server = _Server(config)
        self.address = ""
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listens. Returns the bound address. Raises StartError when the port is taken."""
        host, port = serving.host_and_port(self.settings.listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), port))
        except OSError as error:
            listener.close()
            raise StartError(f"edge: {listening(self.settings.listen, error)}") from error
        listener.setblocking(False)
        self.address = f"{host}:{listener.getsockname()[1]}"
        self.task = asyncio.create_task(self.server.serve(sockets=[listener]), name="http")
        open_ = asyncio.create_task(self.server.listening.wait())
        await asyncio.wait({self.task, open_}, return_when=asyncio.FIRST_COMPLETED)
        open_.cancel()
        if self.task.done():
            await self.task
        if self.settings.port_file is not None:
            await asyncio.to_thread(announce, self.settings.port_file, self.address)
        log: structlog.stdlib.BoundLogger = structlog.get_logger(service="gateway")
        log.info("serving_http", address=self.address)
        return self.address

    async def stop(self) -> None:
        """Refuses new connections and waits for the requests under way."""
        self.server.should_exit = True
        if self.task is not None:
            await self.task


def announce(path: Path, address: str) -> None:
    """Writes the bound address down."""
    serving.write_whole(path, address)
