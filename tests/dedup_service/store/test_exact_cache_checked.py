"""What was removed stays removed, even where the hot tier has it again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_service.store.exact_cache import ExactKey, InProcessExactCache
from dedup_service.store.exact_cache_checked import CheckedExactCache
from dedup_service.store.records import MemoryUnavailableError
from dedup_service.usecases.lookup import exact_key
from tests.dedup_service.bench import Bench, bench, hit, query_for
from tests.dedup_service.pages import receipt

QUESTION = "What is the total amount?"


@pytest.fixture
async def dedup(tmp_path: Path) -> AsyncIterator[Bench]:
    """The use cases over a hot tier that can be put back to an older state."""
    async with bench(tmp_path) as built:
        checked: Any = CheckedExactCache(built.exact_cache, built.memory)
        for case in (built.lookup, built.remember, built.forget, built.learn):
            case.exact_cache = checked
        yield built


def snapshot(exact_cache: InProcessExactCache) -> tuple[Any, Any]:
    """The tier as a backup would keep it."""
    return deepcopy(list(exact_cache.ids.items())), deepcopy(list(exact_cache.entries.items()))


def restore(exact_cache: InProcessExactCache, saved: tuple[Any, Any]) -> None:
    """The tier as it was when the backup was made."""
    exact_cache.ids.clear()
    exact_cache.entries.clear()
    exact_cache.ids.update(saved[0])
    exact_cache.entries.update(saved[1])


async def warm(dedup: Bench) -> tuple[Any, ExactKey]:
    """A hot entry, with a snapshot of the tier and its key."""
    await dedup.teach(receipt(), QUESTION, "RM 138.90")
    for _ in range(2):
        assert hit(await dedup.ask(receipt(), QUESTION)) == "RM 138.90"
    key = exact_key(query_for(receipt(), QUESTION))
    saved = snapshot(dedup.exact_cache)
    assert saved[1]
    return saved, key


async def test_a_restored_tier_serves_nothing_that_was_removed(dedup: Bench) -> None:
    """After a removal the tier is put back to before it: the next request is a miss all the same."""
    saved, _ = await warm(dedup)
    entry = next(iter(dict(saved[1])))[1]
    await dedup.forget.entry("acme", entry)
    restore(dedup.exact_cache, saved)
    outcome = await dedup.ask(receipt(), QUESTION)
    assert type(outcome).__name__ == "Missed"
    assert not dedup.exact_cache.entries


async def test_a_restored_tier_serves_nothing_that_was_replaced(dedup: Bench) -> None:
    """An answer that was stored anew since is not served in its old form."""
    saved, key = await warm(dedup)
    (_, old), *_ = saved[1]
    dedup.clock.now += 60
    fresh = replace(old, answer_text="RM 999.00", create_time=dedup.clock.now)
    await dedup.memory.put_entry(fresh, np.ones(dedup.remember.dimension, np.float32), keep=20)
    restore(dedup.exact_cache, saved)
    assert await CheckedExactCache(dedup.exact_cache, dedup.memory).get(key) is None


async def test_what_is_still_there_is_served(dedup: Bench) -> None:
    """A restore alone costs nothing."""
    saved, _ = await warm(dedup)
    restore(dedup.exact_cache, saved)
    assert hit(await dedup.ask(receipt(), QUESTION)) == "RM 138.90"


async def test_without_the_store_the_tier_has_nothing(dedup: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be checked is not served."""
    _, key = await warm(dedup)

    async def away(tenant: str, entry: str) -> None:
        raise MemoryUnavailableError("away")

    monkeypatch.setattr(dedup.memory, "entry", away)
    assert await CheckedExactCache(dedup.exact_cache, dedup.memory).get(key) is None
