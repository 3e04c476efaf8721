"""Qdrant servers for tests: the library's own in this process, or a real one where `ASKONCE_TEST_QDRANT` names it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import pytest
from qdrant_client import AsyncQdrantClient

ADDRESS = os.environ.get("ASKONCE_TEST_QDRANT", "")
"""Such as http://127.0.0.1:6334. What the server holds is deleted."""
STORES = [
    "edge",
    "server",
    pytest.param("real", marks=pytest.mark.skipif(not ADDRESS, reason="no ASKONCE_TEST_QDRANT")),
]
"""Where the same tests run: embedded, the library's own, a real server."""


async def client_of(name: str) -> AsyncQdrantClient:
    """A client of the server that a parameter names; a real one is empty then."""
    if name != "real":
        return AsyncQdrantClient(":memory:")
    parts = urlsplit(ADDRESS)
    client = AsyncQdrantClient(
        host=parts.hostname, grpc_port=parts.port or 6334, prefer_grpc=True, timeout=30, check_compatibility=False
    )
    for each in (await client.get_collections()).collections:
        await client.delete_collection(each.name)
    return client
