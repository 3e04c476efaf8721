"""Leases: one generation for one question among all gateways. The port, and the one for a gateway without others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import Protocol


class Held(Enum):
    """What became of the wish to hold a key."""

    MINE = "mine"
    THEIRS = "theirs"
    """Somebody else holds it."""
    AFTER = "after"
    """It is held now, but somebody else held it a moment ago: what was looked up before that is out of date."""


class Leases(Protocol):
    """Who generates what. Whoever finds a key held waits until it is freed, and looks up again.

    A lease is renewed while its holder lives and runs out soon after the holder has died. Leases save work and decide
    nothing: where they can't be had, every gateway goes on as if it were alone.
    """

    @property
    def alone(self) -> bool:
        """Whether no other gateway's leases can be seen now: then there is nothing to wait for."""
        ...

    def hold(self, key: bytes) -> AbstractAsyncContextManager[Held]:
        """Holds a key for the length of the block, unless somebody else holds it."""
        ...

    async def held(self, keys: Sequence[bytes], patience: float) -> bytes | None:
        """The first of the keys that somebody holds. None when nobody does within `patience` seconds: a generation
        that was announced begins a moment later."""
        ...

    async def freed(self, key: bytes, seconds: float) -> bool:
        """Waits until nobody holds the key; False when somebody still does after so many seconds."""
        ...

    async def step(self) -> None:
        """Listens for news for a while; called again and again."""
        ...


class NoLeases:
    """A gateway without others: what it has under way it knows itself (`gateway.single_flight`)."""

    alone = True

    @asynccontextmanager
    async def hold(self, key: bytes) -> AsyncIterator[Held]:
        yield Held.MINE

    async def held(self, keys: Sequence[bytes], patience: float) -> bytes | None:
        return None

    async def freed(self, key: bytes, seconds: float) -> bool:
        return True

    async def step(self) -> None:
        await asyncio.Event().wait()
