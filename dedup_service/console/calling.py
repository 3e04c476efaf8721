"""How the command line reaches the dedup service, and how it says that something failed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import grpc

from askonce import faults
from askonce.access import SERVICE_KEY, Access
from askonce.dialing import Dialing, dial

P = ParamSpec("P")
T = TypeVar("T")

TARGET = "127.0.0.1:50052"
SERVICE_KEY_FILE = Access().service_key


class Failure(click.ClickException):
    """A command that could not do its work. Exit code 2, so that it is not taken for the verdict of a check."""

    exit_code = 2


class UnreachableError(Failure):
    """Nobody answers where the service should be."""


@dataclass(frozen=True)
class Peer:
    """The service to talk to."""

    dialing: Dialing
    timeout: float
    """Seconds that one call may take."""
    shows: tuple[tuple[str, str], ...] = ()
    """Metadata that says who calls."""

    def call(self, work: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        """Runs `work` with an open channel. Raises Failure with the service's reason."""

        async def run() -> T:
            channel = dial(self.dialing, shows=self.shows)
            try:
                return await work(channel)
            finally:
                await channel.close()

        try:
            return asyncio.run(run())
        except grpc.aio.AioRpcError as error:
            raise failure(error, self.dialing.target) from error
        except (OSError, ValueError) as error:
            raise Failure(str(error)) from error


def failure(error: grpc.aio.AioRpcError, target: str) -> Failure:
    """What a failed call means to somebody at a terminal."""
    fault = faults.from_error(error)
    if error.code() is grpc.StatusCode.UNAVAILABLE and fault.reason == "UNAVAILABLE":
        return UnreachableError(
            f"UNAVAILABLE: nobody answers at {target}; name the dedup service with --target or ASKONCE_TARGET"
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure(f"DEADLINE_EXCEEDED: {target} did not answer in time; see --timeout")
    return Failure(f"{fault.reason}: {fault.message}")


def shown(path: Path | None) -> tuple[tuple[str, str], ...]:
    """The metadata by which the key in a file is shown; empty where no file is named and the usual one is not there."""
    if path is None and not SERVICE_KEY_FILE.exists():
        return ()
    try:
        key = (path or SERVICE_KEY_FILE).read_text(encoding="ascii").split()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise Failure(f"{path or SERVICE_KEY_FILE}: no key can be read from it ({error})") from error
    return ((SERVICE_KEY, key), ("x-api-key", key))


def with_peer(command: Callable[P, Any]) -> Callable[P, Any]:
    """Adds the options that name the service; the command gets a `peer`."""

    @click.option("--target", default=lambda: os.environ.get("ASKONCE_TARGET", TARGET), show_default=TARGET,
                  help="The dedup service, HOST:PORT. Also ASKONCE_TARGET.")  # fmt: skip
    @click.option("--ca", type=click.Path(path_type=Path, exists=True), help="The authority of its certificate, PEM.")
    @click.option("--certificate", type=click.Path(path_type=Path, exists=True), help="Your certificate for mTLS, PEM.")
    @click.option("--key", type=click.Path(path_type=Path, exists=True), help="Your private key for mTLS, PEM.")
    @click.option("--key-file", type=click.Path(path_type=Path, exists=True), envvar="ASKONCE_KEY_FILE",
                  help="A file with an API key or the service key. Also ASKONCE_KEY_FILE. "
                  f"Default: {SERVICE_KEY_FILE}, where there is one.")  # fmt: skip
    @click.option("--timeout", default=30.0, show_default=True, help="Seconds that one call may take.")
    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        options: dict[str, Any] = dict(kwargs)
        target, ca, certificate, key = (options.pop(name) for name in ("target", "ca", "certificate", "key"))
        dialing = Dialing(target=target, ca=ca, certificate=certificate, key=key)
        options["peer"] = Peer(dialing, options.pop("timeout"), shown(options.pop("key_file")))
        return command(*args, **options)

    return wrapped
