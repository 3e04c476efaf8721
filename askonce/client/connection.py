"""How the gateway is reached: address, TLS, credentials, deadlines, and when a call is tried again."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from askonce.errors import AskOnceError

MIB = 2**20
REQUEST_ID = "askonce-request-id"
RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
"""What may succeed when it is tried again. Every call of the client is safe to repeat."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the gateway is, who is asking, and how patient the client is."""

    target: str = "127.0.0.1:50051"
    """The gateway's "host:port", or any gRPC target."""
    api_key: str = field(default="", repr=False)
    """A key of the gateway's; sent as `x-api-key`."""
    token: str | Callable[[], str] = field(default="", repr=False)
    """A JWT, or a function that returns a fresh one for each call; sent as `authorization: Bearer`."""
    tls: bool = False
    """Whether to use TLS with the system's authorities. Naming `ca` implies it."""
    ca: Path | None = None
    """The authority of the gateway's certificate, PEM."""
    certificate: Path | None = None
    """The client's certificate chain for mTLS, PEM."""
    key: Path | None = None
    """The client's private key for mTLS, PEM."""
    timeout: float = 60.0
    """Seconds that a call may take, its retries included."""
    retries: int = 3
    """How often a call is tried again after UNAVAILABLE or RESOURCE_EXHAUSTED, 0 or more."""
    max_message_bytes: int = 64 * MIB
    """The largest message, both ways. The gateway has a limit of its own and says which."""

    def options(self) -> list[tuple[str, int]]:
        """The channel's options."""
        return [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Credentials from files; None for plain text. Raises ValueError for half a key pair."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("set both certificate and key, or neither")
        if not self.tls and self.ca is None:
            return None
        read = [path.read_bytes() if path else None for path in (self.ca, self.key, self.certificate)]
        return grpc.ssl_channel_credentials(*read)

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """What goes with each call: its id and who asks."""
        found = [(REQUEST_ID, request_id)]
        if self.api_key:
            found.append(("x-api-key", self.api_key))
        token = self.token() if callable(self.token) else self.token
        if token:
            found.append(("authorization", f"Bearer {token}"))
        return tuple(found)

    def pause(self, error: AskOnceError, attempt: int, left: float) -> float | None:
        """Seconds to wait before attempt `attempt` + 1; None when it is not worth another.

        Waits as long as the server asks for, else exponentially longer with full jitter; never past the `left` seconds
        of the deadline.
        """
        if error.code not in RETRYABLE or attempt >= self.retries:
            return None
        backoff = random.uniform(0.0, min(5.0, 0.1 * 2.0**attempt))
        wait = error.retry_after + backoff if error.retry_after is not None else backoff
        return wait if wait < left else None


def new_request_id() -> str:
    """A fresh id: 16 hexadecimal digits."""
    return secrets.token_hex(8)
