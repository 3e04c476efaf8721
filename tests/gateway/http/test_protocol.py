"""Connections that dawdle are closed, and take nobody's place meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest_asyncio

from gateway.settings import Edge, Settings
from tests.gateway.doubles import running


def edge(**changes: object) -> Settings:
    """Settings of a gateway with an HTTP edge."""
    return replace(Settings(), edge=replace(Edge(listen="127.0.0.1:0"), **changes))  # type: ignore[arg-type]


WRITERS: list[asyncio.StreamWriter] = []


@pytest_asyncio.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Closes the test's connections."""
    yield
    while WRITERS:
        writer = WRITERS.pop()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def half(address: str, text: bytes = b"POST /infer HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ") -> asyncio.StreamReader:
    """A connection that has sent a part of its headers."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    WRITERS.append(writer)
    writer.write(text)
    await writer.drain()
    return reader


async def test_half_sent_headers_keep_nobody_out() -> None:
    """With far more half-sent requests than places, others are still answered."""
    async with running(edge(max_connections=4, max_pending=8, header_seconds=30.0)) as system:
        assert system.gateway.http is not None
        address = system.gateway.http.address
        held = [await half(address) for _ in range(40)]
        async with httpx.AsyncClient() as client:
            for _ in range(3):
                assert (await client.get(f"http://{address}/healthz", timeout=10)).status_code == 200
        ended = await asyncio.gather(*(asyncio.wait_for(reader.read(), 10) for reader in held[:20]))
        assert ended == [b""] * 20


async def test_headers_have_a_deadline() -> None:
    """A connection whose headers do not come is closed; so is one that stops in the middle of its second request."""
    async with running(edge(header_seconds=0.2)) as system:
        assert system.gateway.http is not None
        address = system.gateway.http.address
        silent = await half(address, b"")
        assert await asyncio.wait_for(silent.read(), 10) == b""
        second = await half(address, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /heal")
        assert (await asyncio.wait_for(second.read(), 10)).count(b"HTTP/1.1 200") == 1


async def test_a_body_has_a_deadline() -> None:
    """A body that does not come ends in an error that says so."""
    async with running(edge(body_seconds=0.2)) as system:
        assert system.gateway.http is not None
        head = (
            b"POST /infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        reader = await half(system.gateway.http.address, head + b"Content-Length: 100\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)
        assert b"BODY_TOO_SLOW" in answer


async def test_bodies_are_bounded_together() -> None:
    """More bytes than may be under way are refused for now."""
    async with running(edge(max_bytes_in_flight=1_000)) as system:
        assert system.gateway.http is not None
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"http://{system.gateway.http.address}/infer", json={"text": "x" * 2_000})
            assert answer.json()["error"]["code"] == "SERVER_BUSY"
            small = await client.post(f"http://{system.gateway.http.address}/infer", json={"text": "x"})
            assert small.json()["error"]["code"] != "SERVER_BUSY"
