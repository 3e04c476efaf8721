"""What is about one image goes to one replica of dedup; when that can't be reached, another does as well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import grpc
import pytest

from askonce.dialing import Dialing
from askonce.serving import Server
from askonce.v1 import answer_pb2, content_pb2, dedup_pb2, dedup_pb2_grpc
from gateway.clients import DedupClient, DedupDown
from gateway.replicas import Replicas, TenantBreakers
from gateway.settings import Settings
from tests.gateway.doubles import ExactMemory, Running, running, serve_double
from tests.gateway.pictures import picture


class Fleet:
    """Replicas over one memory."""

    def __init__(self) -> None:
        self.memories: list[ExactMemory] = []
        self.servers: list[Server] = []

    async def add(self, stack: AsyncExitStack) -> None:
        """Starts one more."""
        memory = ExactMemory()
        if self.memories:
            first = self.memories[0]
            memory.entries, memory.images, memory.tickets = first.entries, first.images, first.tickets
        server = await serve_double(
            stack, "DedupService", lambda server: dedup_pb2_grpc.add_DedupServiceServicer_to_server(memory, server)
        )
        self.memories.append(memory)
        self.servers.append(server)

    @property
    def target(self) -> str:
        """All of them as a setting."""
        return ",".join(server.address for server in self.servers)

    def asked(self) -> list[int]:
        """How many look-ups each has had."""
        return [len(memory.lookups) for memory in self.memories]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Three replicas."""
    fleet = Fleet()
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await fleet.add(stack)
        yield fleet


@pytest.fixture
async def system(fleet: Fleet) -> AsyncIterator[Running]:
    """A gateway over them."""
    async with running(Settings(), dedup=fleet.target) as system:
        yield system


async def test_an_image_keeps_to_its_replica(fleet: Fleet, system: Running) -> None:
    """All that is about one image goes to one replica, its answer too; many images go to all of them."""
    for number in range(12):
        before = fleet.asked()
        for text in ("one?", "two?", "one?"):
            await system.ask(picture(number), text)
            await system.settled()
        assert sorted(now - then for now, then in zip(fleet.asked(), before, strict=True))[:2] == [0, 0]
    assert all(fleet.asked())
    stored = [[each.ticket for each in memory.remembered] for memory in fleet.memories]
    assert sum(len(each) for each in stored) == 24
    assert all(stored)


async def test_a_dead_replica_is_passed_over(fleet: Fleet, system: Running) -> None:
    """What a replica knew the others find in the store; nobody is told of its death, and its answers are stored."""
    for number in range(6):
        await system.ask(picture(number))
    await system.settled()
    await fleet.servers[0].server.stop(0)
    for number in range(6):
        assert (await system.ask(picture(number))).provenance.source == content_pb2.SOURCE_CACHE
    for number in range(6, 12):
        assert (await system.ask(picture(number))).provenance.reason == "QUESTION_UNKNOWN"
    await system.settled()
    assert len(fleet.memories[0].entries) == 12


async def test_with_all_dead_the_model_answers(fleet: Fleet, system: Running) -> None:
    """Dedup is down only when all of its replicas are."""
    for server in fleet.servers:
        await server.server.stop(0)
    assert (await system.ask(picture())).provenance.reason == "DEDUP_UNAVAILABLE"
    with pytest.raises(grpc.aio.AioRpcError):
        await system.ask(picture(), cache_mode=answer_pb2.CACHE_MODE_ONLY_IF_CACHED)


async def test_a_name_is_looked_up_again(fleet: Fleet) -> None:
    """Replicas behind a name come and go; while the name can't be looked up those known before stay."""
    found: list[str] | None = [server.address for server in fleet.servers[:2]]

    async def resolve(name: str) -> Sequence[str]:
        assert name == "dedup.internal:50052"
        if found is None:
            raise OSError("no name server")
        return found

    replicas = Replicas(Dialing(target="dns:///dedup.internal:50052"), resolve)
    client = DedupClient(replicas)
    request = dedup_pb2.LookupRequest(parent="tenants/acme", image_digest=b"x" * 32)
    with pytest.raises(DedupDown):
        await client.lookup(request, 5.0, b"key")
    await replicas.refresh()
    for number in range(20):
        await client.lookup(request, 5.0, bytes([number]))
    assert [bool(count) for count in fleet.asked()] == [True, True, False]
    kept = replicas.members[fleet.servers[1].address]
    found = [server.address for server in fleet.servers[1:]]
    await replicas.refresh()
    assert replicas.members[fleet.servers[1].address] is kept
    found = None
    await replicas.refresh()
    before = fleet.asked()[0]
    for number in range(20):
        await client.lookup(request, 5.0, bytes([number]))
    assert fleet.asked()[0] == before
    assert fleet.asked()[2]
    await replicas.close()


async def test_localhost_is_found() -> None:
    """A name is looked up by the system's resolver."""
    replicas = Replicas(Dialing(target="dns:///localhost:50052"))
    await replicas.refresh()
    assert "ipv4:127.0.0.1:50052" in replicas.members or "ipv6:[::1]:50052" in replicas.members
    await replicas.close()


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_tenant_whose_calls_are_late_shuts_nobody_else_out() -> None:
    """Long questions of one tenant, however many, cost that tenant its look-ups; others go through."""
    clock = Clock()
    breakers = TenantBreakers(clock=clock)
    for _ in range(50):
        breakers.failed("slow")
    assert not breakers.closed("slow")
    assert all(breakers.closed("other") for _ in range(50))
    clock.now += 1.0
    assert [breakers.closed("slow") for _ in range(2)] == [True, False]  # one call tries whether it is over
    breakers.succeeded("slow")
    assert breakers.closed("slow")


def test_a_replica_that_is_late_for_all_is_left_alone() -> None:
    """Calls of two tenants late in a row are the replica's fault: nobody waits for it, but for one call a second; an
    answer in time lets all back in."""
    clock = Clock()
    breakers = TenantBreakers(clock=clock)
    for tenant in ("a", "b", "a", "b", "a"):
        breakers.failed(tenant)
    assert not breakers.closed("c")
    clock.now += 1.0
    assert [breakers.closed("c") for _ in range(2)] == [True, False]
    breakers.succeeded("c")
    assert all(breakers.closed(tenant) for tenant in ("a", "b", "c"))
