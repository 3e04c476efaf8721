"""A client's verdict reaches the memory that gave the answer."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from askonce import faults
from askonce.v1 import answer_pb2
from tests.gateway.doubles import IMAGE, INVALID, Running


async def test_feedback_reaches_dedup(system: Running) -> None:
    """A verdict goes to dedup as evidence, and the count of removed entries comes back."""
    answer = await system.ask(IMAGE)
    request = answer_pb2.SubmitFeedbackRequest(
        decision=answer.provenance.decision, verdict=answer_pb2.VERDICT_WRONG, correct_text="RM 12"
    )
    assert (await system.stub.SubmitFeedback(request, timeout=5)).removed_count == 1
    assert system.memory.learned[0].feedback == request


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"decision": "", "verdict": 1}, "NAME_INVALID", "decision"),
        ({"decision": "tenants/a/entries/b", "verdict": 1}, "NAME_INVALID", "decision"),
        ({"decision": "tenants/a/decisions/b"}, "ENUM_UNKNOWN", "verdict"),
        ({"decision": "tenants/a/decisions/b", "verdict": 9}, "ENUM_UNKNOWN", "verdict"),
        ({"decision": "tenants/a/decisions/b", "verdict": 1, "correct_text": "x" * 4_001}, "TEXT_TOO_LONG",
         "correct_text"),
        ({"decision": "tenants/a/decisions/b", "verdict": 1, "comment": "\x00"}, "TEXT_CONTROL_CHARACTERS", "comment"),
    ],
)  # fmt: skip
async def test_bad_feedback(system: Running, fields: dict[str, Any], reason: str, field: str) -> None:
    """Feedback that names no decision or no verdict is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.stub.SubmitFeedback(answer_pb2.SubmitFeedbackRequest(**fields), timeout=5)
    fault = faults.from_error(caught.value)
    assert (fault.code, fault.reason, fault.field) == (INVALID, reason, field)
    assert system.memory.learned == []
