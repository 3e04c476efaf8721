"""The shared store: a Qdrant server or cluster over gRPC."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from dedup_service.settings import Qdrant
from dedup_service.store.operations import operation
from dedup_service.store.payloads import bytes_of, text_of
from dedup_service.store.points import (
    GRAPHED,
    KEYWORDS,
    NUMBERS,
    Above,
    Among,
    AnyOf,
    Below,
    Condition,
    Equals,
    Found,
    Kind,
    Layout,
    Leftover,
    Page,
    Point,
    Where,
)
from dedup_service.store.records import MemoryUnavailableError, Vector
from dedup_service.store.repository import PointMemory

FAULTS = (QdrantException, ApiException, grpc.RpcError, OSError, TimeoutError)
"""What the client raises when the server refuses, fails, or is away."""
GRPC_PORT = 6334
CLIENT = version("qdrant-client")
"""The version of the client library."""
STRICT = models.StrictModeConfig(
    enabled=True,
    unindexed_filtering_retrieve=False,
    unindexed_filtering_update=False,
    max_query_limit=10_000,
    max_timeout=120,
)
"""What the server refuses. Every filter of ours has an index, and no page is near this long."""
GRAPH_LINKS = 16
"""Links of a node in the graph of a tenant or a form (`payload_m`). There is none over all: every search is in one."""


class ServerPoints:
    """Implements `Points` by an `AsyncQdrantClient`."""

    kind = "qdrant"

    def __init__(self, client: AsyncQdrantClient, layout: Layout, options: Qdrant | None = None) -> None:
        """Without options the client is taken to fit its server. Raises ValueError for options that Qdrant does not
        know."""
        self.client = client
        self.layout = layout
        self.options = options or Qdrant(check_version=False)
        self.timeout = self.options.timeout
        self.consistency = consistency_of(self.options.read_consistency)
        self.quantisation = quantisation_of(self.options.quantisation)
        self.closed = False

    @asynccontextmanager
    async def bounded(self, name: str) -> AsyncIterator[int]:
        """Bounds and measures the operation `name` and gives its errors one name; yields the whole seconds that the
        server may take."""
        with operation(self.kind, name):
            try:
                async with asyncio.timeout(self.timeout):
                    yield max(1, math.ceil(self.timeout))
            except FAULTS as error:
                raise MemoryUnavailableError(f"Qdrant: {short(error)}") from error

    async def start(self) -> None:
        """Creates the collections that are missing, with their indexes. Raises MemoryUnavailableError, also for a
        server of another version than the client can speak to."""
        if self.options.check_version:
            await self.check_version()
        for kind in Kind:
            vectors = models.VectorParams(
                size=self.layout.dimension(kind),
                distance=models.Distance.COSINE,
                on_disk=not self.options.memory_vectors,
                quantization_config=self.quantisation if kind in GRAPHED else None,
                # Entries are only looked for among the few of their image, which the payload index finds.
                hnsw_config=models.HnswConfigDiff(m=0, payload_m=GRAPH_LINKS if kind in GRAPHED else 0),
            )
            graphed = GRAPHED.get(kind, "")
            await self.create(self.layout.name(kind), vectors, KEYWORDS[kind], NUMBERS[kind], graphed)
        await self.create(self.layout.fingerprints, {}, (), ("time",))

    async def check_version(self) -> None:
        """Refuses a server more than one minor version away from the client, as Qdrant's own policy has it."""
        async with self.bounded("version"):
            server = (await self.client.info()).version
        if not compatible(CLIENT, server):
            raise MemoryUnavailableError(
                f"the Qdrant server is {server} and the client {CLIENT}: they may differ by one minor version; change "
                "the server, or set ASKONCE_DEDUP_QDRANT_CHECK_VERSION=false to try all the same"
            )

    async def create(
        self,
        name: str,
        vectors: models.VectorParams | dict[str, models.VectorParams],
        keywords: Sequence[str],
        numbers: Sequence[str],
        graphed: str = "",
    ) -> None:
        """Creates a collection unless it is there; another replica may do the same at this moment."""
        async with self.bounded("create") as seconds:
            if not await self.client.collection_exists(name):
                try:
                    await self.client.create_collection(
                        name,
                        vectors,
                        on_disk_payload=True,
                        shard_number=self.options.shards or None,
                        replication_factor=self.options.replicas,
                        write_consistency_factor=self.options.write_consistency,
                        strict_mode_config=STRICT if self.options.strict else None,
                        timeout=seconds,
                    )
                except FAULTS:
                    if not await self.client.collection_exists(name):
                        raise
        schemas: dict[str, models.KeywordIndexParams | models.FloatIndexParams] = {}
        for key in keywords:
            schemas[key] = models.KeywordIndexParams(
                type=models.KeywordIndexType.KEYWORD, is_tenant=key == "tenant", enable_hnsw=key == graphed
            )
        for key in numbers:
            schemas[key] = models.FloatIndexParams(type=models.FloatIndexType.FLOAT, enable_hnsw=False)
        for key, schema in schemas.items():
            async with self.bounded("create") as seconds:
                await self.client.create_payload_index(name, key, schema, timeout=seconds)

    async def close(self) -> None:
        """Closes the connection. Safe to call twice."""
        if not self.closed:
            self.closed = True
            await self.client.close()

    async def retrieve(self, kind: Kind, ids: Sequence[str], vectors: bool = False) -> list[Found]:
        async with self.bounded("retrieve") as seconds:
            records = await self.client.retrieve(
                self.layout.name(kind),
                list(ids),
                with_payload=True,
                with_vectors=vectors,
                consistency=self.consistency,
                timeout=seconds,
            )
        return [found_of(record) for record in records]

    async def nearest(self, kind: Kind, vectors: Vector, where: Where, limit: int) -> list[Found]:
        requests = [
            models.QueryRequest(query=vector.tolist(), filter=filter_of(where), limit=limit, with_payload=True)
            for vector in vectors
        ]
        async with self.bounded("nearest") as seconds:
            answers = await self.client.query_batch_points(
                self.layout.name(kind), requests, consistency=self.consistency, timeout=seconds
            )
        best: dict[str, Found] = {}
        for point in (point for answer in answers for point in answer.points):
            found = found_of(point, point.score)
            if found.id not in best or found.score > best[found.id].score:
                best[found.id] = found
        return sorted(best.values(), key=lambda found: found.score, reverse=True)[:limit]

    async def page(
        self,
        kind: Kind,
        where: Where,
        limit: int,
        *,
        after: str | None = None,
        fields: tuple[str, ...] | None = None,
        vectors: bool = False,
    ) -> Page:
        return await self.scroll(self.layout.name(kind), where, limit, after, fields, vectors)

    async def scroll(
        self,
        name: str,
        where: Where,
        limit: int,
        after: str | None,
        fields: tuple[str, ...] | None,
        vectors: bool = False,
    ) -> Page:
        """A page of a collection."""
        async with self.bounded("page") as seconds:
            records, following = await self.client.scroll(
                name,
                scroll_filter=filter_of(where),
                limit=limit,
                offset=after,
                with_payload=True if fields is None else list(fields),
                with_vectors=vectors,
                consistency=self.consistency,
                timeout=seconds,
            )
        return Page(tuple(found_of(record) for record in records), None if following is None else str(following))

    async def lowest(self, kind: Kind, key: str, below: float, limit: int, fields: tuple[str, ...]) -> list[Found]:
        async with self.bounded("lowest") as seconds:
            records, _ = await self.client.scroll(
                self.layout.name(kind),
                scroll_filter=filter_of((Below(key, below),)),
                limit=limit,
                order_by=key,
                with_payload=[*fields],
                consistency=self.consistency,
                timeout=seconds,
            )
        return [found_of(record) for record in records]

    async def count(self, kind: Kind, where: Where = ()) -> int:
        return await self.count_points(self.layout.name(kind), where)

    async def count_points(self, name: str, where: Where = ()) -> int:
        """The number of points of a collection."""
        async with self.bounded("count") as seconds:
            counted = await self.client.count(name, count_filter=filter_of(where), exact=True, timeout=seconds)
        return counted.count

    async def put(self, kind: Kind, points: Sequence[Point]) -> None:
        structs = [models.PointStruct(id=one.id, vector=one.vector.tolist(), payload=one.payload) for one in points]
        async with self.bounded("put") as seconds:
            await self.client.upsert(self.layout.name(kind), structs, wait=True, timeout=seconds)

    async def change(self, kind: Kind, changes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        operations = [
            models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, points=[point]))
            for point, payload in changes
        ]
        async with self.bounded("change") as seconds:
            await self.client.batch_update_points(self.layout.name(kind), operations, wait=True, timeout=seconds)

    async def remove(self, kind: Kind, ids: Sequence[str]) -> None:
        await self.take_out(self.layout.name(kind), ids)

    async def take_out(self, name: str, ids: Sequence[str]) -> None:
        """Removes points of a collection."""
        async with self.bounded("remove") as seconds:
            selector = models.PointIdsList(points=list(ids))
            await self.client.delete(name, selector, wait=True, timeout=seconds)

    async def put_fingerprint(self, image: str, content: bytes, time: float) -> None:
        struct = models.PointStruct(id=image, vector={}, payload={"content": text_of(content), "time": time})
        async with self.bounded("put_fingerprint") as seconds:
            await self.client.upsert(self.layout.fingerprints, [struct], wait=True, timeout=seconds)

    async def fingerprint(self, image: str) -> bytes | None:
        async with self.bounded("fingerprint") as seconds:
            records = await self.client.retrieve(
                self.layout.fingerprints,
                [image],
                with_payload=["content"],
                consistency=self.consistency,
                timeout=seconds,
            )
        return bytes_of(records[0].payload["content"]) if records and records[0].payload else None

    async def remove_fingerprints(self, images: Sequence[str]) -> None:
        await self.take_out(self.layout.fingerprints, images)

    async def fingerprint_ids(
        self, before: float, limit: int, after: str | None = None
    ) -> tuple[list[str], str | None]:
        page = await self.scroll(self.layout.fingerprints, (Below("time", before),), limit, after, ("time",))
        return [found.id for found in page.points], page.after

    async def leftovers(self, now: float) -> list[Leftover]:
        """On a server that several deployments share, the collections of the others count among these."""
        async with self.bounded("leftovers"):
            names = [one.name for one in (await self.client.get_collections()).collections]
        return [await self.count_leftover(Leftover(name), now) for name in sorted(names) if self.layout.foreign(name)]

    async def count_leftover(self, leftover: Leftover, now: float) -> Leftover:
        """What a collection of other encoders holds."""
        points = await self.count_points(leftover.name)
        if leftover.kind == Kind.ENTRIES:
            live = await self.count_points(leftover.name, (Above("expire_time", now),))
            return replace(leftover, points=points, live=live)
        aliases, after = 0, None
        while leftover.kind == Kind.IMAGES:
            page = await self.scroll(leftover.name, (), 1_000, after, ("digests",))
            aliases += sum(len(found.payload["digests"]) - 1 for found in page.points)
            after = page.after
            if after is None:
                break
        return replace(leftover, points=points, aliases=aliases)

    async def drop(self, names: Sequence[str]) -> None:
        for name in names:
            if self.layout.foreign(name):
                async with self.bounded("drop") as seconds:
                    await self.client.delete_collection(name, timeout=seconds)

    async def problems(self) -> list[str]:
        """Nothing: a server looks after its own disk."""
        return []

    async def rewrite(self, within: float) -> None:
        """Left to the server, whose optimizer makes segments anew once enough of them is removed."""

    async def disk_bytes(self) -> int:
        """Not told by the server."""
        return 0


class ServerMemory(PointMemory):
    """Memory in a Qdrant server that all replicas share."""

    @classmethod
    def connect(
        cls,
        address: str,
        image_identity: str,
        image_dimension: int,
        question_identity: str,
        question_dimension: int,
        *,
        options: Qdrant | None = None,
        clock: Callable[[], float] = time.time,
    ) -> ServerMemory:
        """`address` is "http://host:6334" or "https://:API_KEY@host:6334"; the port is that of gRPC. Raises ValueError
        for another kind of address and for options that Qdrant does not know. Nothing is sent yet."""
        options = options or Qdrant()
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the store's address must be http://HOST:PORT or https://:API_KEY@HOST:PORT")
        client = AsyncQdrantClient(
            host=parts.hostname,
            grpc_port=parts.port or GRPC_PORT,
            prefer_grpc=True,
            https=parts.scheme == "https",
            api_key=parts.password,
            timeout=max(1, math.ceil(options.timeout)),
            check_compatibility=False,  # it would ask over HTTP, and block; `check_version` asks by gRPC
        )
        layout = Layout(image_identity, image_dimension, question_identity, question_dimension)
        return cls(ServerPoints(client, layout, options), clock)


def compatible(client: str, server: str) -> bool:
    """Whether two versions, such as "1.20.0" and "1.19.2", are at most one minor version apart. A version that is none
    counts as compatible: a build from source says "dev"."""
    try:
        ours, theirs = (tuple(int(part) for part in text.split(".")[:2]) for text in (client, server))
    except ValueError:
        return True
    return ours[0] == theirs[0] and abs(ours[1] - theirs[1]) <= 1


def consistency_of(name: str) -> models.ReadConsistencyType | None:
    """A read consistency by its name; None for one copy. Raises ValueError."""
    try:
        return models.ReadConsistencyType(name) if name else None
    except ValueError as error:
        known = ", ".join(each.value for each in models.ReadConsistencyType)
        raise ValueError(f"read_consistency is empty or one of {known}, not {name!r}") from error


def quantisation_of(name: str) -> models.ScalarQuantization | None:
    """A quantisation by its name. Raises ValueError."""
    if name not in ("none", "int8"):
        raise ValueError(f"quantisation is none or int8, not {name!r}")
    scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    return models.ScalarQuantization(scalar=scalar) if name == "int8" else None


def short(error: Exception) -> str:
    """An error in a few words: a call's status, or the error's kind."""
    return str(error.code().name) if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__


def condition_of(condition: Condition) -> models.Condition:
    """A condition in Qdrant's words."""
    if isinstance(condition, Equals):
        return models.FieldCondition(key=condition.key, match=models.MatchValue(value=condition.value))
    if isinstance(condition, AnyOf):
        return models.FieldCondition(key=condition.key, match=models.MatchAny(any=list(condition.values)))
    if isinstance(condition, Below):
        return models.FieldCondition(key=condition.key, range=models.Range(lt=condition.value))
    if isinstance(condition, Above):
        return models.FieldCondition(key=condition.key, range=models.Range(gt=condition.value))
    if isinstance(condition, Among):
        return models.HasIdCondition(has_id=list(condition.ids))
    parts = [condition_of(part) for part in condition.conditions]
    return models.Filter(min_should=models.MinShould(conditions=parts, min_count=condition.count))


def filter_of(where: Where) -> models.Filter | None:
    """Conditions in Qdrant's words; None for none."""
    return models.Filter(must=[condition_of(condition) for condition in where]) if where else None


def found_of(record: models.Record | models.ScoredPoint, score: float = 0.0) -> Found:
    """A point as it was found."""
    vector = None if record.vector is None else np.asarray(record.vector, np.float32)
    return Found(str(record.id), record.payload or {}, score, vector)
