"""Listening for HTTP inside the gateway's event loop."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from askonce.settings import StartError
from gateway.http.server import HttpServer
from gateway.settings import Edge

pytestmark = pytest.mark.slow


async def test_bound_address_is_written_down(tmp_path: Path) -> None:
    """With port 0 a free port is taken and told; after the end nobody listens."""
    file = tmp_path / "port"
    server = HttpServer(Edge(listen="127.0.0.1:0", port_file=file), Starlette(), grace=1.0)
    address = await server.start()
    assert file.read_text() == address
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://{address}/")).status_code == 404
        await server.stop()
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{address}/")


async def test_taken_port_is_an_error() -> None:
    """A port that somebody else has is not shared."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = HttpServer(Edge(listen=f"127.0.0.1:{taken.getsockname()[1]}"), Starlette(), grace=1.0)
        with pytest.raises(StartError, match="the port is taken"):
            await server.start()
