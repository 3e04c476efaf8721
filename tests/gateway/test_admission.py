"""Who is let in, and when the gateway says no."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc

from gateway.settings import Settings
from tests.gateway.doubles import failure, running, until
from tests.gateway.pictures import picture


async def test_full_gateway_says_no_early() -> None:
    """Requests beyond the bound are refused at once with GATEWAY_BUSY."""
    settings = Settings()
    async with running(replace(settings, bounds=replace(settings.bounds, requests=2))) as system:
        system.model.gate.clear()
        calls = [asyncio.create_task(system.ask(picture(number))) for number in range(2)]
        await until(lambda: system.model.running == 2)
        fault = await failure(system.ask(picture(9)))
        assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "GATEWAY_BUSY")
        system.model.gate.set()
        await asyncio.gather(*calls)
