"""What the three services write is one stream of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import grpc.aio
import pytest

from askonce.v1 import answer_pb2, answer_pb2_grpc, content_pb2
from compose.local import System

PAGE = Path(__file__).parents[2] / "examples" / "pages" / "receipt-grocer.jpg"


@pytest.mark.slow
@pytest.mark.system
async def test_every_line_is_json(tmp_path: Path) -> None:
    """A start, a question, a refused one and an end leave lines that all name service, logger, level and event."""
    content = PAGE.read_bytes()
    async with System(tmp_path) as system, grpc.aio.insecure_channel(system.gateway) as channel:
        stub: answer_pb2_grpc.AnswerServiceAsyncStub = answer_pb2_grpc.AnswerServiceStub(channel)
        question = content_pb2.Question(text="What is the total?")
        request = answer_pb2.AnswerRequest(image=content_pb2.Image(content=content), question=question)
        await stub.Answer(request, timeout=90)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Answer(answer_pb2.AnswerRequest(question=question), timeout=10)
    found: dict[str, int] = {}
    for path in (tmp_path / "logs").glob("*.log"):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            assert {"service", "logger", "level", "event", "timestamp"} <= entry.keys(), line
            found[entry["service"]] = found.get(entry["service"], 0) + 1
    assert found.keys() == {"gateway", "dedup", "inference"}
