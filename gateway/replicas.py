"""The replicas of dedup: what is about one image goes to one of them, so that its caches are warm. Any other does as
well."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

import grpc
import structlog
from cachetools import LRUCache

from askonce import rendezvous
from askonce.dialing import Dialing, dial
from askonce.v1 import dedup_pb2_grpc

RETRIED = ("askonce.v1.DedupService",)
DNS = "dns:///"
RESOLVE_SECONDS = 5.0
"""How often a name is looked up."""
REST = 1.0
"""Seconds for which a replica that can't be reached is left out."""
PARTING = 30.0
"""Seconds that calls under way have when a replica is gone from the name."""


class Breaker:
    """Stops asking a peer that keeps being late: after `failures` in a row one call in `rest` seconds goes through."""

    def __init__(self, failures: int = 5, rest: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures = failures
        self.clock = clock
        self.rest = rest
        self.count = 0
        self.next = 0.0

    def closed(self) -> bool:
        """Whether a call may go through now."""
        if self.count < self.failures:
            return True
        now = self.clock()
        if now < self.next:
            return False
        self.next = now + self.rest
        return True

    def succeeded(self) -> None:
        """Notes a call that was answered."""
        self.count = 0

    def failed(self) -> None:
        """Notes a call that was not answered in time."""
        self.count += 1
        if self.count == self.failures:
            self.next = self.clock() + self.rest


class TenantBreakers:
    """A breaker that one tenant alone can't open for the others: what it asks may simply take long. It opens for the
    tenant whose calls are late, and for all once calls of two are late in a row."""

    def __init__(self, most: int = 1_024, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` bounds the tenants remembered for being late."""
        self.clock = clock
        self.shared = Breaker(clock=clock)
        self.late: set[str] = set()
        """Tenants whose calls were late since the last that was answered in time."""
        self.own: LRUCache[str, Breaker] = LRUCache(most)

    def closed(self, tenant: str) -> bool:
        """Whether a call of this tenant may go through now."""
        own = self.own.get(tenant)
        return (own is None or own.closed()) and (len(self.late) < 2 or self.shared.closed())

    def succeeded(self, tenant: str) -> None:
        """Notes a call that was answered."""
        self.shared.succeeded()
        self.late.clear()
        self.own.pop(tenant, None)

    def failed(self, tenant: str) -> None:
        """Notes a call that was not answered in time."""
        self.shared.failed()
        if len(self.late) < 2:
            self.late.add(tenant)
        self.own.setdefault(tenant, Breaker(clock=self.clock)).failed()


class Replica:
    """One replica, or whatever one channel leads to."""

    def __init__(self, name: str, channel: grpc.aio.Channel) -> None:
        self.name = name
        self.channel = channel
        self.stub: dedup_pb2_grpc.DedupServiceAsyncStub = dedup_pb2_grpc.DedupServiceStub(channel)
        self.breaker = TenantBreakers()
        self.running = 0
        self.down_until = 0.0


Resolve = Callable[[str], Awaitable[Sequence[str]]]


class Replicas:
    """The pool. A target without commas and without "dns:///" is one channel, as gRPC dials it."""

    def __init__(self, settings: Dialing, resolve: Resolve | None = None) -> None:
        """`resolve` returns the addresses of a "host:port"."""
        self.settings = settings
        self.resolve = resolve or addresses_of
        self.name = settings.target.removeprefix(DNS) if settings.target.startswith(DNS) else ""
        self.members: dict[str, Replica] = {}
        self.parting: set[asyncio.Task[None]] = set()
        targets = [each.strip() for each in settings.target.split(",") if each.strip()]
        self.take([] if self.name else targets or [""])

    def take(self, targets: Sequence[str]) -> None:
        """Makes these the members; what stays keeps its channel."""
        gone = [self.members.pop(name) for name in list(self.members) if name not in targets]
        authority = self.name.rpartition(":")[0] if self.name else ""
        retried = RETRIED if len(targets) == 1 and not self.name else ()  # of several the next one is tried instead
        for target in targets:
            if target not in self.members:
                channel = dial(replace(self.settings, target=target), retried, authority=authority)
                self.members[target] = Replica(target, channel)
        for member in gone:
            task = asyncio.ensure_future(member.channel.close(PARTING))
            self.parting.add(task)
            task.add_done_callback(self.parting.discard)

    async def refresh(self) -> None:
        """Looks the name up. Where that fails, what was found before stays."""
        if not self.name:
            return
        try:
            found = sorted(set(await self.resolve(self.name)))
        except OSError as error:
            structlog.get_logger(service="gateway").warning("resolve_failed", name=self.name, error=str(error))
            return
        if found:
            self.take(found)

    def choose(self, key: bytes, tried: Collection[str] = (), tenant: str = "") -> Replica | None:
        """The replica to ask about an image's digest, or about nothing in particular without a key. None when none is
        left that may be asked for this tenant."""
        now = time.monotonic()
        left = [each for each in self.members.values() if each.name not in tried]
        up = [each for each in left if each.down_until <= now] or left
        ready = [each for each in up if each.breaker.closed(tenant)]
        if not ready:
            return None
        if key:
            return rendezvous.choose(ready, key)
        return min(ready, key=lambda each: each.running)

    async def close(self) -> None:
        """Closes all channels."""
        await asyncio.gather(*(each.channel.close() for each in self.members.values()), *self.parting)


async def addresses_of(name: str) -> list[str]:
    """The addresses of "host:port", as gRPC targets. Raises OSError."""
    host, _, port = name.rpartition(":")
    found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    return [
        f"ipv6:[{address[0]}]:{port}" if family == socket.AF_INET6 else f"ipv4:{address[0]}:{port}"
        for family, _, _, _, address in found
    ]
