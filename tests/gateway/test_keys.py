"""Only requests that are equal in everything that matters share work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from askonce.v1 import answer_pb2, content_pb2, dedup_pb2
from gateway.ask import Ask
from gateway.deadlines import Deadline
from gateway.hosted_model import Model
from gateway.image_sources import Picture
from gateway.keys import generation_key, is_private, request_key, tenant_key
from gateway.provenance import LookupResult
from tests.gateway.doubles import IMAGE, Running


async def test_tenants_share_nothing(system: Running) -> None:
    """Another tenant's equal request goes to the model."""
    await system.ask(IMAGE, parent="tenants/one")
    await system.settled()
    assert (await system.ask(IMAGE, parent="tenants/two")).provenance.source == content_pb2.SOURCE_MODEL


ASK = Ask(
    tenant="tenants/one",
    pictures=(Picture(b"file", bytes(32)),),
    question=content_pb2.Question(text="Total?"),
    params=content_pb2.GenerationParams(max_tokens=128, temperature=0.0),
    mode=answer_pb2.CACHE_MODE_DEFAULT,
    limits=None,
    tags=("a",),
    model=Model("m", "1"),
    started=0.0,
    resolved=0.0,
    deadline=Deadline(1e12),
    background=False,
)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "tenants/two"},
        {"pictures": (Picture(b"file", bytes(31) + b"\1"),)},
        {"pictures": (Picture(b"file", bytes(32)), Picture(b"file", bytes(32)))},
        {"question": content_pb2.Question(text="Date?")},
        {"question": content_pb2.Question(text="Total?", history=[content_pb2.Turn(text="x")])},
        {"question": content_pb2.Question(text="Total?", answer_language_code="zh")},
        {"params": content_pb2.GenerationParams(max_tokens=64, temperature=0.0)},
        {"mode": answer_pb2.CACHE_MODE_NO_STORE},
        {"limits": answer_pb2.ReuseLimits(exact_only=True)},
        {"tags": ("a", "b")},
        {"model": Model("m", "2")},
        {"model": Model("other", "1")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_may_change_an_answer_changes_the_key(change: dict[str, Any]) -> None:
    """Requests that differ in anything an answer or its storing depends on never meet."""
    assert request_key(replace(ASK, **change)) != request_key(ASK)


def test_what_changes_no_answer_changes_no_key() -> None:
    """When a request came and how long it may take is nobody else's business."""
    assert request_key(replace(ASK, started=5.0, resolved=1.0, deadline=Deadline(7.0))) == request_key(ASK)


@pytest.mark.parametrize(
    ("change", "private"),
    [
        ({}, False),
        ({"mode": answer_pb2.CACHE_MODE_BYPASS}, True),
        ({"mode": answer_pb2.CACHE_MODE_REFRESH}, True),
        ({"background": True}, True),
        ({"params": content_pb2.GenerationParams(temperature=0.7)}, True),
        ({"params": content_pb2.GenerationParams(temperature=0.7, seed=1)}, False),
    ],
)
def test_who_wants_an_answer_of_its_own_shares_none(change: dict[str, Any], private: bool) -> None:
    """Fresh answers, answers drawn at random and background work are nobody else's."""
    ask = replace(ASK, **change)
    assert is_private(ask) is private
    assert (generation_key(ask, LookupResult(None, 0.0)) is None) is private


def test_generations_are_shared_by_dedups_key_within_a_tenant() -> None:
    """Dedup says which questions may share an answer, never across tenants; without its key nothing is shared."""
    found = LookupResult(dedup_pb2.LookupResponse(miss=dedup_pb2.Miss(flight_key=b"k")), 0.0)
    assert generation_key(ASK, found) == tenant_key(ASK, b"k")
    assert generation_key(replace(ASK, tenant="tenants/two"), found) != tenant_key(ASK, b"k")
    assert generation_key(ASK, LookupResult(dedup_pb2.LookupResponse(miss=dedup_pb2.Miss()), 0.0)) is None
    assert generation_key(ASK, LookupResult(None, 0.0)) == request_key(ASK)
