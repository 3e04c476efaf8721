"""Under which keys requests share work, and which never do. Pure functions."""

from __future__ import annotations

import hashlib

from askonce.v1 import answer_pb2
from gateway.ask import Ask
from gateway.provenance import LookupResult

UNSHARED = frozenset((answer_pb2.CACHE_MODE_BYPASS, answer_pb2.CACHE_MODE_REFRESH))
"""Modes that want an answer of their own even while an equal request is under way."""


def is_private(ask: Ask) -> bool:
    """Whether a request's generation is its own.

    So it is for modes that want a fresh answer, for an answer drawn at random without a seed, and for background work,
    which a busy engine refuses: nobody who waits may share that.
    """
    sampled = ask.params.temperature > 0 and not ask.params.HasField("seed")
    return sampled or ask.background or ask.mode in UNSHARED


def request_key(ask: Ask) -> bytes:
    """The key under which only equal requests meet: tenant, bytes, question, model and every setting."""
    parts = (
        ask.tenant.encode(),
        ask.digest,
        ask.question.SerializeToString(deterministic=True),
        ask.params.SerializeToString(deterministic=True),
        ask.limits.SerializeToString(deterministic=True) if ask.limits is not None else b"",
        f"{ask.mode}\0{ask.model.name}\0{ask.model.revision}\0{chr(0).join(ask.tags)}".encode(),
    )
    mix = hashlib.sha256()
    for part in parts:
        mix.update(len(part).to_bytes(8, "little") + part)
    return mix.digest()


def tenant_key(ask: Ask, key: bytes) -> bytes:
    """A key of dedup's as the gateway uses it: never shared between tenants."""
    return ask.tenant.encode() + b"\0" + key


def generation_key(ask: Ask, found: LookupResult) -> bytes | None:
    """The key of the generation for a request; None when it must not be shared."""
    if is_private(ask):
        return None
    if found.response is None:
        return request_key(ask)
    return tenant_key(ask, found.miss.flight_key) if found.miss.flight_key else None
