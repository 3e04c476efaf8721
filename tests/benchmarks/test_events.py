"""The benchmark of events measures the real path: only the network is replaced."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the glm extra")

from benchmarks.token_model import Settings, TokenEngine
from inference_service.engine import Ask, Completed, Finish, Piece, Sampling


@pytest.mark.parametrize(("interval", "most"), [(0.0, 30), (60.0, 2)])
async def test_tokens_become_events_as_in_the_engine(interval: float, most: int) -> None:
    """Every token asked for is counted, and those within the interval come as one event."""
    engine = TokenEngine(Settings(step_s=0.001, emit_interval_s=interval))
    await engine.start()
    items = [item async for item in engine.generate(Ask("a", b"", b"a" * 32, "?", sampling=Sampling(max_tokens=30)))]
    await engine.stop()
    *pieces, end = items
    assert isinstance(end, Completed)
    assert (end.finish, end.usage.output_tokens) == (Finish.LENGTH, 30)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == end.text
    assert most - 1 <= len(pieces) <= most
