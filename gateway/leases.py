"""Leases: one generation for one question among all gateways. The port, and the one for a gateway without others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol


class Leases(Protocol):
    """Who generates what. Whoever finds a key held waits until it is freed, and looks up again.

    A lease is renewed while its holder lives and runs out soon after the holder has died. Leases save work and decide
    nothing: where they can't be had, every gateway goes on as if it were alone.
    """

    @property
    def alone(self) -> bool:
        """Whether no other gateway's leases can be seen now: then there is nothing to wait for."""
        ...

    def hold(self, key: bytes) -> AbstractAsyncContextManager[bool]:
        """Holds a key for the length of the block. False when somebody else holds it: then nothing is held."""
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
    async def hold(self, key: bytes) -> AsyncIterator[bool]:
        yield True

    async def held(self, keys: Sequence[bytes], patience: float) -> bytes | None:
        return None

    async def freed(self, key: bytes, seconds: float) -> bool:
        return True

    async def step(self) -> None:
        await asyncio.Event().wait()
