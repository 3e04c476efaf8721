"""Asks a service whether it serves: `python -m compose.health HOST:PORT SERVICE`; status 0 when it does."""

from __future__ import annotations

import asyncio
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


async def serving(address: str, service: str = "", timeout: float = 1.0) -> bool:
    """Whether the service at `address` says that it serves; an empty name asks for the process as a whole."""
    async with grpc.aio.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
        except grpc.aio.AioRpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(serving(sys.argv[1], "".join(sys.argv[2:3]))) else 1)
