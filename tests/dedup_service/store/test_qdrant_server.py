"""What a Qdrant server is told and asked, beyond what every store does (see the other tests of memory)."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from types import SimpleNamespace

import pytest
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from dedup_service.settings import Qdrant
from dedup_service.store.points import Above, Among, AnyOf, AtLeast, Below, Equals, Kind, Layout, Where
from dedup_service.store.qdrant_server import ServerMemory, ServerPoints, compatible, filter_of
from dedup_service.store.records import (
    MemoryUnavailableError,
)
from tests.dedup_service.store.memories import (
    IMAGE_SIZE,
    QUESTION_SIZE,
    Clock,
    an_image,
)

LAYOUT = Layout("i", 4, "q", 3)


@pytest.mark.parametrize(
    ("client", "server", "fits"),
    [
        ("1.20.0", "1.20.4", True),
        ("1.20.0", "1.19.0", True),
        ("1.20.0", "1.21.1", True),
        ("1.20.0", "1.18.3", False),
        ("1.20.0", "2.20.0", False),
        ("1.20.0", "1.22.0-dev", False),
        ("1.20.0", "dev", True),
        ("1.20.0", "", True),
    ],
)
def test_versions_within_one_minor_fit(client: str, server: str, fits: bool) -> None:
    """Qdrant keeps its protocol between neighbouring minor versions of one major version."""
    assert compatible(client, server) is fits


@pytest.mark.parametrize(("checked", "refused"), [(True, True), (False, False)])
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
async def test_a_server_of_another_time_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, checked: bool, refused: bool
) -> None:
    """The message names both versions and what to do; a setting lets a bold operator try."""
    client = AsyncQdrantClient(":memory:")

    async def info() -> SimpleNamespace:
        return SimpleNamespace(version="0.3.0")

    monkeypatch.setattr(client, "info", info)
    points = ServerPoints(client, LAYOUT, Qdrant(check_version=checked))
    if refused:
        with pytest.raises(MemoryUnavailableError, match=r"0\.3\.0.*QDRANT_CHECK_VERSION"):
            await points.start()
    else:
        await points.start()
    await points.close()


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
async def test_collections_are_made_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards, replicas, consistency, quantisation and limits reach the server; what is not searched by vector is not
    quantised."""
    client = AsyncQdrantClient(":memory:")
    made: dict[str, dict[str, object]] = {}
    create = client.create_collection

    async def seen(name: str, vectors: object, **options: object) -> bool:
        made[name] = {"vectors": vectors, **options}
        return await create(name, vectors)  # type: ignore[arg-type]

    monkeypatch.setattr(client, "create_collection", seen)
    options = Qdrant(
        shards=6, replicas=3, write_consistency=2, quantisation="int8", memory_vectors=True, check_version=False
    )
    points = ServerPoints(client, LAYOUT, options)
    await points.start()
    await points.close()
    assert {
        (each["shard_number"], each["replication_factor"], each["write_consistency_factor"]) for each in made.values()
    } == {(6, 3, 2)}
    assert all(isinstance(each["strict_mode_config"], models.StrictModeConfig) for each in made.values())
    images, entries = (made[LAYOUT.name(kind)]["vectors"] for kind in (Kind.IMAGES, Kind.ENTRIES))
    assert isinstance(images, models.VectorParams)
    assert isinstance(entries, models.VectorParams)
    assert isinstance(images.quantization_config, models.ScalarQuantization)
    assert (images.on_disk, entries.quantization_config) == (False, None)


async def test_reads_ask_as_many_copies_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consistency goes along with every read."""
    client = AsyncQdrantClient(":memory:")
    asked: list[object] = []

    async def retrieve(*_: object, consistency: object, **__: object) -> list[models.Record]:
        asked.append(consistency)
        return []

    monkeypatch.setattr(client, "retrieve", retrieve)
    for name in ("", "majority"):
        await ServerPoints(client, LAYOUT, Qdrant(read_consistency=name)).retrieve(Kind.IMAGES, ["a"])
    assert asked == [None, models.ReadConsistencyType.MAJORITY]
    await client.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [(Qdrant(read_consistency="most"), "majority, quorum, all"), (Qdrant(quantisation="int4"), "none or int8")],
)
async def test_a_setting_that_qdrant_does_not_know_is_named(options: Qdrant, said: str) -> None:
    """One line says what can be chosen."""
    client = AsyncQdrantClient(":memory:")
    with pytest.raises(ValueError, match=said):
        ServerPoints(client, LAYOUT, options)
    await client.close()


async def test_a_server_that_is_away_is_unavailable_in_time(clock: Clock) -> None:
    """Without a server every call fails with the known error, within the timeout."""
    memory = await asyncio.to_thread(
        partial(
            ServerMemory.connect,
            "http://127.0.0.1:9",
            "dct",
            IMAGE_SIZE,
            "sentence",
            QUESTION_SIZE,
            options=Qdrant(timeout=0.5),
        )
    )
    async with asyncio.timeout(60):
        with pytest.raises(MemoryUnavailableError):
            await memory.start()
        with pytest.raises(MemoryUnavailableError):
            await memory.image("acme", an_image().id)
    await memory.close()


def test_every_condition_can_travel_by_grpc() -> None:
    """The conditions that memory uses survive the client's conversion to the wire and back."""
    where: Where = (
        Equals("tenant", "acme"),
        AnyOf("bands", ("0:aa", "1:bb")),
        Below("expire_time", 1.5),
        Above("expire_time", 0.5),
        Among((str(uuid.UUID(int=7)),)),
        AtLeast(2, (Equals("bands", "0:aa"), Equals("bands", "1:bb"))),
    )
    condition = filter_of(where)
    assert condition is not None
    returned = GrpcToRest.convert_filter(RestToGrpc.convert_filter(condition))
    assert stripped(returned.model_dump()) == stripped(condition.model_dump())


def stripped(value: object) -> object:
    """Without what is empty: the wire does not tell "none" from "not given"."""
    if isinstance(value, dict):
        return {key: stripped(inner) for key, inner in value.items() if inner not in (None, [])}
    return [stripped(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("address", ["qdrant:6334", "ftp://qdrant", "http://", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """A store's address that can't work is an error before anything starts."""
    with pytest.raises(ValueError, match="address"):
        ServerMemory.connect(address, "dct", IMAGE_SIZE, "sentence", QUESTION_SIZE)
