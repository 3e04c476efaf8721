"""The gRPC face of the gateway."""

from __future__ import annotations

import grpc
import pytest

from askonce import faults
from tests.gateway.doubles import IMAGE, INVALID, Running, refused, request_for


async def test_request_id_travels_to_both_services(system: Running) -> None:
    """A caller's request id comes back in the response."""
    call = system.stub.Answer(request_for(IMAGE, "x"), timeout=5, metadata=(("askonce-request-id", "abc-1"),))
    assert (await call).request_id == "abc-1"


async def test_stream_refuses_the_same(system: Running) -> None:
    """StreamAnswer checks as Answer does and ends with the same status."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.stream(b"", "x")
    assert faults.reason_of(caught.value) == "IMAGE_EMPTY"


async def test_message_above_the_limit(system: Running) -> None:
    """A message above the limit is refused with a reason before the gateway's own code sees it."""
    fault = await refused(system, request_for(bytes(9 * 2**20), "x"))
    assert (fault.code, fault.reason) == (INVALID, "MESSAGE_TOO_LARGE")
