"""Retention: records go when their tenant's time is over, and stay until then."""

from __future__ import annotations

import time

from sqlalchemy import Engine

from dedup_service.ledger.ledger import Ledger
from dedup_service.ledger.purge import Scrubber
from dedup_service.ledger.reading import Reader, Span
from dedup_service.ledger.records import KnownMismatch, PartedPair
from dedup_service.ledger.retention import Retention
from dedup_service.ledger.revisions import RevisionRows
from dedup_service.policy.policy import Policy
from dedup_service.policy.revisions import PolicyBook
from tests.dedup_service.ledger.test_ledger import decision


def test_each_tenant_keeps_records_as_long_as_its_policy_says(engine: Engine) -> None:
    """A tenant's own policy, its default, and the service's default each bound their own records."""
    default = Policy(record_ttl=7_200)
    book = PolicyBook(RevisionRows(engine), default, defaults={"long": Policy(record_ttl=20_000)})
    book.update("brief", Policy(record_ttl=3_600), ["record_ttl"])
    ledger = Ledger(engine, interval=0.02)
    now = 1_000_000.0
    for number in range(300):
        tenant = ("brief", "long", "plain")[number % 3]
        ledger.record_decision(decision(number, tenant=tenant, time=now - 100 * number), keep_text=True)
    assert ledger.flush(20)
    retention = Retention(ledger, book, Scrubber(engine, ledger))
    assert retention.delete_due(now) > 0
    assert retention.delete_due(now) == 0
    oldest: dict[str, float] = {}
    for found in Reader(engine).decisions(Span()):
        oldest[found.tenant] = max(oldest.get(found.tenant, 0.0), now - found.time)
    assert 3_200 < oldest["brief"] <= 3_600
    assert 6_800 < oldest["plain"] <= 7_200
    assert 19_600 < oldest["long"] <= 20_000
    ledger.close()


def test_what_was_parted_stays_parted(engine: Engine) -> None:
    """A file that is not an image, and two questions that are not one, outlive the records that showed it."""
    ledger = Ledger(engine, interval=0.02)
    mismatch, pair = KnownMismatch("acme", "aa", "i1", 5.0), PartedPair("acme", "left", "right", False, 5.0)
    assert ledger.record_mismatch(mismatch)
    assert ledger.record_parted(pair)
    assert ledger.record_decision(decision(1, tenant="acme", time=5.0), keep_text=True)
    assert ledger.flush(20)
    retention = Retention(ledger, PolicyBook(RevisionRows(engine)), Scrubber(engine, ledger))
    assert retention.delete_due(time.time()) == 1
    reader = Reader(engine)
    assert (reader.mismatches(10), reader.parted(10)) == ([mismatch], [pair])
    ledger.close()


def test_texts_go_when_a_policy_comes_to_forbid_them(engine: Engine) -> None:
    """What was recorded before a tenant's policy, or the default, forbade texts loses them; tenants whose own policy
    allows texts keep theirs."""
    book = PolicyBook(RevisionRows(engine), Policy(), defaults={"open": Policy()})
    ledger = Ledger(engine, interval=0.02)
    for number, tenant in enumerate(("open", "shy", "plain")):
        ledger.record_decision(
            decision(number, tenant=tenant, time=time.time(), question_text="how much"), keep_text=True
        )
    retention = Retention(ledger, book, Scrubber(engine, ledger))

    assert ledger.flush(20)
    assert texts(engine) == {"open", "shy", "plain"}
    book.update("shy", Policy(keep_question_text=False), ["keep_question_text"])
    retention.turn()
    assert texts(engine) == {"open", "plain"}
    book.default = Policy(keep_question_text=False)
    retention.turn()
    assert texts(engine) == {"open"}
    ledger.close()


def texts(engine: Engine) -> set[str]:
    """Tenants with a readable question."""
    return {found.tenant for found in Reader(engine).decisions(Span()) if found.question_text is not None}


def test_it_runs_by_itself_and_stops(engine: Engine) -> None:
    """The thread deletes what is due without being asked, and ends when it is told to."""
    ledger = Ledger(engine, interval=0.02)
    ledger.record_decision(decision(1, time=5.0), keep_text=True)
    assert ledger.flush(20)
    retention = Retention(ledger, PolicyBook(RevisionRows(engine)), Scrubber(engine, ledger), interval=0.02)
    retention.start()
    end = time.monotonic() + 10
    while Reader(engine).count(Span()) and time.monotonic() < end:
        time.sleep(0.02)
    retention.stop()
    assert Reader(engine).count(Span()) == 0
    assert not retention.thread.is_alive()
    ledger.close()
