"""Nobody waits longer than was agreed."""

from __future__ import annotations

import grpc
import pytest

from askonce.faults import TooLate
from gateway.deadlines import Deadline
from tests.gateway.doubles import IMAGE, Running, failure
from tests.gateway.pictures import picture


async def test_expired_deadline_is_told(system: Running) -> None:
    """A request whose deadline passes ends with DEADLINE_EXCEEDED, and the gateway goes on."""
    system.model.gate.clear()
    fault = await failure(system.ask(IMAGE, timeout=0.2))
    assert fault.code is grpc.StatusCode.DEADLINE_EXCEEDED
    system.model.gate.set()
    assert (await system.ask(picture(3))).answer.text


async def test_expired_deadline(system: Running) -> None:
    """A request that arrives too late ends with DEADLINE_EXCEEDED."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.ask(picture(77), timeout=0.000_1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_step_gets_its_time_or_what_is_left() -> None:
    """A step's timeout is its own or the rest of the deadline; a deadline that has passed allows nothing."""
    assert Deadline.after(1_000.0).cap(2.0) == 2.0
    assert 0.0 < Deadline.after(1.0).cap(1_000.0) <= 1.0
    with pytest.raises(TooLate) as caught:
        Deadline.after(-1.0).cap(5.0)
    assert caught.value.reason == "DEADLINE_EXCEEDED"
