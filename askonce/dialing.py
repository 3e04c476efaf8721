"""Channels to other services: limits, keep-alive, retries of what may be retried, TLS, request ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Dialing:
    """How a peer is reached."""

    target: str = ""
    """A gRPC target such as "127.0.0.1:50052" or "dns:///dedup.internal:50052"; several addresses are used in turn. The
    gateway sends what is about one image to one dedup replica: it takes several targets with commas in between, or a
    name with "dns:///", which it looks up now and then."""
    max_message_bytes: int = 24 * MIB
    """The largest message, both ways; the same number as at the server."""
    ca: Path | None = None
    """The authority of the server's certificate, PEM. Unset for plain text."""
    certificate: Path | None = None
    """This client's certificate chain for mTLS, PEM."""
    key: Path | None = None
    """This client's private key for mTLS, PEM."""


def service_config(retried: tuple[str, ...]) -> str:
    """The channel's service config: spread over all addresses, skip unhealthy ones, retry `retried` on UNAVAILABLE.

    `retried` names full services whose methods are all safe to repeat, such as "askonce.v1.DedupService". Timeouts are
    not set here (a service config's timeout fails calls at once in grpc.aio): every call passes its own.
    """
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retried:
        config["methodConfig"] = [
            {
                "name": [{"service": name} for name in retried],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.02s",
                    "maxBackoff": "0.2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        config["retryThrottling"] = {"maxTokens": 20, "tokenRatio": 0.1}
    return json.dumps(config)


class _Shows:
    """Adds metadata to every call of a channel."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.metadata = metadata

    def _with(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        shown = grpc.aio.Metadata(*(details.metadata or ()), *self.metadata)
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, shown, details.credentials, details.wait_for_ready
        )


class _ShowsUnaryUnary(_Shows, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self._with(details), request)


class _ShowsUnaryStream(_Shows, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self._with(details), request)


class _ShowsStreamUnary(_Shows, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self._with(details), requests)


def dial(
    settings: Dialing, retried: tuple[str, ...] = (), shows: tuple[tuple[str, str], ...] = (), authority: str = ""
) -> grpc.aio.Channel:
    """Opens a channel; it connects when first used. `authority` is the name that the server's certificate is for, where
    the target is an address that the name led to. `shows` is metadata that goes with every call, such as a key; it
    costs each call some 0.1 ms, so services add theirs with `telemetry.outgoing` instead.

    Raises ValueError for an empty target or half a key pair.
    """
    if not settings.target:
        raise ValueError("target: name the peer to dial")
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.service_config", service_config(retried)),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    if authority:
        options += [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", authority)]
    credentials = channel_credentials(settings)
    interceptors: list[Any] = [kind(shows) for kind in (_ShowsUnaryUnary, _ShowsUnaryStream, _ShowsStreamUnary)]
    added = interceptors if shows else None
    if credentials is None:
        return grpc.aio.insecure_channel(settings.target, options=options, interceptors=added)
    return grpc.aio.secure_channel(settings.target, credentials, options=options, interceptors=added)


def channel_credentials(settings: Dialing) -> grpc.ChannelCredentials | None:
    """Credentials from files; None for plain text."""
    if settings.ca is None:
        return None
    if (settings.certificate is None) != (settings.key is None):
        raise ValueError("set both certificate and key, or neither")
    key = settings.key.read_bytes() if settings.key else None
    chain = settings.certificate.read_bytes() if settings.certificate else None
    return grpc.ssl_channel_credentials(settings.ca.read_bytes(), key, chain)
