"""Which of several servers is the one for a key: rendezvous hashing with bounded load. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

BOUND = 1.25
"""How many times the mean load a server may carry before its keys go to the next one (consistent hashing with bounded
loads: Mirrokni, Thorup and Zadimoghaddam, 2016)."""


class Server(Protocol):
    """One of the servers."""

    @property
    def name(self) -> str:
        """What tells it from the others, the same for everybody who chooses."""
        ...

    @property
    def running(self) -> int:
        """Requests that it is answering for us."""
        ...


S = TypeVar("S", bound=Server)


def weight(name: str, key: bytes) -> bytes:
    """How much a server is the one for a key: the highest weight wins (Thaler and Ravishankar, 1998)."""
    return hashlib.blake2b(key + b"\0" + name.encode(), digest_size=8).digest()


def choose(servers: Sequence[S], key: bytes) -> S:
    """The server for a key, of at least one: the one of the highest weight that carries no more than its share."""
    if len(servers) == 1:
        return servers[0]
    bound = math.ceil(BOUND * (1 + sum(each.running for each in servers)) / len(servers))
    calm = [each for each in servers if each.running < bound]
    return max(calm or servers, key=lambda each: weight(each.name, key))
