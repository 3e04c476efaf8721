"""Runs one gRPC service: limits, health, reflection, faults, the canonical log line, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from askonce.access import Guard
from askonce.interceptor import Gate, Requests
from askonce.os_errors import listening
from askonce.settings import StartError

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS; all empty for plain text."""

    certificate: Path | None = None
    """The server's certificate chain, PEM."""
    key: Path | None = None
    """The server's private key, PEM."""
    client_ca: Path | None = None
    """The authority that clients' certificates must come from, PEM. Set, it makes them mandatory (mTLS)."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a service listens and ends."""

    listen: str = "127.0.0.1:0"
    """The "host:port" to listen on. Port 0 takes a free one."""
    port_file: Path | None = None
    """A file that gets the bound "host:port" once the service listens; written in one step."""
    max_message_bytes: int = 8 * MIB
    """The largest message, both ways. Above the image limit, so that a too large image gets a clear error."""
    max_bytes_in_flight: int = 256 * MIB
    """Bytes of all messages being worked on; more are refused with SERVER_BUSY."""
    max_concurrent_calls: int = 2_048
    """Calls at once, those that watch the health included; more get a bare RESOURCE_EXHAUSTED."""
    max_streams: int = 512
    """Calls at once on one connection; more wait at the client."""
    max_connection_age: float = 3_600.0
    """Seconds after which a connection is asked to reconnect, so that load spreads to new replicas."""
    drain_delay: float = 0.0
    """Seconds between NOT_SERVING and refusing calls, for load balancers to notice."""
    grace: float = 10.0
    """Seconds that calls in flight may take to end."""
    tls: Tls = field(default_factory=Tls)


@dataclass(frozen=True, slots=True)
class Registration:
    """One service of the process."""

    name: str
    """The full name, such as "askonce.v1.DedupService"."""
    add: Callable[[grpc.aio.Server], None]
    """Adds the servicer to the server."""


class Server:
    """A gRPC server whose health starts NOT_SERVING and whose end loses no call in flight."""

    def __init__(
        self,
        service: str,
        settings: Serving,
        registrations: Sequence[Registration],
        *,
        guard: Guard | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`guard` asks callers for keys and roles; `gate` looks at a caller's metadata before its message is read."""
        self.service = service
        self.settings = settings
        self.registrations = tuple(registrations)
        self.address = ""
        self.health = health.aio.HealthServicer()
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger(service=service)
        self.interceptors = [
            Requests(
                service,
                self.log,
                guard=guard,
                gate=gate,
                certificates=settings.tls.client_ca is not None,
                max_message_bytes=settings.max_message_bytes,
                max_bytes_in_flight=settings.max_bytes_in_flight,
                max_calls=settings.max_concurrent_calls,
            )
        ]
        self.server = grpc.aio.server(
            interceptors=self.interceptors,
            options=[
                # Twice our own limit, so that a message somewhat too large gets an error that says so.
                ("grpc.max_receive_message_length", 2 * settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                ("grpc.max_metadata_size", 16_384),
                ("grpc.max_concurrent_streams", settings.max_streams),
                ("grpc.max_connection_idle_ms", 900_000),
                ("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000)),
                ("grpc.max_connection_age_grace_ms", 150_000),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
            maximum_concurrent_rpcs=settings.max_concurrent_calls,
        )
        for registration in self.registrations:
            registration.add(self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        names = [registration.name for registration in self.registrations]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.server)

    async def start(self) -> str:
        """Listens, NOT_SERVING yet. Returns the bound address. Raises StartError when the port is taken."""
        await self.set_serving(False)
        credentials = server_credentials(self.settings.tls)
        listen = self.settings.listen
        check_address(listen)
        port = (
            self.server.add_secure_port(listen, credentials) if credentials else self.server.add_insecure_port(listen)
        )
        if port == 0:
            raise StartError(f"can't listen on {listen}: the port is taken or the address not this machine's")
        await self.server.start()
        self.address = f"{listen.rpartition(':')[0]}:{port}"
        return self.address

    async def set_serving(self, serving: bool, name: str | None = None) -> None:
        """Sets the health of one service, or of all with the process itself."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        names = ["", *(each.name for each in self.registrations)] if name is None else [name]
        for each in names:
            await self.health.set(each, status)

    async def announce(self) -> None:
        """Tells the world that the service is ready: health, port file, log."""
        await self.set_serving(True)
        if self.settings.port_file is not None:
            await asyncio.to_thread(write_whole, self.settings.port_file, self.address)
        self.log.info("serving", address=self.address)

    async def stop(self) -> None:
        """Drains: NOT_SERVING, delay, refuse new calls, wait for those in flight up to the grace."""
        await self.health.enter_graceful_shutdown()
        if self.settings.drain_delay:
            await asyncio.sleep(self.settings.drain_delay)
        await self.server.stop(self.settings.grace)
        self.log.info("stopped")


async def run(
    server: Server,
    prepare: Callable[[AsyncExitStack], Awaitable[None]] | None = None,
    watch: Callable[[], bool] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, then stops in reverse order of starting.

    `prepare` runs once the port is open and before the service is announced: load models there and push what must be
    closed on the stack; the stack is unwound after the last call has ended. `watch`, asked every second, turns the
    health NOT_SERVING while it returns False.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.server.stop, 0)
        if prepare is not None:
            preparing = asyncio.ensure_future(prepare(stack))
            signalled = asyncio.ensure_future(stopping.wait())
            await asyncio.wait({preparing, signalled}, return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
            if not preparing.done():
                preparing.cancel()
                await asyncio.gather(preparing, return_exceptions=True)
                return
            await preparing
        await server.announce()
        await until(stopping, server, watch)
        await server.stop()


async def until(stopping: asyncio.Event, server: Server, watch: Callable[[], bool] | None) -> None:
    """Waits for the signal; meanwhile health follows `watch`."""
    healthy = True
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), timeout=1.0 if watch else None)
        except TimeoutError:
            if watch is not None and watch() != healthy:
                healthy = not healthy
                await server.set_serving(healthy)
                server.log.warning("health", serving=healthy)


def host_and_port(listen: str) -> tuple[str, int]:
    """The parts of a "host:port" to listen on. Raises StartError for what is none."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise StartError(f"can't listen on {listen!r}: write HOST:PORT, such as 127.0.0.1:50051")
    return host, int(port)


def check_address(listen: str) -> None:
    """Makes sure that a "host:port" can be listened on: gRPC says why not on standard error only. Raises StartError."""
    host, port = host_and_port(listen)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        raise StartError(listening(listen, error)) from error


def write_whole(path: Path, text: str) -> None:
    """Writes a small file so that readers see all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(path.suffix + ".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def server_credentials(tls: Tls) -> grpc.ServerCredentials | None:
    """Credentials from files; None for plain text. Raises ValueError when only one of certificate and key is given."""
    if tls.certificate is None and tls.key is None:
        return None
    if tls.certificate is None or tls.key is None:
        raise ValueError("tls: set both certificate and key, or neither")
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    authority = tls.client_ca.read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
