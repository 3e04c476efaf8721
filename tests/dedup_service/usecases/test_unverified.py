"""A hit that was drawn for verification always has an outcome."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from dedup_service.ledger.reading import Span
from dedup_service.policy.recorded import UNDECIDED
from dedup_service.usecases.lookup import Found
from tests.dedup_service.bench import bench
from tests.dedup_service.pages import receipt


@pytest.mark.slow
async def test_a_hit_that_could_not_be_verified_is_undecided(tmp_path: Path) -> None:
    """It is recorded as drawn and undecided, which the estimate counts as possibly wrong."""
    async with bench(tmp_path) as dedup:
        await dedup.teach(receipt(), "What is the total amount?", "RM 138.90")
        served = await dedup.ask(receipt(), "What is the total amount?")
        assert isinstance(served, Found)
        await asyncio.to_thread(dedup.ledger.flush, 10)
        learnt = await dedup.learn.fresh_answer("acme", served.findings.decision, None)
        assert not learnt.labelled
        await asyncio.to_thread(dedup.ledger.flush, 10)
        recorded = await asyncio.to_thread(dedup.reader.recorded, Span(since=0.0))
        assert np.count_nonzero(recorded.verified == UNDECIDED) == 1
