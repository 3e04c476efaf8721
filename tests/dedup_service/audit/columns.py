"""Traffic made of columns, for tests that need no ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dedup_service.audit.traffic import Names, Traffic
from dedup_service.policy.recorded import UNLABELLED, Recorded


def names(words: Sequence[str]) -> Names:
    """A column of words."""
    distinct = tuple(dict.fromkeys(words))
    return Names(np.array([distinct.index(word) for word in words], np.int32), distinct)


def traffic_of(size: int, **given: Any) -> Traffic:
    """`size` decisions a second apart: hits on other words with risk 0.01, unless told otherwise. Keys and words are
    given as sequences, other columns as arrays."""
    risk = np.asarray(given.pop("risk", np.full(size, 0.01)), np.float64)
    hit = np.asarray(given.pop("hit", np.ones(size, bool)), np.bool_)
    exact = np.asarray(given.pop("exact", np.zeros(size, bool)), np.bool_)
    recorded = Recorded(
        id=np.array([f"{i:032x}" for i in range(size)], "S32"),
        time=np.asarray(given.pop("time", np.arange(size, dtype=np.float64)), np.float64),
        hit=hit,
        would_hit=np.asarray(given.pop("would_hit", hit), np.bool_),
        exact=exact,
        open=np.asarray(given.pop("open", np.ones(size, bool)), np.bool_),
        cross_language=np.zeros(size, np.bool_),
        image_score=np.asarray(given.pop("image_score", np.ones(size)), np.float64),
        question_score=np.asarray(given.pop("question_score", 1 - risk), np.float64),
        risk=risk,
        stratum=np.ones(size, np.int32),
        strata=("", "exact/scored"),
        pair=np.asarray(given.pop("pair", np.arange(1, size + 1)), np.int64),
        propensity=np.asarray(given.pop("propensity", np.full(size, 0.02)), np.float64),
        verified=np.asarray(given.pop("verified", np.full(size, UNLABELLED)), np.int8),
        label=np.asarray(given.pop("label", np.full(size, UNLABELLED)), np.int8),
    )
    keys = {
        name: np.asarray(given.pop(name, np.arange(1, size + 1) + 1_000_000 * at), np.int64)
        for at, name in enumerate(("file", "image", "nearest_image", "entry", "question", "nearest_question", "answer"))
    }
    words = {
        "tenant": "acme",
        "language": "en",
        "reason": "SCORED",
        "image_tier": "BYTES",
        "question_tier": "NEIGHBOUR",
    }
    return Traffic(
        recorded=recorded,
        **{name: names(given.pop(name, [word] * size)) for name, word in words.items()},
        **keys,
        shape=np.asarray(given.pop("shape", np.zeros(size)), np.int64),
        saved_seconds=np.asarray(given.pop("saved_seconds", np.ones(size)), np.float32),
        lookup_ms=np.asarray(given.pop("lookup_ms", np.full(size, 2.0)), np.float32),
        explored=np.asarray(given.pop("explored", np.zeros(size, bool)), np.bool_),
        vetoed=np.asarray(given.pop("vetoed", np.zeros(size, bool)), np.bool_),
        complaint=np.asarray(given.pop("complaint", np.zeros(size, bool)), np.bool_),
        by_person=np.asarray(given.pop("by_person", np.zeros(size, bool)), np.bool_),
        **given,
    )
