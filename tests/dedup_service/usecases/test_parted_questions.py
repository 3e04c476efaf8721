"""Feedback parts two questions for good, however they came to share an entry."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dedup_service.ledger.records import PartedPair
from dedup_service.usecases.lookup import Found
from dedup_service.usecases.parted_questions import PartedQuestions
from tests.dedup_service.bench import Bench, bench, hit, reason
from tests.dedup_service.pages import receipt

TOTAL = "What is the total amount?"


@pytest.mark.parametrize("other", ["what is the total amount", "Please tell me, how much is the total amount?"])
async def test_questions_that_feedback_parted_never_share_again(tmp_path: Path, other: str) -> None:
    """Equal in normal form or alike by reading: after "wrong" each has an entry of its own, also after a restart, and a
    later answer to one is not given to the other."""
    async with bench(tmp_path) as dedup:
        await dedup.teach(receipt(), TOTAL, "RM 138.90")
        served = await dedup.ask(receipt(), other)
        assert isinstance(served, Found)
        assert hit(served) == "RM 138.90"
        await asyncio.to_thread(dedup.ledger.flush, 10)
        await dedup.learn.feedback("acme", served.findings.decision, False, "", "")
        for question, answer in ((TOTAL, "RM 138.90"), (other, "RM 131.00")):
            missed = await dedup.ask(receipt(), question)
            assert reason(missed)
            await dedup.store(missed, answer)
        assert hit(await dedup.ask(receipt(), TOTAL)) == "RM 138.90"
        assert hit(await dedup.ask(receipt(), other)) == "RM 131.00"
        await asyncio.to_thread(dedup.ledger.flush, 10)
        kept = await asyncio.to_thread(dedup.reader.parted, 100)
        again = PartedQuestions(dedup.ledger, kept)
        assert any(again.parted(pair.tenant, pair.right, pair.left) for pair in kept)


async def test_another_tenant_is_not_concerned(dedup_of_two: Bench) -> None:
    """What one tenant's clients call wrong parts nothing for another."""
    for tenant in ("acme", "globex"):
        await dedup_of_two.teach(receipt(), TOTAL, "RM 138.90", tenant)
    served = await dedup_of_two.ask(receipt(), "what is the total amount", "acme")
    assert isinstance(served, Found)
    await asyncio.to_thread(dedup_of_two.ledger.flush, 10)
    await dedup_of_two.learn.feedback("acme", served.findings.decision, False, "", "")
    assert hit(await dedup_of_two.ask(receipt(), "what is the total amount", "globex")) == "RM 138.90"


@pytest.fixture
async def dedup_of_two(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as built:
        yield built


async def test_feedback_on_a_fresh_answer_parts_nothing(tmp_path: Path) -> None:
    """A wrong answer of the model's says nothing about the stored question that came near."""
    async with bench(tmp_path) as dedup:
        await dedup.teach(receipt(), "Who is the cashier?", "Mei")
        missed = await dedup.teach(receipt(), TOTAL, "RM 1.00")
        await asyncio.to_thread(dedup.ledger.flush, 10)
        await dedup.learn.feedback("acme", missed.findings.decision, False, "", "")
        await asyncio.to_thread(dedup.ledger.flush, 10)
        assert not await asyncio.to_thread(dedup.reader.parted, 100)


def test_a_pair_has_no_order() -> None:
    """Whichever of the two is asked first."""

    class Nowhere:
        def record_parted(self, pair: PartedPair) -> bool:
            return True

    parted = PartedQuestions(Nowhere())  # type: ignore[arg-type]
    parted.add("acme", "b", "a", spelling=True)
    assert parted.parted("acme", "a", "b")
    assert parted.parted("acme", "b", "a")
    assert not parted.parted("globex", "a", "b")
    assert parted.by_spelling("acme", "a")
