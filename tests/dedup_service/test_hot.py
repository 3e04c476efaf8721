"""The hot tier answers exact repeats for a while, and forgets what it is told to forget."""

from __future__ import annotations

from dataclasses import replace

from dedup_service.hot import HotKey, ProcessHot
from dedup_service.memory import Entry

ENTRY = Entry(
    id="e1",
    tenant="acme",
    image="i1",
    space="s1",
    question="Total?",
    normal="total",
    language="en",
    answer=b"",
    answer_text="9",
    model="m",
    model_revision="",
    create_time=0.0,
    hot_until=100.0,
    expire_time=1_000.0,
    last_use=0.0,
)
KEY = HotKey("acme", "aa", "s1", "total")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_entry_cools_down() -> None:
    """Past `hot_until` an entry is no longer served from the hot tier."""
    clock = Clock()
    hot = ProcessHot(clock)
    hot.put(KEY, ENTRY)
    assert hot.get(KEY) == ENTRY
    clock.now = 100.0
    assert hot.get(KEY) is None


def test_a_dropped_entry_is_gone_under_every_key() -> None:
    """Removing a wrong answer removes it for every file and spelling that led to it."""
    hot = ProcessHot(Clock())
    other = replace(KEY, byte_digest="bb")
    hot.put(KEY, ENTRY)
    hot.put(other, ENTRY)
    hot.drop("acme", frozenset(["e1"]))
    assert hot.get(KEY) is None
    assert hot.get(other) is None


def test_dropping_a_tenant_leaves_the_others() -> None:
    """A purge of one tenant touches no other."""
    hot = ProcessHot(Clock())
    theirs = HotKey("globex", "aa", "s1", "total")
    hot.put(KEY, ENTRY)
    hot.put(theirs, replace(ENTRY, id="e2", tenant="globex"))
    hot.drop("acme")
    assert hot.get(KEY) is None
    assert hot.get(theirs) is not None


def test_it_is_bounded() -> None:
    """However many requests come, no more keys than stated are kept, nor traces of the old ones."""
    hot = ProcessHot(Clock(), keys=10)
    for number in range(1_000):
        hot.put(replace(KEY, normal=str(number)), replace(ENTRY, id=str(number)))
    assert len(hot.cache) == 10
    assert len(hot.keys_of) <= 21
