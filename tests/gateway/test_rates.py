"""A tenant may call so often and no more; a key may have a limit of its own."""

from __future__ import annotations

import grpc
import pytest

from askonce import faults
from benchmarks.servers import RedisServer
from gateway.auth import Registered, read_keys
from gateway.settings import Rates, Settings
from tests.gateway.doubles import failure, request_for, running
from tests.gateway.pictures import picture
from tests.gateway.test_auth import FILE, KEY


async def test_rate_limit_is_per_tenant() -> None:
    """A tenant over its rate is RESOURCE_EXHAUSTED with RetryInfo; another tenant goes on."""
    async with running(Settings(rates=Rates(answers="2/minute"))) as system:
        for _ in range(2):
            await system.ask(picture(), parent="tenants/busy")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.ask(picture(), parent="tenants/busy")
        fault = faults.from_error(caught.value)
        assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert fault.retry_after is not None
        assert 0 < fault.retry_after <= 120
        assert (await system.ask(picture(), parent="tenants/calm")).answer.text


@pytest.mark.slow
async def test_a_rate_holds_for_all_gateways_together(redis_server: RedisServer) -> None:
    """Gateways with one Redis count a tenant's calls together; without it each counts alone, and calls go on."""
    settings = Settings(rates=Rates(answers="3/hour"), redis=redis_server.url)
    async with running(settings) as one, running(settings, beside=one) as other:
        for system in (one, other, one):
            await system.ask(picture(), parent="tenants/busy")
        for system in (one, other):
            assert (await failure(system.ask(picture(), parent="tenants/busy"))).reason == "RATE_LIMITED"
        await redis_server.kill()
        try:
            for system in (one, other):
                assert (await system.ask(picture(), parent="tenants/busy")).answer.text
        finally:
            await redis_server.start()


async def test_keys_own_rate_replaces_the_deployments() -> None:
    """A key with a rate of its own is held to that one."""
    keys = read_keys(FILE + 'rate = "1/hour"\n')
    async with running(Settings(rates=Rates(answers="100/minute")), Registered(keys)) as system:
        metadata = (("x-api-key", KEY),)
        await system.stub.Answer(request_for(picture(), "x"), timeout=5, metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.stub.Answer(request_for(picture(), "x"), timeout=5, metadata=metadata)
        assert faults.reason_of(caught.value) == "RATE_LIMITED"
