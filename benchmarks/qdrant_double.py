"""A Qdrant server that keeps everything in memory, for tests and studies of a fleet where there is no real one.

    python -m benchmarks.qdrant_double 127.0.0.1:6334

It speaks the part of Qdrant's gRPC that our store uses; behind it is the client's own local mode, brute force in NumPy.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Any

import grpc
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

MIB = 2**20
Context = grpc.aio.ServicerContext[Any, Any]
DONE = wire.PointsOperationResponse(result=wire.UpdateResult(status=wire.UpdateStatus.Completed))


class Collections(collections_service_pb2_grpc.CollectionsServicer):
    """What our store asks about collections."""

    def __init__(self, client: QdrantClient) -> None:
        self.client = client

    async def CollectionExists(self, request: Any, context: Context) -> Any:
        found = self.client.collection_exists(request.collection_name)
        return wire.CollectionExistsResponse(result=wire.CollectionExists(exists=found))

    async def Create(self, request: Any, context: Context) -> Any:
        if self.client.collection_exists(request.collection_name):
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "the collection exists")
        config: Any = {}
        if request.HasField("vectors_config"):
            config = GrpcToRest.convert_vectors_config(request.vectors_config)
        self.client.create_collection(request.collection_name, config)
        return wire.CollectionOperationResponse(result=True)

    async def List(self, request: Any, context: Context) -> Any:
        names = [one.name for one in self.client.get_collections().collections]
        return wire.ListCollectionsResponse(collections=[wire.CollectionDescription(name=name) for name in names])

    async def Delete(self, request: Any, context: Context) -> Any:
        return wire.CollectionOperationResponse(result=self.client.delete_collection(request.collection_name))


class Health(qdrant_pb2_grpc.QdrantServicer):
    """Says the version: the client's own."""

    async def HealthCheck(self, request: Any, context: Context) -> Any:
        return wire.HealthCheckReply(title="double", version=version("qdrant-client"))


class Points(points_service_pb2_grpc.PointsServicer):
    """What our store asks about points."""

    def __init__(self, client: QdrantClient) -> None:
        self.client = client

    async def CreateFieldIndex(self, request: Any, context: Context) -> Any:
        return DONE

    async def Upsert(self, request: Any, context: Context) -> Any:
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        for point in points:
            point.vector = point.vector or {}
        self.client.upsert(request.collection_name, points)
        return DONE

    async def UpdateBatch(self, request: Any, context: Context) -> Any:
        for operation in request.operations:
            changed = operation.set_payload
            ids = GrpcToRest.convert_points_selector(changed.points_selector)
            payload = GrpcToRest.convert_payload(changed.payload)
            self.client.set_payload(request.collection_name, payload, ids)
        return wire.UpdateBatchResponse(result=[DONE.result for _ in request.operations])

    async def Delete(self, request: Any, context: Context) -> Any:
        self.client.delete(request.collection_name, GrpcToRest.convert_points_selector(request.points))
        return DONE

    async def Get(self, request: Any, context: Context) -> Any:
        found = self.client.retrieve(
            request.collection_name,
            [GrpcToRest.convert_point_id(point) for point in request.ids],
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        return wire.GetResponse(result=[RestToGrpc.convert_record(record) for record in found])

    async def Scroll(self, request: Any, context: Context) -> Any:
        found, following = self.client.scroll(
            request.collection_name,
            scroll_filter=filter_in(request, "filter"),
            limit=request.limit,
            offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
            order_by=GrpcToRest.convert_order_by(request.order_by) if request.HasField("order_by") else None,
        )
        response = wire.ScrollResponse(result=[RestToGrpc.convert_record(record) for record in found])
        if isinstance(following, int | str):
            response.next_page_offset.CopyFrom(RestToGrpc.convert_extended_point_id(following))
        return response

    async def Count(self, request: Any, context: Context) -> Any:
        counted = self.client.count(request.collection_name, filter_in(request, "filter"), exact=True)
        return wire.CountResponse(result=wire.CountResult(count=counted.count))

    async def QueryBatch(self, request: Any, context: Context) -> Any:
        queries = [GrpcToRest.convert_query_points(query) for query in request.query_points]
        answers = self.client.query_batch_points(request.collection_name, queries)
        results = [
            wire.BatchResult(result=[RestToGrpc.convert_scored_point(point) for point in answer.points])
            for answer in answers
        ]
        return wire.QueryBatchResponse(result=results)


def filter_in(request: Any, name: str) -> models.Filter | None:
    """A request's filter, if it has one."""
    return GrpcToRest.convert_filter(getattr(request, name)) if request.HasField(name) else None


async def main() -> None:
    """Serves until it is killed."""
    size = [("grpc.max_receive_message_length", 64 * MIB), ("grpc.max_send_message_length", 64 * MIB)]
    server = grpc.aio.server(options=size)
    client = QdrantClient(":memory:")
    add_collections: Any = collections_service_pb2_grpc.add_CollectionsServicer_to_server
    add_points: Any = points_service_pb2_grpc.add_PointsServicer_to_server
    add_collections(Collections(client), server)
    add_points(Points(client), server)
    add_health: Any = qdrant_pb2_grpc.add_QdrantServicer_to_server
    add_health(Health(), server)
    server.add_insecure_port(sys.argv[1])
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
